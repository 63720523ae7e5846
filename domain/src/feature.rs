//! Numeric features of a window: ids that are never reused, units, and the id of a whole set.

use serde::{Deserialize, Serialize};

use crate::workload::hash64;

/// Names one feature for ever. Numbered with gaps; a retired number is never given to another feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeatureId(pub u16);

/// One feature: its id, its name for people, its unit.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Id.
    pub id: FeatureId,
    /// Name in snake case.
    pub name: &'static str,
    /// Unit, in the words of the Prometheus conventions.
    pub unit: &'static str,
}

macro_rules! features {
    ($($constant:ident = $id:literal, $name:literal, $unit:literal;)*) => {
        $(#[doc = concat!("`", $name, "`, in ", $unit, " per window.")] pub const $constant: FeatureId = FeatureId($id);)*
        /// Every feature that this version computes, by ascending id.
        pub const FEATURES: &[Feature] = &[$(Feature { id: FeatureId($id), name: $name, unit: $unit }),*];
    };
}

features! {
    SYSCALLS = 10, "syscalls", "calls";
    SYSCALL_KINDS = 11, "distinct_syscalls", "kinds";
    SYSCALLS_FOREIGN = 12, "foreign_abi_syscalls", "calls";
    NGRAMS = 13, "distinct_ngrams", "grams";
    EXECS = 20, "execs", "events";
    FORKS = 21, "forks", "events";
    EXITS = 22, "exits", "events";
    CONNECTS = 30, "connects", "events";
    CONNECTS_FAILED = 31, "failed_connects", "events";
    CONNECT_ADDRESSES = 32, "distinct_peer_addresses", "addresses";
    CONNECT_PORTS = 33, "distinct_peer_ports", "ports";
    ACCEPTS = 34, "inbound_connections", "events";
    UDP_SENDS = 35, "udp_sends", "packets";
    BYTES_OUT = 40, "bytes_sent", "bytes";
    BYTES_IN = 41, "bytes_received", "bytes";
    PACKETS_OUT = 42, "packets_sent", "packets";
    PACKETS_IN = 43, "packets_received", "packets";
    BYTES_OUT_TOP = 44, "bytes_sent_to_top_peer", "bytes";
    BYTES_OUT_INITIATED = 45, "bytes_sent_on_own_connections", "bytes";
    DNS_QUESTIONS = 50, "dns_questions", "questions";
    DNS_FAILURES = 51, "dns_failures", "answers";
    DNS_NAMES = 52, "distinct_dns_names", "names";
    DNS_NAME_BYTES = 53, "mean_dns_name_length", "bytes";
    DNS_ENTROPY = 54, "mean_dns_label_entropy", "bits per character";
}

/// The feature of that id, when this version knows it.
pub fn feature(id: FeatureId) -> Option<&'static Feature> {
    FEATURES.iter().find(|f| f.id == id)
}

/// Identity of a set of features and their step: a model refuses windows of another set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeatureSetId(pub u64);

/// The id of what this version computes at that step: a hash of ids, units and step.
pub fn feature_set(step_ms: u64) -> FeatureSetId {
    let mut text = format!("step {step_ms} ms");
    for f in FEATURES {
        text.push_str(&format!("\n{} {} {}", f.id.0, f.name, f.unit));
    }
    FeatureSetId(hash64(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_without_repeats() {
        assert!(FEATURES.windows(2).all(|pair| pair[0].id < pair[1].id));
    }

    #[test]
    fn another_step_is_another_set() {
        assert_ne!(feature_set(5000), feature_set(1000));
        assert_eq!(feature_set(5000), feature_set(5000));
    }
}
