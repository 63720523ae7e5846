//! What the loop needs of the kernel: slots, counters, sequences and a ring of reports.
//!
//! The loader's observer is one; a test may bring another.

use std::collections::HashMap;
use std::os::fd::AsRawFd;

use thiserror::Error;

use bulkhead_loader::observe::network::Flow;

use crate::seen::Seen;
use crate::windows::{Counters, FlowId, Sequences};

/// Why the kernel did not do it.
#[derive(Debug, Error)]
#[error("{doing}")]
pub struct KernelError {
    /// What was tried.
    pub doing: String,
    /// The cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The flows of all containers, by slot index.
pub type Flows = HashMap<u32, HashMap<FlowId, Flow>>;

/// The kernel's side of the collector. Its file descriptor is readable while reports wait.
pub trait Kernel: AsRawFd {
    /// The next report that waits; `None` when none does.
    fn next(&mut self) -> Option<Seen>;

    /// The index that a cgroup's slot has already, from an earlier run; 0 and none are none.
    fn kept(&self, cgroup: u64) -> Option<u32>;

    /// Writes index and ids of a cgroup's slot; what guards keep in it stays.
    fn claim(
        &mut self,
        cgroup: u64,
        index: u32,
        container: u64,
        workload: u64,
    ) -> Result<(), KernelError>;

    /// Takes a slot back.
    fn release(&mut self, cgroup: u64) -> Result<(), KernelError>;

    /// The container runs already: whoever enters it from now on comes from outside.
    fn mark_started(&mut self, cgroup: u64) -> Result<(), KernelError>;

    /// The flows of all containers: one look for all windows that close together.
    fn flows(&mut self) -> Result<Flows, KernelError>;

    /// The counters of one container, with its share of `flows`.
    fn counters(&mut self, index: u32, flows: &mut Flows) -> Result<Counters, KernelError>;

    /// Begins new sequences for all containers; [`Kernel::sequences`] then gives those before it.
    fn turn_sequences(&mut self) -> Result<(), KernelError>;

    /// The sequences of one container before the last turn.
    fn sequences(&mut self, index: u32) -> Result<Sequences, KernelError>;
}
