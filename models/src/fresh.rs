//! The behaviours of one cell that a baseline does not know, gathered so that two hundred of them read as one thing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bulkhead_domain::BehaviourKind;
use bulkhead_domain::behaviour::Act;
use bulkhead_domain::net::Peer;
use bulkhead_domain::text::printable;
use bulkhead_domain::workload::hash64;
use serde::{Deserialize, Serialize};

use crate::key::parent_domain;

/// Different acts told apart per kind; those beyond are counted as one more each.
const TOLD_APART: usize = 1024;

/// Acts kept whole as examples.
const EXAMPLES: usize = 64;

/// Peers or names from which on a group is a sweep rather than a list.
pub const SWEEP: u64 = 10;

/// New behaviours of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Few {
    seen: BTreeSet<u64>,
    beyond: u64,
    /// The first of them.
    pub examples: Vec<Act>,
    addresses: BTreeSet<IpAddr>,
    name_bytes: u64,
}

impl Few {
    /// Different acts.
    pub fn count(&self) -> u64 {
        self.seen.len() as u64 + self.beyond
    }

    /// Different peer addresses among them.
    pub fn addresses(&self) -> usize {
        self.addresses.len()
    }

    fn add(&mut self, act: &Act) -> bool {
        if self.seen.len() >= TOLD_APART {
            self.beyond += 1;
        } else if !self.seen.insert(hash64(act.to_string().as_bytes())) {
            return false;
        }
        if self.examples.len() < EXAMPLES {
            self.examples.push(act.clone());
        }
        match act {
            Act::Connect { peer, .. } | Act::Inbound { peer, .. }
                if self.addresses.len() < TOLD_APART =>
            {
                self.addresses.insert(peer.address);
            }
            Act::Dns { name } => self.name_bytes += name.len() as u64,
            _ => {}
        }
        true
    }

    /// Length of the names on average, bytes.
    pub fn mean_name_bytes(&self) -> f64 {
        self.name_bytes as f64 / self.count().max(1) as f64
    }

    /// The peer most concerned: the one with most of the examples.
    pub fn peer(&self) -> Option<Peer> {
        let mut by_address: BTreeMap<IpAddr, (u32, Peer)> = BTreeMap::new();
        for act in &self.examples {
            if let Act::Connect { peer, .. } | Act::Inbound { peer, .. } = act {
                by_address.entry(peer.address).or_insert((0, *peer)).0 += 1;
            }
        }
        by_address
            .into_values()
            .max_by_key(|(n, peer)| (*n, std::cmp::Reverse(*peer)))
            .map(|(_, peer)| peer)
    }

    /// What they have in common, in words.
    pub fn subject(&self, kind: BehaviourKind) -> String {
        let Some(first) = self.examples.first() else { return kind.word().to_owned() };
        let n = self.count();
        match kind {
            _ if n == 1 => first.to_string(),
            BehaviourKind::Connect if n >= SWEEP => {
                format!(
                    "connect sweep: {n} new ports or peers on {} addresses",
                    self.addresses.len()
                )
            }
            BehaviourKind::Dns => match self.common_domain() {
                Some(domain) => format!("dns: {n} new names under {}", printable(domain, 80)),
                None => format!("dns: {n} new names"),
            },
            _ => format!("{first} and {} more", n - 1),
        }
    }

    /// The deepest domain of which most examples, and half at least, are part.
    fn common_domain(&self) -> Option<&str> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let mut names = 0;
        for act in &self.examples {
            let Act::Dns { name } = act else { continue };
            names += 1;
            let mut domain = parent_domain(name);
            while let Some(d) = domain {
                *votes.entry(d).or_default() += 1;
                domain = parent_domain(d);
            }
        }
        // Half of them: a resolver's search list doubles the names, each under another domain.
        votes
            .into_iter()
            .filter(|(_, n)| n * 2 >= names)
            .max_by_key(|(d, n)| (*n, d.len()))
            .map(|(d, _)| d)
    }
}

/// New behaviours of one cell, by kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fresh {
    kinds: BTreeMap<BehaviourKind, Few>,
}

impl Fresh {
    /// Adds one new behaviour; `false` when it was there.
    pub fn add(&mut self, act: &Act) -> bool {
        self.kinds.entry(act.kind()).or_default().add(act)
    }

    /// The new behaviours of that kind.
    pub fn kind(&self, kind: BehaviourKind) -> Option<&Few> {
        self.kinds.get(&kind)
    }

    /// Every kind that has some.
    pub fn iter(&self) -> impl Iterator<Item = (BehaviourKind, &Few)> {
        self.kinds.iter().map(|(k, few)| (*k, few))
    }

    /// Whether nothing new was seen.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_domain::net::Protocol;

    use super::*;

    #[test]
    fn two_hundred_ports_read_as_one_sweep() {
        let mut fresh = Fresh::default();
        for port in 1..=200 {
            let peer = Peer {
                address: [10, 0, 0, 1 + (port % 2) as u8].into(),
                port,
                protocol: Protocol::TCP,
            };
            assert!(fresh.add(&Act::Connect { peer, name: None, refused: false }));
        }
        let few = fresh.kind(BehaviourKind::Connect).unwrap();
        assert_eq!(
            few.subject(BehaviourKind::Connect),
            "connect sweep: 200 new ports or peers on 2 addresses"
        );
        assert!(few.peer().is_some());
    }

    #[test]
    fn tunnel_names_read_as_the_domain_they_share() {
        let mut fresh = Fresh::default();
        for i in 0..50 {
            fresh.add(&Act::Dns { name: format!("{i:032x}.{i}.t.example.net") });
        }
        assert!(!fresh.add(&Act::Dns { name: format!("{:032x}.0.t.example.net", 0) }));
        let few = fresh.kind(BehaviourKind::Dns).unwrap();
        assert_eq!(few.subject(BehaviourKind::Dns), "dns: 50 new names under t.example.net");
    }
}
