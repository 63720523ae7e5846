//! Numeric features of one container over a fixed step, with what the kernel counted of its calls and peers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::feature::{FeatureId, FeatureSetId};
use crate::net::Peer;

/// How many peers a window names before the rest are summed.
pub const TOP_PEERS: usize = 16;

/// Buckets of the n-gram bitmap: hashed 6-grams of calls land in one of these.
pub const NGRAM_BUCKETS: u32 = 1 << 15;

/// Length of the n-grams that the kernel hashes.
pub const NGRAM_LENGTH: usize = 6;

/// Longest sampled run of calls.
pub const RUN_LENGTH_MAX: usize = 256;

/// The instruction set whose call numbers a window's sequences use: hashed n-grams do not travel between them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit x86.
    #[default]
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// Who opened a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The container did.
    Outbound,
    /// The peer did.
    Inbound,
}

/// Traffic with one peer within one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerTraffic {
    /// The peer; for inbound flows its port is 0 and `local_port` names the service.
    pub peer: Peer,
    /// Who opened it.
    pub direction: Direction,
    /// Local port of an inbound flow; 0 otherwise.
    pub local_port: u16,
    /// Bytes to the peer.
    pub bytes_out: u64,
    /// Bytes from the peer.
    pub bytes_in: u64,
    /// Packets to the peer.
    pub packets_out: u64,
    /// Packets from the peer.
    pub packets_in: u64,
    /// Connections opened.
    pub connections: u64,
}

/// What of a window was lost, by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Lost events by cause, in the loader's words (`quota`, `ring_full`, `recursion`, …).
    pub by_cause: BTreeMap<String, u64>,
    /// Events that arrived or were counted in full.
    pub kept: u64,
}

impl Loss {
    /// Lost events of all causes.
    pub fn lost(&self) -> u64 {
        self.by_cause.values().sum()
    }

    /// Share of events lost, 0..1; zero when nothing happened.
    pub fn ratio(&self) -> f64 {
        let lost = self.lost();
        if lost == 0 { 0.0 } else { lost as f64 / (lost + self.kept) as f64 }
    }
}

/// What the kernel counted of one container during one step. Sparse: an absent feature is zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Start of the step.
    pub start: Timestamp,
    /// Length of the step, ms; less than the set's step in a container's first and last window.
    pub step_ms: u64,
    /// The set that `features` belongs to.
    pub feature_set: FeatureSetId,
    /// Values by feature, in the feature's unit.
    pub features: BTreeMap<FeatureId, f64>,
    /// Instruction set of the sequences below.
    pub arch: Arch,
    /// Calls by name.
    pub syscalls: BTreeMap<String, u64>,
    /// Pairs of consecutive calls of one task, by native numbers, most frequent first, bounded.
    pub bigrams: Vec<((u16, u16), u64)>,
    /// Buckets of hashed 6-grams seen, ascending.
    pub ngrams: Vec<u16>,
    /// Sampled ordered runs of native call numbers, bounded.
    pub runs: Vec<Vec<u16>>,
    /// The busiest peers, at most [`TOP_PEERS`].
    pub peers: Vec<PeerTraffic>,
    /// The sum of what the other peers did: bytes out, bytes in, packets out, packets in, connections.
    pub rest: [u64; 5],
    /// What was lost.
    pub loss: Loss,
}

impl Window {
    /// The value of a feature; absent is zero.
    pub fn feature(&self, id: FeatureId) -> f64 {
        self.features.get(&id).copied().unwrap_or(0.0)
    }
}
