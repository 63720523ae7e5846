//! The learner and scorer: a sans-I/O engine and the loop that drives it.
#![forbid(unsafe_code)]

pub mod config;
pub mod engine;
pub mod output;

pub use config::Config;
pub use engine::{Engine, RestoreError};
pub use output::Output;
