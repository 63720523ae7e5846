//! What every bus promises, the embedded log as well as a broker: topics, records, offsets, transactions.
//!
//! Rooms code against this contract and the helpers of [`crate::typed`]; [`crate::suite`] holds an implementation to it.
//! Left out on purpose: consumer groups that share partitions out, which only a fleet needs and a broker brings along.

use std::fmt;
use std::future::Future;

use bulkhead_domain::WorkloadId;
use thiserror::Error;

/// Largest record, key, headers and value together: a snapshot of a baseline (1 MiB) and room around it.
pub const RECORD_BYTES_MAX: usize = 1_200_000;

/// Most records in one answer to a fetch.
pub const FETCH_RECORDS_MAX: usize = 512;

/// Bytes after which an answer to a fetch ends; the record that goes over it is still part of the answer.
pub const FETCH_BYTES_MAX: usize = 1 << 20;

/// What a record is about, and who may rely on which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Behaviours, windows, starts, stops, intents and health: the one ordered input of the detector per workload.
    Observations = 1,
    /// Alerts and what became of them, by workload.
    Alerts = 2,
    /// Signed measures by id, in the workload's partition; compacted.
    Measures = 3,
    /// Snapshots of baselines by workload; compacted.
    Baselines = 4,
    /// Which node runs what, by container; compacted.
    Inventory = 5,
    /// Who did what, by node.
    Audit = 6,
    /// What was refused or did not parse, and why, by node.
    Deadletter = 7,
}

impl Topic {
    /// Every topic, in the order of its number on the wire.
    pub const ALL: [Self; 7] = [
        Self::Observations,
        Self::Alerts,
        Self::Measures,
        Self::Baselines,
        Self::Inventory,
        Self::Audit,
        Self::Deadletter,
    ];

    /// Full name, with the version of the topic's layout.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observations => "bulkhead.observations.v1",
            Self::Alerts => "bulkhead.alerts.v1",
            Self::Measures => "bulkhead.measures.v1",
            Self::Baselines => "bulkhead.baselines.v1",
            Self::Inventory => "bulkhead.inventory.v1",
            Self::Audit => "bulkhead.audit.v1",
            Self::Deadletter => "bulkhead.deadletter.v1",
        }
    }

    /// Whether only the latest record of each key is sure to stay.
    pub const fn is_compacted(self) -> bool {
        matches!(self, Self::Measures | Self::Baselines | Self::Inventory)
    }

    /// The topic of that number on the wire.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| *t as u32 == number)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The one partitioner of all topics.
pub fn partition_of(route: WorkloadId, partitions: u32) -> u32 {
    (route.0 % u64::from(partitions.max(1))) as u32
}

/// Named bytes beside a value: `CloudEvents` attributes, the schema's version, a signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// No header.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header, in the place of one of the same name.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        let value = value.into();
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// The same, for building in one expression.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.set(name, value);
        self
    }

    /// A header's bytes.
    pub fn find(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_slice())
    }

    /// A header's text, when it is one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.find(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_slice()))
    }
}

impl FromIterator<(String, Vec<u8>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, Vec<u8>)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.set(&name, value);
        }
        headers
    }
}

/// A record on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Topic.
    pub topic: Topic,
    /// What compaction goes by.
    pub key: Vec<u8>,
    /// What the partition follows from: a workload's id, or a hash of the node's name.
    pub route: WorkloadId,
    /// Headers.
    pub headers: Headers,
    /// Content; `None` is a tombstone: the key's end.
    pub value: Option<Vec<u8>>,
}

impl Outgoing {
    /// Key, headers and value together.
    pub fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
        self.key.len() + headers + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Topic.
    pub topic: Topic,
    /// Partition.
    pub partition: u32,
    /// Offset: grows with each record of the partition, and is never given twice.
    pub offset: u64,
}

/// A record read from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub position: Position,
    /// Key.
    pub key: Vec<u8>,
    /// Headers.
    pub headers: Headers,
    /// Content; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// What a fetch found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Records in order of offset. Offsets may have gaps: compaction, transactions of a broker.
    pub records: Vec<Record>,
    /// Where to go on.
    pub next: u64,
    /// The offset that the next record of this partition gets.
    pub high_watermark: u64,
    /// First offset that is sure to be there. A reader that asked for an earlier one has missed what lay between.
    pub log_start: u64,
}

/// An input offset that a consumer has done with: the next one it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Topic read.
    pub topic: Topic,
    /// Partition read.
    pub partition: u32,
    /// The next offset it wants.
    pub next: u64,
}

/// Why the bus did not do it. Nothing was written, unless it is [`BusError::Away`]: then it may have been.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BusError {
    /// The disk is full.
    #[error(
        "no room left on the disk of {path}: free some; nothing that was acknowledged is lost, and writing goes on by itself"
    )]
    Full {
        /// File.
        path: String,
    },
    /// The file is not what was written.
    #[error(
        "{path} is damaged ({cause}): move it away and start again; what was learned in it is learned anew, measures in force stay in the kernel"
    )]
    Corrupt {
        /// File.
        path: String,
        /// What was found.
        cause: String,
    },
    /// The store failed otherwise.
    #[error("cannot use the log {path}: {cause}")]
    Storage {
        /// File.
        path: String,
        /// What failed.
        cause: String,
    },
    /// The owner of the log does not answer.
    #[error("the bus at {path} does not answer: is the controller running?")]
    Away {
        /// Socket.
        path: String,
    },
    /// This role may not do that.
    #[error("role {role} may not {operation} {topic}")]
    Refused {
        /// Role of the caller.
        role: String,
        /// `read`, `write` or `commit`.
        operation: String,
        /// Topic.
        topic: String,
    },
    /// A record that is too large.
    #[error("a record of {bytes} bytes is over the bound of {RECORD_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No such partition.
    #[error("{topic} has no partition {partition}")]
    Partition {
        /// Topic.
        topic: String,
        /// Asked for.
        partition: u32,
    },
    /// A commit beyond what was ever written.
    #[error("cannot commit offset {next} of {topic}: its end is {high_watermark}")]
    Beyond {
        /// Topic.
        topic: String,
        /// Asked for.
        next: u64,
        /// The end.
        high_watermark: u64,
    },
    /// The other side said something that is not the protocol.
    #[error("the bus answered in words not understood: {0}")]
    Protocol(String),
    /// The bus was shut down.
    #[error("the bus is closed")]
    Closed,
}

impl BusError {
    /// Whether the same may work later without anybody changing the request.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Storage { .. } | Self::Away { .. })
    }
}

/// Topics with one order per partition, durable writes, and atomic steps from input to output.
///
/// Handles are cheap to clone. Futures may be dropped at any time: a write whose future was dropped may still happen.
pub trait Bus: Clone + Send + Sync + 'static {
    /// How many partitions a topic has; fixed when the bus was made.
    fn partitions(&self, topic: Topic) -> impl Future<Output = Result<u32, BusError>> + Send;

    /// Appends records, all or none, in this order; they are durable when it returns.
    fn publish(
        &self,
        records: Vec<Outgoing>,
    ) -> impl Future<Output = Result<Vec<Position>, BusError>> + Send;

    /// Reads committed records from an offset on, at most [`FETCH_RECORDS_MAX`] and about [`FETCH_BYTES_MAX`]. Does not
    /// wait. An offset that is gone reads from the first that is there, and so does one beyond the high watermark: the log
    /// is then not the one that the reader knew.
    fn fetch(
        &self,
        topic: Topic,
        partition: u32,
        from: u64,
    ) -> impl Future<Output = Result<Batch, BusError>> + Send;

    /// Returns once a fetch from this offset would find something, and says where the high watermark is: by notification,
    /// without polling. It may return early.
    fn wait_beyond(
        &self,
        topic: Topic,
        partition: u32,
        offset: u64,
    ) -> impl Future<Output = Result<u64, BusError>> + Send;

    /// What a group has committed: the next offset it wants; `None` before its first commit.
    fn committed(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
    ) -> impl Future<Output = Result<Option<u64>, BusError>> + Send;

    /// Appends outputs and commits the input offsets they follow from, all or none; durable when it returns.
    fn transact(
        &self,
        group: &str,
        outputs: Vec<Outgoing>,
        commits: Vec<Commit>,
    ) -> impl Future<Output = Result<Vec<Position>, BusError>> + Send;
}
