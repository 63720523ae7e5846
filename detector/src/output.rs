//! What the engine answers: decisions as data, for the loop to publish.

use bulkhead_domain::{Alert, Mode, Timestamp, WorkloadName};

/// One answer to one observation.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// An alert began, grew, was reviewed or closed: the latest revision replaces the others.
    Alert(Box<Alert>),
    /// A workload's mode changed.
    ModeChanged {
        /// Workload.
        workload: WorkloadName,
        /// From.
        from: Mode,
        /// To.
        to: Mode,
        /// Why, for a person.
        why: String,
        /// Event time.
        at: Timestamp,
    },
    /// The workload's state changed enough to be written down: take [`crate::Engine::snapshot`].
    SnapshotDue(WorkloadName),
}
