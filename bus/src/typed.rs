//! Between the domain's records and the bus's bytes: rooms publish and read through these, and never touch either.
//!
//! A function named after a record makes what is published; one that begins with `read_` takes it in, and names the
//! reason when it cannot: [`dead_letter`] makes of that what an operator looks at.

use bulkhead_domain::alert::Alert;
use bulkhead_domain::audit::AuditEntry;
use bulkhead_domain::container::ContainerKey;
use bulkhead_domain::inventory::{InventoryRecord, LifeState};
use bulkhead_domain::measure::{Measure, MeasureRecord};
use bulkhead_domain::observation::{Body, Observation};
use bulkhead_domain::workload::hash64;
use bulkhead_domain::{MeasureId, Timestamp, WorkloadId, WorkloadName};
use prost::Message as _;

use crate::contract::{Outgoing, Record, Topic};
use crate::signature::{SignatureError, Signer, Verifier};
use crate::wire::header::{self, headers};
use crate::wire::{
    self, alert as alert_wire, audit as audit_wire, baseline as baseline_wire,
    deadletter as deadletter_wire, inventory as inventory_wire, measure as measure_wire,
    observation as observation_wire,
};

pub use crate::wire::baseline::{Absorbed, BaselineSnapshot};
pub use crate::wire::deadletter::DeadLetter;
pub use crate::wire::error::Unreadable;

/// The route of what belongs to a node.
pub fn node_route(node: &str) -> WorkloadId {
    WorkloadId(hash64(node.as_bytes()))
}

/// An observation of an agent. An intent needs a signature: see [`intent`].
pub fn observation(observation: &Observation) -> Outgoing {
    let id = observation.id;
    Outgoing {
        topic: Topic::Observations,
        key: observation.workload.to_string().into_bytes(),
        route: observation.workload.id(),
        headers: headers(
            &id.to_string(),
            observation_wire::type_of(&observation.body),
            &header::producer(id),
            observation.at,
        ),
        value: Some(observation_wire::ObservationWire::from(observation).encode_to_vec()),
    }
}

/// An operator's intent, signed.
pub fn intent(intent: &Observation, signer: &Signer) -> Outgoing {
    let mut record = observation(intent);
    signer.sign(&mut record);
    record
}

/// Reads an observation; an intent without the cluster's signature is refused.
pub fn read_observation(record: &Record, verifier: &Verifier) -> Result<Observation, Unreadable> {
    header::check(&record.headers, observation_wire::TYPE)?;
    let wire: observation_wire::ObservationWire = wire::decode(value(record)?)?;
    let observation = Observation::try_from(wire)?;
    if matches!(observation.body, Body::Intent(_)) {
        verifier.verify(record)?;
    }
    Ok(observation)
}

/// Who published a record, as its header tells: `urn:bulkhead:` and the source.
pub fn source(record: &Record) -> Option<&str> {
    record.headers.text(header::SOURCE)?.strip_prefix("urn:bulkhead:")
}

/// A revision of an alert. The source is the room that publishes it.
pub fn alert(alert: &Alert, source: &str) -> Outgoing {
    Outgoing {
        topic: Topic::Alerts,
        key: alert.id.to_string().into_bytes(),
        route: alert.workload.id(),
        headers: headers(
            &format!("{}-{}", alert.id, alert.revision),
            alert_wire::TYPE,
            &format!("urn:bulkhead:{source}"),
            alert.last,
        ),
        value: Some(alert_wire::AlertWire::from(alert).encode_to_vec()),
    }
}

/// Reads a revision of an alert.
pub fn read_alert(record: &Record) -> Result<Alert, Unreadable> {
    header::check(&record.headers, alert_wire::TYPE)?;
    wire::decode::<alert_wire::AlertWire>(value(record)?)?.try_into()
}

/// A measure or its end, signed. The workload is the target's own, and decides on the partition.
pub fn measure(record: &MeasureRecord, workload: &WorkloadName, signer: &Signer) -> Outgoing {
    let (id, at) = match record {
        MeasureRecord::Set(measure) => (measure.id, measure.created),
        MeasureRecord::Released { id, at, .. } => (*id, *at),
    };
    let mut headers = headers(&id.to_string(), measure_wire::TYPE, "urn:bulkhead:controller", at);
    let value = match record {
        MeasureRecord::Set(measure) => {
            Some(measure_wire::MeasureWire::from(measure).encode_to_vec())
        }
        MeasureRecord::Released { id, workload, cluster, who, why, at } => {
            let wire = measure_wire::ReleasedWire {
                id: id.0,
                workload: workload.to_string(),
                cluster: cluster.clone(),
                who: who.clone(),
                why: why.clone(),
                at_ns: at.0,
            };
            headers.set(header::TOMBSTONE, wire.encode_to_vec());
            None
        }
    };
    let mut record = Outgoing {
        topic: Topic::Measures,
        key: id.to_string().into_bytes(),
        route: workload.id(),
        headers,
        value,
    };
    signer.sign(&mut record);
    record
}

/// Reads a measure or its end; refuses what the cluster's controllers have not signed, and another cluster's. Whether a
/// measure has ended by now is for the reader to judge.
pub fn read_measure(
    record: &Record,
    verifier: &Verifier,
    cluster: &str,
) -> Result<MeasureRecord, Unreadable> {
    header::check(&record.headers, measure_wire::TYPE)?;
    verifier.verify(record)?;
    let (read, id, named) = if let Some(value) = &record.value {
        let measure = Measure::try_from(wire::decode::<measure_wire::MeasureWire>(value)?)?;
        let (id, named) = (measure.id, measure.cluster.clone());
        (MeasureRecord::Set(measure), id, named)
    } else {
        let wire: measure_wire::ReleasedWire = wire::decode(tombstone(record)?)?;
        let (id, named) = (MeasureId(wire.id), wire.cluster.clone());
        (wire.try_into()?, id, named)
    };
    wire::known("id", id, (record.key == id.to_string().as_bytes()).then_some(()))?;
    if named != cluster {
        return Err(SignatureError::Cluster.into());
    }
    Ok(read)
}

/// The latest word about a container; that it stopped is a tombstone.
pub fn inventory(record: &InventoryRecord) -> Outgoing {
    let key = container_key(&record.container.key);
    let mut headers = headers(
        &format!("{key}@{}", record.at.0),
        inventory_wire::TYPE,
        &format!("urn:bulkhead:node:{}", record.container.key.node),
        record.at,
    );
    let bytes = inventory_wire::InventoryWire::from(record).encode_to_vec();
    let value = match record.state {
        LifeState::Running => Some(bytes),
        LifeState::Stopped => {
            headers.set(header::TOMBSTONE, bytes);
            None
        }
    };
    Outgoing {
        topic: Topic::Inventory,
        key: key.into_bytes(),
        route: record.container.workload.id(),
        headers,
        value,
    }
}

/// Reads the latest word about a container.
pub fn read_inventory(record: &Record) -> Result<InventoryRecord, Unreadable> {
    header::check(&record.headers, inventory_wire::TYPE)?;
    let bytes = match &record.value {
        Some(value) => value,
        None => tombstone(record)?,
    };
    wire::decode::<inventory_wire::InventoryWire>(bytes)?.try_into()
}

/// An entry of the audit log. The number tells two entries of one instant apart.
pub fn audit(entry: &AuditEntry, number: u64) -> Outgoing {
    Outgoing {
        topic: Topic::Audit,
        key: entry.node.clone().into_bytes(),
        route: node_route(&entry.node),
        headers: headers(
            &format!("{}@{}-{number}", entry.node, entry.at.0),
            audit_wire::TYPE,
            &format!("urn:bulkhead:node:{}", entry.node),
            entry.at,
        ),
        value: Some(audit_wire::AuditWire::from(entry).encode_to_vec()),
    }
}

/// Reads an entry of the audit log.
pub fn read_audit(record: &Record) -> Result<AuditEntry, Unreadable> {
    header::check(&record.headers, audit_wire::TYPE)?;
    Ok(wire::decode::<audit_wire::AuditWire>(value(record)?)?.into())
}

/// A workload's snapshot.
pub fn baseline(snapshot: &BaselineSnapshot) -> Outgoing {
    Outgoing {
        topic: Topic::Baselines,
        key: snapshot.workload.to_string().into_bytes(),
        route: snapshot.workload.id(),
        headers: headers(
            &format!("{}@{}", snapshot.workload, snapshot.absorbed.next),
            baseline_wire::TYPE,
            "urn:bulkhead:detector",
            snapshot.at,
        ),
        value: Some(baseline_wire::BaselineWire::from(snapshot).encode_to_vec()),
    }
}

/// Reads a workload's snapshot.
pub fn read_baseline(record: &Record) -> Result<BaselineSnapshot, Unreadable> {
    header::check(&record.headers, baseline_wire::TYPE)?;
    wire::decode::<baseline_wire::BaselineWire>(value(record)?)?.try_into()
}

/// What becomes of a record that was refused: who refused it, on which node, why and when.
pub fn dead_letter(record: &Record, by: &str, node: &str, reason: &str, at: Timestamp) -> Outgoing {
    let position = record.position;
    let letter = DeadLetter {
        topic: position.topic.name().to_owned(),
        partition: position.partition,
        offset: position.offset,
        reason: reason.to_owned(),
        by: by.to_owned(),
        at,
        key: record.key.clone(),
        value: record.value.clone().unwrap_or_default(),
    };
    Outgoing {
        topic: Topic::Deadletter,
        key: node.as_bytes().to_vec(),
        route: node_route(node),
        headers: headers(
            &format!("{}-{}-{}", position.topic, position.partition, position.offset),
            deadletter_wire::TYPE,
            &format!("urn:bulkhead:{by}"),
            at,
        ),
        value: Some(deadletter_wire::DeadLetterWire::from(&letter).encode_to_vec()),
    }
}

/// Reads a dead letter.
pub fn read_dead_letter(record: &Record) -> Result<DeadLetter, Unreadable> {
    header::check(&record.headers, deadletter_wire::TYPE)?;
    Ok(wire::decode::<deadletter_wire::DeadLetterWire>(value(record)?)?.into())
}

fn container_key(key: &ContainerKey) -> String {
    format!("{}/{}/{}/{}", key.node, key.boot, key.engine_id, key.cgroup)
}

fn value(record: &Record) -> Result<&[u8], Unreadable> {
    wire::need("value", record.value.as_deref())
}

fn tombstone(record: &Record) -> Result<&[u8], Unreadable> {
    wire::need(header::TOMBSTONE, record.headers.find(header::TOMBSTONE))
}
