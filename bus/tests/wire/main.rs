//! The wire format: every record reads back, bytes of released versions stay readable, and noise is an error with a reason.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod evolution;
mod golden;
mod noise;
mod samples;
mod trust;

use bulkhead_bus::signature::{Signer, Verifier};
use bulkhead_bus::typed::{self, Unreadable};
use bulkhead_bus::{Outgoing, Position, Record, Topic};

fn signer() -> Signer {
    Signer::from_entropy([1; 32])
}

fn verifier() -> Verifier {
    signer().verifier()
}

/// The record as a reader gets it.
fn arrived(record: &Outgoing) -> Record {
    Record {
        position: Position { topic: record.topic, partition: 0, offset: 9 },
        key: record.key.clone(),
        headers: record.headers.clone(),
        value: record.value.clone(),
    }
}

/// Reads a record as its topic's reader does; what was read, in words.
fn read(record: &Record) -> Result<String, Unreadable> {
    Ok(match record.position.topic {
        Topic::Observations => format!("{:?}", typed::read_observation(record, &verifier())?),
        Topic::Alerts => format!("{:?}", typed::read_alert(record)?),
        Topic::Measures => format!("{:?}", typed::read_measure(record, &verifier(), "local")?),
        Topic::Baselines => format!("{:?}", typed::read_baseline(record)?),
        Topic::Inventory => format!("{:?}", typed::read_inventory(record)?),
        Topic::Audit => format!("{:?}", typed::read_audit(record)?),
        Topic::Deadletter => format!("{:?}", typed::read_dead_letter(record)?),
    })
}
