//! Pure: alerts, inventory and measures in force become a plan within its guardrails.
#![forbid(unsafe_code)]
