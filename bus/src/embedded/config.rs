//! Where the log lies, how many partitions it has, and for how long it keeps what.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_domain::Timestamp;

use crate::contract::Topic;

/// How long and how much of a topic is kept; what comes first bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Oldest record.
    pub age: Duration,
    /// Bytes of a partition.
    pub bytes_max: u64,
}

/// Retention by topic. Compacted topics keep the latest record of each key without end, and a tombstone for its `age`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `observations`: what a takeover and a replay read.
    pub observations: Keep,
    /// `alerts`.
    pub alerts: Keep,
    /// `audit`.
    pub audit: Keep,
    /// `deadletter`.
    pub deadletter: Keep,
    /// Tombstones of the compacted topics: long enough for any reader that is away to see them.
    pub tombstones: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);
const MIB: u64 = 1 << 20;

impl Default for Retention {
    /// A day of evidence within 1 GiB, a quarter of alerts, a year of audit, a week of dead letters.
    fn default() -> Self {
        Self {
            observations: Keep { age: DAY, bytes_max: 1024 * MIB },
            alerts: Keep { age: 90 * DAY, bytes_max: 128 * MIB },
            audit: Keep { age: 365 * DAY, bytes_max: 128 * MIB },
            deadletter: Keep { age: 7 * DAY, bytes_max: 32 * MIB },
            tombstones: DAY,
        }
    }
}

impl Retention {
    /// What bounds a topic; `None` for a compacted one.
    pub(super) fn of(&self, topic: Topic) -> Option<Keep> {
        match topic {
            Topic::Observations => Some(self.observations),
            Topic::Alerts => Some(self.alerts),
            Topic::Audit => Some(self.audit),
            Topic::Deadletter => Some(self.deadletter),
            Topic::Measures | Topic::Baselines | Topic::Inventory => None,
        }
    }
}

/// Settings of the embedded log.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory that holds the file `bus.redb` and the lock.
    pub dir: PathBuf,
    /// Partitions of every topic; fixed when the log is made.
    pub partitions: u32,
    /// What is kept.
    pub retention: Retention,
    /// Memory for cached pages.
    pub cache_bytes: usize,
    /// The wall clock, for retention.
    pub clock: fn() -> Timestamp,
}

impl Config {
    /// One partition, default retention and 8 MiB of cache.
    pub fn new(dir: impl Into<PathBuf>, clock: fn() -> Timestamp) -> Self {
        Self {
            dir: dir.into(),
            partitions: 1,
            retention: Retention::default(),
            cache_bytes: 8 << 20,
            clock,
        }
    }
}
