//! From the snapshots in the log to an engine that goes on where another one stopped.

use std::collections::BTreeMap;

use bulkhead_bus::{Bus, BusError, Tail, Topic, typed};
use bulkhead_domain::WorkloadName;

use crate::engine::Engine;

/// What the snapshots of a partition tell.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// By workload, the next offset that it has not absorbed.
    pub(super) absorbed: BTreeMap<WorkloadName, u64>,
    /// Where to begin to read.
    pub(super) floor: u64,
}

/// Restores every workload of a partition from its latest snapshot.
///
/// One that does not read (another feature set, a newer layout, damage) is named in the log and its workload is learned
/// anew, from what the log still holds above the floor.
pub(super) async fn restore<B: Bus>(
    bus: &B,
    partition: u32,
    engine: &mut Engine,
) -> Result<Restored, BusError> {
    let mut latest = BTreeMap::new();
    let mut restored = Restored::default();
    let mut tail = Tail::new(bus.clone(), Topic::Baselines, partition, 0);
    loop {
        let batch = tail.poll().await?;
        if batch.records.is_empty() {
            break;
        }
        for record in batch.records {
            if record.value.is_none() {
                latest.remove(&record.key);
                continue;
            }
            match typed::read_baseline(&record) {
                Ok(snapshot) if snapshot.absorbed.partition == partition => {
                    restored.floor = restored.floor.max(snapshot.absorbed.floor);
                    latest.insert(record.key, snapshot);
                }
                Ok(_) => tracing::warn!(partition, "a snapshot belongs to another partition"),
                Err(error) => tracing::error!(partition, error = %error, "cannot read a snapshot"),
            }
        }
    }
    for snapshot in latest.into_values() {
        match engine.restore(&snapshot.artifact) {
            Ok(workload) => {
                restored.absorbed.insert(workload, snapshot.absorbed.next);
            }
            Err(error) => {
                tracing::error!(workload = %snapshot.workload, error = %error, "its baseline is learned anew");
            }
        }
    }
    Ok(restored)
}
