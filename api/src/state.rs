//! What the API asks of the detector, whose state it never keeps.

use std::future::Future;

use bulkhead_domain::WorkloadName;
use bulkhead_domain::view::{BaselineView, EngineView};

/// The detector's state, as the wiring of the controller hands it to the API. `None` means that it is not there (its role
/// is not played by this process, or it is stopping).
pub trait State: Send + Sync + 'static {
    /// Workloads as they stand.
    fn engine(&self) -> impl Future<Output = Option<EngineView>> + Send;

    /// One workload's baseline in full; the inner `None` is a workload that it does not know.
    fn baseline(
        &self,
        workload: WorkloadName,
    ) -> impl Future<Output = Option<Option<BaselineView>>> + Send;
}
