//! The pure vocabulary of the loop: workloads, behaviours, windows, scores, alerts, measures.
#![forbid(unsafe_code)]
