//! The sans-I/O core of learner and scorer: one ordered log in, decisions out.
//!
//! It reads no clock and draws no randomness: event time is in the observations, the seed in the configuration. The same
//! log gives the same outputs, byte for byte. State is kept per workload and written down per workload, so that a
//! partition can move to another detector.

use bulkhead_domain::view::{BaselineView, EngineView};
use bulkhead_domain::{Observation, WorkloadName};

use crate::config::Config;
use crate::output::Output;

/// Why a snapshot was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Placeholder until artifacts exist.
    #[error("corrupt snapshot: {0}")]
    Corrupt(String),
}

/// Learner and scorer of all workloads of the partitions it is fed.
#[derive(Debug)]
pub struct Engine {
    config: Config,
}

impl Engine {
    /// An engine that knows no workload yet.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// The settings it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Absorbs one record. A record that its producer published before (by high-water mark) changes nothing.
    pub fn handle(&mut self, _observation: &Observation) -> Vec<Output> {
        Vec::new()
    }

    /// One workload's whole state as a checksummed artifact; `None` when the workload is unknown.
    pub fn snapshot(&mut self, _workload: &WorkloadName) -> Option<Vec<u8>> {
        None
    }

    /// Takes up a workload from its artifact, replacing what is known of it; returns its name.
    pub fn restore(&mut self, artifact: &[u8]) -> Result<WorkloadName, RestoreError> {
        Err(RestoreError::Corrupt(format!("{} bytes", artifact.len())))
    }

    /// Every workload known, by name.
    pub fn workloads(&self) -> Vec<WorkloadName> {
        Vec::new()
    }

    /// Workloads and alerts, for a person.
    pub fn view(&self) -> EngineView {
        EngineView::default()
    }

    /// One workload's baseline, for a person.
    pub fn baseline(&self, _workload: &WorkloadName) -> Option<BaselineView> {
        None
    }
}
