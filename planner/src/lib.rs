//! Pure: alerts, inventory and measures in force become a plan within its guardrails.
//!
//! - [`state`]: the fold of the topics that a plan depends on.
//! - [`plan`]: what is done about one alert, and what holds it back.
//! - [`ladder`]: how long a measure lasts, by how often it came before.
//!
//! Nothing here reads a clock or writes anything: the same state, alert and instant give the same plan.
#![forbid(unsafe_code)]

pub mod ladder;
pub mod plan;
pub mod state;

pub use plan::{Settings, plan};
pub use state::State;

#[cfg(test)]
mod fixture;
