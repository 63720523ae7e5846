//! Feeds the ledger from the topics `alerts`, `inventory` and `measures`, from their beginning.

use std::sync::Arc;

use bulkhead_bus::typed::Unreadable;
use bulkhead_bus::{Bus, BusError, Record, Tail, Topic, Verifier, typed};

use crate::service::Shared;

/// What a follower needs to trust what it reads.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The controllers' public key.
    pub verifier: Verifier,
    /// This cluster.
    pub cluster: String,
}

/// Follows one partition until the bus is closed.
///
/// A record that cannot be read is skipped here and logged: its own reader (detector, planner or agent) is who files it
/// as a dead letter.
pub async fn partition<B: Bus>(
    bus: B,
    topic: Topic,
    partition: u32,
    trust: Trust,
    shared: Arc<Shared>,
) -> Result<(), BusError> {
    let mut tail = Tail::new(bus, topic, partition, 0);
    loop {
        let batch = tail.next().await?;
        for record in batch.records {
            if let Err(error) = absorb(&record, &trust, &shared) {
                tracing::warn!(%topic, partition, offset = record.position.offset, %error, "skipped a record");
            }
        }
    }
}

fn absorb(record: &Record, trust: &Trust, shared: &Shared) -> Result<(), Unreadable> {
    match record.position.topic {
        Topic::Alerts => {
            let alert = typed::read_alert(record)?;
            shared.update(|ledger| ledger.alert(alert));
        }
        Topic::Inventory => {
            let word = typed::read_inventory(record)?;
            shared.update(|ledger| ledger.inventory(word));
        }
        Topic::Measures => {
            let measure = typed::read_measure(record, &trust.verifier, &trust.cluster)?;
            shared.update(|ledger| ledger.measure(measure));
        }
        Topic::Observations | Topic::Baselines | Topic::Audit | Topic::Deadletter => {}
    }
    Ok(())
}

/// The topics that make the ledger.
pub const FOLLOWED: [Topic; 3] = [Topic::Alerts, Topic::Inventory, Topic::Measures];
