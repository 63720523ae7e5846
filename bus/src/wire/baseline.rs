//! Snapshots of baselines: an artifact that only its maker reads, and the input that it has absorbed.

use bulkhead_domain::{Timestamp, WorkloadName};

use super::{Unreadable, narrow, workload};

/// The type of a snapshot.
pub(crate) const TYPE: &str = "bulkhead.baseline";

/// The input of one partition up to an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absorbed {
    /// Partition of `observations`.
    pub partition: u32,
    /// The next offset that the snapshot has not absorbed.
    pub next: u64,
    /// Every workload of the partition has absorbed what lies before this one: where a takeover begins to read.
    pub floor: u64,
}

/// One workload's state, and where its input goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaselineSnapshot {
    /// The workload.
    pub workload: WorkloadName,
    /// What it has absorbed.
    pub absorbed: Absorbed,
    /// When it was taken, in event time.
    pub at: Timestamp,
    /// The artifact: versioned and checksummed by its maker.
    pub artifact: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BaselineWire {
    #[prost(string, tag = "1")]
    pub(crate) workload: String,
    #[prost(uint64, tag = "2")]
    pub(crate) partition: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) next: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) floor: u64,
    #[prost(fixed64, tag = "5")]
    pub(crate) at_ns: u64,
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) artifact: Vec<u8>,
}

impl From<&BaselineSnapshot> for BaselineWire {
    fn from(snapshot: &BaselineSnapshot) -> Self {
        Self {
            workload: snapshot.workload.to_string(),
            partition: snapshot.absorbed.partition.into(),
            next: snapshot.absorbed.next,
            floor: snapshot.absorbed.floor,
            at_ns: snapshot.at.0,
            artifact: snapshot.artifact.clone(),
        }
    }
}

impl TryFrom<BaselineWire> for BaselineSnapshot {
    type Error = Unreadable;

    fn try_from(wire: BaselineWire) -> Result<Self, Unreadable> {
        Ok(Self {
            workload: workload(&wire.workload)?,
            absorbed: Absorbed {
                partition: narrow("partition", wire.partition)?,
                next: wire.next,
                floor: wire.floor,
            },
            at: Timestamp(wire.at_ns),
            artifact: wire.artifact,
        })
    }
}
