//! The learner and scorer: a sans-I/O engine and the loop that drives it.
#![forbid(unsafe_code)]

pub mod config;
pub mod engine;
mod fleet;
mod incident;
mod intents;
mod learner;
pub mod output;
mod proposal;
pub mod query;
pub mod run;
mod scorer;
mod view;
mod vouch;
mod workload;

pub use bulkhead_models::artifact::ArtifactError;
pub use config::Config;
pub use engine::Engine;
pub use output::Output;
