//! Windows: by far the most bytes of the log, so the long parts are packed.

use std::collections::BTreeMap;

use bulkhead_domain::feature::{FeatureId, FeatureSetId};
use bulkhead_domain::time::Timestamp;
use bulkhead_domain::window::{Arch, Direction, Loss, NGRAM_BUCKETS, PeerTraffic, Window};

use super::net::PeerWire;
use super::{Unreadable, finite, known, narrow, need};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WindowWire {
    #[prost(fixed64, tag = "1")]
    pub(crate) start_ns: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) step_ms: u64,
    #[prost(fixed64, tag = "3")]
    pub(crate) feature_set: u64,
    /// Ids, as many as values.
    #[prost(uint32, repeated, tag = "4")]
    pub(crate) feature_ids: Vec<u32>,
    #[prost(double, repeated, tag = "5")]
    pub(crate) feature_values: Vec<f64>,
    /// 1 `x86_64`, 2 `aarch64`.
    #[prost(uint32, tag = "6")]
    pub(crate) arch: u32,
    #[prost(btree_map = "string, uint64", tag = "7")]
    pub(crate) syscalls: BTreeMap<String, u64>,
    /// First call in the upper, second in the lower 16 bits; as many as counts.
    #[prost(uint32, repeated, tag = "8")]
    pub(crate) bigrams: Vec<u32>,
    #[prost(uint64, repeated, tag = "9")]
    pub(crate) bigram_counts: Vec<u64>,
    /// Differences of ascending buckets: most fit one byte.
    #[prost(uint32, repeated, tag = "10")]
    pub(crate) ngram_steps: Vec<u32>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) runs: Vec<RunWire>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) peers: Vec<PeerTrafficWire>,
    /// Bytes out, bytes in, packets out, packets in, connections.
    #[prost(uint64, repeated, tag = "13")]
    pub(crate) rest: Vec<u64>,
    #[prost(btree_map = "string, uint64", tag = "14")]
    pub(crate) lost: BTreeMap<String, u64>,
    #[prost(uint64, tag = "15")]
    pub(crate) kept: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RunWire {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) calls: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PeerTrafficWire {
    #[prost(message, optional, tag = "1")]
    pub(crate) peer: Option<PeerWire>,
    /// 1 outbound, 2 inbound.
    #[prost(uint32, tag = "2")]
    pub(crate) direction: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) local_port: u32,
    #[prost(uint64, tag = "4")]
    pub(crate) bytes_out: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) bytes_in: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) packets_out: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) packets_in: u64,
    #[prost(uint64, tag = "8")]
    pub(crate) connections: u64,
}

impl From<&PeerTraffic> for PeerTrafficWire {
    fn from(traffic: &PeerTraffic) -> Self {
        Self {
            peer: Some((&traffic.peer).into()),
            direction: match traffic.direction {
                Direction::Outbound => 1,
                Direction::Inbound => 2,
            },
            local_port: traffic.local_port.into(),
            bytes_out: traffic.bytes_out,
            bytes_in: traffic.bytes_in,
            packets_out: traffic.packets_out,
            packets_in: traffic.packets_in,
            connections: traffic.connections,
        }
    }
}

impl TryFrom<PeerTrafficWire> for PeerTraffic {
    type Error = Unreadable;

    fn try_from(wire: PeerTrafficWire) -> Result<Self, Unreadable> {
        let direction = match wire.direction {
            1 => Some(Direction::Outbound),
            2 => Some(Direction::Inbound),
            _ => None,
        };
        Ok(Self {
            peer: need("peer", wire.peer)?.try_into()?,
            direction: known("direction", wire.direction, direction)?,
            local_port: narrow("local_port", wire.local_port)?,
            bytes_out: wire.bytes_out,
            bytes_in: wire.bytes_in,
            packets_out: wire.packets_out,
            packets_in: wire.packets_in,
            connections: wire.connections,
        })
    }
}

impl From<&Window> for WindowWire {
    fn from(window: &Window) -> Self {
        let mut ngrams = window.ngrams.clone();
        ngrams.sort_unstable();
        ngrams.dedup();
        let mut last = 0;
        let ngram_steps = ngrams.iter().map(|bucket| {
            let step = u32::from(*bucket) - last;
            last = u32::from(*bucket);
            step
        });
        Self {
            start_ns: window.start.0,
            step_ms: window.step_ms,
            feature_set: window.feature_set.0,
            feature_ids: window.features.keys().map(|id| id.0.into()).collect(),
            feature_values: window.features.values().copied().collect(),
            arch: match window.arch {
                Arch::X86_64 => 1,
                Arch::Aarch64 => 2,
            },
            syscalls: window.syscalls.clone(),
            bigrams: window
                .bigrams
                .iter()
                .map(|((a, b), _)| u32::from(*a) << 16 | u32::from(*b))
                .collect(),
            bigram_counts: window.bigrams.iter().map(|(_, count)| *count).collect(),
            ngram_steps: ngram_steps.collect(),
            runs: window
                .runs
                .iter()
                .map(|run| RunWire { calls: run.iter().map(|c| (*c).into()).collect() })
                .collect(),
            peers: window.peers.iter().map(Into::into).collect(),
            rest: window.rest.to_vec(),
            lost: window.loss.by_cause.clone(),
            kept: window.loss.kept,
        }
    }
}

impl TryFrom<WindowWire> for Window {
    type Error = Unreadable;

    fn try_from(wire: WindowWire) -> Result<Self, Unreadable> {
        let features = pairs("feature_values", wire.feature_ids, wire.feature_values)?
            .map(|(id, value)| {
                Ok((FeatureId(narrow("feature_ids", id)?), finite("feature_values", value)?))
            })
            .collect::<Result<_, Unreadable>>()?;
        let arch = match wire.arch {
            1 => Some(Arch::X86_64),
            2 => Some(Arch::Aarch64),
            _ => None,
        };
        Ok(Self {
            start: Timestamp(wire.start_ns),
            step_ms: wire.step_ms,
            feature_set: FeatureSetId(wire.feature_set),
            features,
            arch: known("arch", wire.arch, arch)?,
            syscalls: wire.syscalls,
            bigrams: pairs("bigram_counts", wire.bigrams, wire.bigram_counts)?
                .map(|(pair, count)| (((pair >> 16) as u16, pair as u16), count))
                .collect(),
            ngrams: buckets(&wire.ngram_steps)?,
            runs: wire
                .runs
                .into_iter()
                .map(|run| run.calls.into_iter().map(|c| narrow("calls", c)).collect())
                .collect::<Result<_, _>>()?,
            peers: wire.peers.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            rest: known("rest", wire.rest.len(), wire.rest.try_into().ok())?,
            loss: Loss { by_cause: wire.lost, kept: wire.kept },
        })
    }
}

/// Two lists of one length, as pairs.
fn pairs<A, B>(
    field: &'static str,
    left: Vec<A>,
    right: Vec<B>,
) -> Result<impl Iterator<Item = (A, B)>, Unreadable> {
    known(field, right.len(), (left.len() == right.len()).then_some(()))?;
    Ok(left.into_iter().zip(right))
}

/// Ascending buckets from their differences.
fn buckets(steps: &[u32]) -> Result<Vec<u16>, Unreadable> {
    let mut last = 0_u32;
    let mut found = Vec::with_capacity(steps.len().min(NGRAM_BUCKETS as usize));
    for (index, step) in steps.iter().enumerate() {
        last = last.saturating_add(*step);
        let ascends = index == 0 || *step > 0;
        found.push(known(
            "ngram_steps",
            last,
            (ascends && last < NGRAM_BUCKETS).then_some(last as u16),
        )?);
    }
    Ok(found)
}
