//! The novelty view: behaviours that a workload has never shown, weighed by how much of its kind is still unseen.
//!
//! The chance that a cell (container x block of time) shows a behaviour that is not in the baseline is estimated per kind
//! by Good-Turing on incidence, at its upper bound (`maturity.rs`). The number of new behaviours in a cell then has a
//! geometric tail, P(N >= k) = (r / (1 + r))^k with r new ones expected: the Poisson with gamma-distributed rate of
//! dispersion 1, heavier than the Poisson because new behaviours come together. The score is -ln of that, the largest
//! over the kinds: kinds are not independent (one new job executes, resolves and connects), so they are not added up.
//!
//! Known is what was seen under any of an act's keys (`key.rs`), or falls under a generalisation that the baseline
//! carries: a third address of a /24 on a port, a sixth name of a domain, the name of a workload it already talks to, a
//! neighbour that calls a port which neighbours call.
//! Parts: one per kind with new behaviours, weighed by its own score.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_domain::baseline::{BaselineEntry, Provenance};
use bulkhead_domain::behaviour::{Act, BehaviourKind};
use bulkhead_domain::net::Protocol;
use bulkhead_domain::score::View;
use bulkhead_domain::{AlertId, EventId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::detector::{Detector, Evidence, Part};
use crate::fresh::Fresh;
use crate::inventory::Inventory;
use crate::key::{Key, keys, neighbourhood, parent_domain};
use crate::maturity::Incidence;

/// Addresses of one network and port from which on the network is known.
const NETWORK_FROM: usize = 3;

/// Names of one domain from which on the domain is known.
const DOMAIN_FROM: usize = 6;

/// Chance below which "only on this replica" is no accident (see [`Novelty::review_lonely`]).
const LONELY_P: f64 = 0.01;

/// Score of a single cell, at most: beyond it nothing is decided, and shares stay readable.
const SCORE_MAX: f64 = 200.0;

/// Replicas told apart per entry.
const REPLICAS_MAX: usize = 32;

/// One normal occurrence.
#[derive(Clone, Debug)]
pub struct Sighting<'a> {
    /// The act.
    pub act: &'a Act,
    /// How often.
    pub count: u64,
    /// Number of the replica that did it, as the learner numbers them.
    pub replica: u32,
    /// Block of time.
    pub block: u64,
    /// When.
    pub at: Timestamp,
    /// The record that showed it.
    pub evidence: EventId,
    /// Executable that did it.
    pub executable: &'a str,
    /// Within a container's own start: kept, but no part of the estimates, because it recurs by starts and not by time.
    pub start_up: bool,
    /// Near an alert: waits for review.
    pub suspect: bool,
    /// Who lives where.
    pub inventory: &'a Inventory,
}

/// How an act stands in a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Seen, and counted as normal.
    Normal,
    /// Seen, but waits for review: not counted as normal.
    Review,
    /// Never seen.
    New,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    entry: BaselineEntry,
    /// Cells by replica, and the last block counted there.
    replicas: BTreeMap<u32, (u64, u64)>,
    start_up_only: bool,
    aliases: Vec<Key>,
}

/// A kind above its cap: its set is frozen, and what lies outside it is counted by cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Open {
    cells: u64,
    outside: u64,
}

/// The baseline of behaviours of one workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Novelty {
    cap: usize,
    known: BTreeMap<Key, Known>,
    aliases: BTreeMap<Key, Key>,
    cells: BTreeMap<u32, (u64, u64)>,
    open: BTreeMap<BehaviourKind, Open>,
    rates: BTreeMap<BehaviourKind, f64>,
}

impl Novelty {
    /// An empty baseline whose kinds become distribution features beyond `cap` different behaviours.
    pub fn new(cap: usize) -> Self {
        Self {
            cap,
            known: BTreeMap::new(),
            aliases: BTreeMap::new(),
            cells: BTreeMap::new(),
            open: BTreeMap::new(),
            rates: BTreeMap::new(),
        }
    }

    /// Counts the cell of this replica and block, once.
    pub fn observe_cell(&mut self, replica: u32, block: u64) {
        if self.cells.len() >= 4096 && !self.cells.contains_key(&replica) {
            return;
        }
        let (cells, last) = self.cells.entry(replica).or_insert((0, 0));
        if *cells == 0 || *last < block {
            (*cells, *last) = (*cells + 1, block);
            for open in self.open.values_mut() {
                open.cells += 1;
            }
            self.rates.clear();
        }
    }

    /// Cells observed.
    pub fn cells(&self) -> u64 {
        self.cells.values().map(|(n, _)| n).sum()
    }

    /// Different replicas that were learned from.
    pub fn replicas(&self) -> usize {
        self.cells.len()
    }

    /// Entries, and those among them that wait for review.
    pub fn counts(&self) -> (u64, u64) {
        (self.known.len() as u64, self.known.values().filter(|k| k.entry.review).count() as u64)
    }

    /// What was seen of a kind, for maturity. What was only seen in start-ups stays out.
    pub fn incidence(&self, kind: BehaviourKind) -> Incidence {
        let counts = self
            .known
            .values()
            .filter(|k| k.entry.act.kind() == kind && !k.start_up_only && k.entry.cells > 0);
        Incidence::of(self.cells(), counts.map(|k| k.entry.cells))
    }

    /// Whether the kind is above its cap.
    pub fn is_open(&self, kind: BehaviourKind) -> bool {
        self.open.contains_key(&kind)
    }

    /// How the act stands.
    pub fn standing(&self, act: &Act, inventory: &Inventory) -> Standing {
        let keys = keys(act, inventory);
        let found =
            keys.iter().filter_map(|k| self.aliases.get(k)).filter_map(|k| self.known.get(k));
        let mut waits = false;
        for known in found {
            if !known.entry.review {
                return Standing::Normal;
            }
            waits = true;
        }
        if !waits && keys.iter().any(|k| self.falls_under(k) || self.is_probe(k)) {
            return Standing::Normal;
        }
        if waits { Standing::Review } else { Standing::New }
    }

    /// Whether the key is a UDP probe of a known TCP peer: resolvers connect a datagram socket to each address that they
    /// found, with the port that was asked for, to sort them (RFC 6724); nothing need be sent.
    fn is_probe(&self, key: &Key) -> bool {
        let over_tcp = match key {
            Key::ConnectWorkload(w, port, Protocol::UDP) => {
                Key::ConnectWorkload(w.clone(), *port, Protocol::TCP)
            }
            Key::ConnectName(n, port, Protocol::UDP) => {
                Key::ConnectName(n.clone(), *port, Protocol::TCP)
            }
            Key::ConnectAddress(a, port, Protocol::UDP) => {
                Key::ConnectAddress(*a, *port, Protocol::TCP)
            }
            _ => return false,
        };
        let known = self.aliases.get(&over_tcp).and_then(|k| self.known.get(k));
        known.is_some_and(|k| !k.entry.review) || self.falls_under(&over_tcp)
    }

    /// Whether a generalisation of the baseline covers the key.
    fn falls_under(&self, key: &Key) -> bool {
        let normal = || self.known.iter().filter(|(_, k)| !k.entry.review).map(|(key, _)| key);
        match key {
            Key::ConnectAddress(address, port, protocol) => {
                let network = neighbourhood(*address);
                normal()
                    .filter(|k| {
                        matches!(k, Key::ConnectAddress(a, p, proto) if p == port && proto == protocol && network.contains(*a))
                    })
                    .count()
                    >= NETWORK_FROM
            }
            Key::Dns(name) => parent_domain(name).is_some_and(|domain| {
                normal()
                    .filter(|k| matches!(k, Key::Dns(n) if parent_domain(n) == Some(domain)))
                    .count()
                    >= DOMAIN_FROM
            }),
            Key::DnsWorkload(workload) => normal().any(|k| match k {
                Key::ConnectWorkload(w, ..) => w == workload,
                other => is_old_connection(other, workload),
            }),
            Key::ConnectWorkload(workload, ..) => normal().any(|k| is_old_connection(k, workload)),
            Key::InboundNet(network, port, protocol) if is_private(network.address()) => normal()
                .any(|k| match k {
                    Key::InboundWorkload(_, p, proto) => p == port && proto == protocol,
                    Key::InboundNet(n, p, proto) => {
                        is_private(n.address()) && p == port && proto == protocol
                    }
                    _ => false,
                }),
            _ => false,
        }
    }

    /// The expected new behaviours of a kind in one cell, at the upper bound.
    fn rate(&self, kind: BehaviourKind) -> f64 {
        if let Some(rate) = self.rates.get(&kind) {
            return *rate;
        }
        match self.open.get(&kind) {
            Some(open) => (open.outside as f64 + 1.0) / (open.cells as f64 + 1.0),
            None => self.incidence(kind).new_per_cell_bound(),
        }
    }

    /// Fixes the rates that scores use: at the end of learning, and after each review.
    pub fn settle(&mut self) {
        self.rates.clear();
        let rates = BehaviourKind::ALL.into_iter().map(|kind| (kind, self.rate(kind))).collect();
        self.rates = rates;
    }

    /// -ln of the chance that a cell shows `new` behaviours of that kind which the baseline lacks.
    pub fn surprise(&self, kind: BehaviourKind, new: u64) -> f64 {
        let rate = self.rate(kind);
        if rate.is_infinite() {
            return 0.0;
        }
        (new as f64 * (1.0 + 1.0 / rate.max(1e-12)).ln()).min(SCORE_MAX)
    }

    /// Sends to review what one replica does all the time and its siblings never, when that is no accident: had the act
    /// no favourite, all of its `c` cells would fall on that replica with chance C(t, c) / C(T, c). With a single
    /// replica there is nothing to compare, and nothing is sent.
    pub fn review_lonely(&mut self) {
        let total = self.cells();
        if self.cells.len() < 2 {
            return;
        }
        for known in self.known.values_mut() {
            let [(replica, (cells, _))] = known.replicas.iter().collect::<Vec<_>>()[..] else {
                continue;
            };
            if known.start_up_only || matches!(known.entry.provenance, Provenance::Accepted { .. })
            {
                continue;
            }
            let own = self.cells.get(replica).map_or(0, |(n, _)| *n);
            known.entry.review |= chance_all_on_one(own, total, *cells) < LONELY_P;
        }
    }

    /// Takes an act in as normal, by a person's word.
    pub fn accept(
        &mut self,
        act: &Act,
        who: &str,
        alert: Option<AlertId>,
        at: Timestamp,
        evidence: EventId,
        inventory: &Inventory,
    ) {
        let keys = keys(act, inventory);
        let Some(first) = keys.first().cloned() else { return };
        let provenance = Provenance::Accepted { alert, who: who.to_owned() };
        if let Some(known) = self.aliases.get(&first).and_then(|k| self.known.get_mut(k)) {
            known.entry.provenance = provenance;
            known.entry.review = false;
            return;
        }
        let entry = BaselineEntry {
            act: plain(act),
            count: 0,
            cells: 0,
            replicas: 0,
            first: at,
            last: at,
            evidence,
            executable: String::new(),
            provenance,
            review: false,
        };
        self.insert(keys, entry, true);
    }

    /// Takes back what was accepted because of an alert. What had been learned before stays, as learned.
    pub fn retract(&mut self, alert: AlertId) {
        let accepted = |k: &Known| matches!(&k.entry.provenance, Provenance::Accepted { alert: Some(a), .. } if *a == alert);
        for known in self.known.values_mut().filter(|k| accepted(k) && k.entry.cells > 0) {
            known.entry.provenance = Provenance::Learned;
        }
        self.known.retain(|_, known| !accepted(known));
        self.aliases.retain(|_, key| self.known.contains_key(key));
    }

    /// Every entry, by key.
    pub fn entries(&self) -> impl Iterator<Item = &BaselineEntry> {
        self.known.values().map(|k| &k.entry)
    }

    /// Whether a person has accepted exactly this act.
    pub fn accepted(&self, act: &Act, inventory: &Inventory) -> bool {
        keys(act, inventory)
            .iter()
            .filter_map(|k| self.aliases.get(k))
            .filter_map(|k| self.known.get(k))
            .any(|k| matches!(k.entry.provenance, Provenance::Accepted { .. }))
    }

    /// The nearest normal behaviour of the same kind, in words; empty when there is none.
    pub fn nearest(&self, act: &Act) -> String {
        let best = self
            .entries()
            .filter(|e| e.act.kind() == act.kind() && !e.review)
            .max_by_key(|e| (likeness(act, &e.act), e.count, std::cmp::Reverse(e.first)));
        best.map(|e| {
            format!("{}, seen {} times in {} of {} cells", e.act, e.count, e.cells, self.cells())
        })
        .unwrap_or_default()
    }

    fn insert(&mut self, keys: Vec<Key>, entry: BaselineEntry, start_up_only: bool) {
        let first = keys[0].clone();
        for key in &keys {
            self.aliases.entry(key.clone()).or_insert_with(|| first.clone());
        }
        self.known.insert(
            first,
            Known { entry, replicas: BTreeMap::new(), start_up_only, aliases: keys },
        );
    }

    fn count_of(&self, kind: BehaviourKind) -> usize {
        self.known.keys().filter(|k| k.kind() == kind).count()
    }
}

impl Detector for Novelty {
    type Lesson<'a> = Sighting<'a>;
    type Sample<'a> = Fresh;
    const VIEW: View = View::Novelty;

    fn learn(&mut self, sighting: &Sighting<'_>) {
        let keys = keys(sighting.act, sighting.inventory);
        let Some(first) = keys.first() else { return };
        let kind = sighting.act.kind();
        let home = keys.iter().find_map(|k| self.aliases.get(k)).unwrap_or(first).clone();
        if !self.known.contains_key(&home) {
            if self.is_open(kind) || self.count_of(kind) > self.cap {
                self.open.entry(kind).or_default().outside += 1;
                return;
            }
            let entry = BaselineEntry {
                act: plain(sighting.act),
                count: 0,
                cells: 0,
                replicas: 0,
                first: sighting.at,
                last: sighting.at,
                evidence: sighting.evidence,
                executable: sighting.executable.to_owned(),
                provenance: Provenance::Learned,
                review: sighting.suspect,
            };
            self.insert(keys.clone(), entry, true);
        }
        let known = self.known.get_mut(&home).expect("it was found or inserted above");
        for key in keys {
            if known.aliases.len() < 16 && !known.aliases.contains(&key) {
                self.aliases.entry(key.clone()).or_insert_with(|| home.clone());
                known.aliases.push(key);
            }
        }
        known.entry.count += sighting.count.max(1);
        known.entry.last = known.entry.last.max(sighting.at);
        if !sighting.start_up {
            known.start_up_only = false;
        }
        if known.replicas.len() < REPLICAS_MAX || known.replicas.contains_key(&sighting.replica) {
            let (cells, last) = known.replicas.entry(sighting.replica).or_insert((0, 0));
            if *cells == 0 || *last < sighting.block {
                (*cells, *last) = (*cells + 1, sighting.block);
                known.entry.cells += 1;
            }
        }
        known.entry.replicas = known.replicas.len() as u8;
        self.rates.clear();
    }

    fn score(&self, sample: &Fresh) -> Option<Evidence> {
        if self.cells() == 0 {
            return None;
        }
        let mut evidence = Evidence::default();
        for (kind, few) in sample.iter() {
            let weight = self.surprise(kind, few.count());
            if weight <= 0.0 {
                continue;
            }
            evidence.score = evidence.score.max(weight);
            let observed = match kind {
                BehaviourKind::Dns if few.count() > 1 => {
                    format!(
                        "{} new names, {:.0} bytes long on average",
                        few.count(),
                        few.mean_name_bytes()
                    )
                }
                _ if few.count() > 1 => format!("{} new behaviours of this kind", few.count()),
                _ => "never seen before".to_owned(),
            };
            let seen = self.incidence(kind);
            evidence.parts.push(Part {
                subject: few.subject(kind),
                observed,
                expected: format!(
                    "one of {} known behaviours of this kind; at most {:.2} new a block expected",
                    seen.distinct,
                    self.rate(kind)
                ),
                weight,
                act: few.examples.first().cloned(),
                peer: few.peer(),
            });
        }
        evidence.parts.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        Some(evidence)
    }
}

/// Whether a key is a connection that had been open before the probes were: its first packet seen came from the peer, so it
/// looks like an inbound one on an ephemeral port. Opened again, it is no new behaviour.
fn is_old_connection(key: &Key, workload: &str) -> bool {
    matches!(key, Key::InboundWorkload(w, 0, _) if w == workload)
}

/// An address of the inside (RFC 1918, RFC 4193, link-local): a service that neighbours call may be called by another one.
fn is_private(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// The chance that all `c` marked cells of `total` fall on the `own` ones of one replica: C(own, c) / C(total, c).
fn chance_all_on_one(own: u64, total: u64, c: u64) -> f64 {
    if c > own {
        return 1.0;
    }
    (0..c).map(|i| (own - i) as f64 / (total - i) as f64).product()
}

/// The act without what varies between its occurrences.
fn plain(act: &Act) -> Act {
    match act {
        Act::Connect { peer, name, .. } => {
            Act::Connect { peer: *peer, name: name.clone(), refused: false }
        }
        other => other.clone(),
    }
}

/// How near two acts of one kind are; larger is nearer.
fn likeness(a: &Act, b: &Act) -> u32 {
    match (a, b) {
        (Act::Exec { path: a }, Act::Exec { path: b }) => {
            let file = |p: &str| p.rsplit('/').next().unwrap_or("").to_owned();
            u32::from(file(a) == file(b)) * 2
                + u32::from(a.rsplit_once('/').map(|x| x.0) == b.rsplit_once('/').map(|x| x.0))
        }
        (Act::Connect { peer: a, .. }, Act::Connect { peer: b, .. }) => {
            u32::from(a.address == b.address) * 4
                + u32::from(neighbourhood(a.address).contains(b.address)) * 2
                + u32::from(a.port == b.port)
        }
        (Act::Dns { name: a }, Act::Dns { name: b }) => {
            let suffix: BTreeSet<&str> = a.rsplit('.').collect();
            b.rsplit('.').filter(|label| suffix.contains(label)).count() as u32
        }
        (Act::Listen { port: a, .. }, Act::Listen { port: b, .. }) => {
            u32::from(a.abs_diff(*b) < 10)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_domain::net::Peer;

    use super::*;

    struct World {
        novelty: Novelty,
        inventory: Inventory,
    }

    impl World {
        fn new() -> Self {
            Self { novelty: Novelty::new(100), inventory: Inventory::default() }
        }

        fn see(&mut self, act: &Act, replica: u32, block: u64) {
            self.novelty.observe_cell(replica, block);
            self.novelty.learn(&Sighting {
                act,
                count: 1,
                replica,
                block,
                at: Timestamp::from_secs(block * 300),
                evidence: EventId::default(),
                executable: "/bin/app",
                start_up: false,
                suspect: false,
                inventory: &self.inventory,
            });
        }

        fn standing(&self, act: &Act) -> Standing {
            self.novelty.standing(act, &self.inventory)
        }
    }

    fn exec(path: &str) -> Act {
        Act::Exec { path: path.into() }
    }

    fn connect(address: [u8; 4], port: u16) -> Act {
        Act::Connect {
            peer: Peer { address: address.into(), port, protocol: Protocol::TCP },
            name: None,
            refused: false,
        }
    }

    #[test]
    fn what_was_seen_is_normal_and_what_was_not_is_new() {
        let mut world = World::new();
        world.see(&exec("/usr/bin/python3"), 0, 1);
        assert_eq!(world.standing(&exec("/usr/bin/python3")), Standing::Normal);
        assert_eq!(world.standing(&exec("/bin/sh")), Standing::New);
    }

    #[test]
    fn incidence_counts_cells_and_not_repetitions() {
        let mut world = World::new();
        for _ in 0..50 {
            world.see(&connect([10, 0, 0, 1], 80), 0, 1);
        }
        world.see(&connect([10, 0, 0, 1], 80), 1, 1);
        let entry = world.novelty.entries().next().unwrap();
        assert_eq!((entry.count, entry.cells, entry.replicas), (51, 2, 2));
    }

    #[test]
    fn the_longer_nothing_new_came_the_more_a_new_thing_says() {
        let mut young = World::new();
        let mut old = World::new();
        for block in 1..=10 {
            young.see(&exec("/app"), 0, block);
        }
        for block in 1..=1000 {
            old.see(&exec("/app"), 0, block);
        }
        let kind = BehaviourKind::Exec;
        assert!(old.novelty.surprise(kind, 1) > young.novelty.surprise(kind, 1) + 4.0);
        assert!(young.novelty.surprise(kind, 3) > young.novelty.surprise(kind, 1));
        assert!(World::new().novelty.surprise(kind, 5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_workload_at_a_new_address_is_the_same_peer() {
        let mut world = World::new();
        world.inventory.insert("redis", &["redis"], &[[10, 0, 0, 5].into()]);
        world.see(&connect([10, 0, 0, 5], 6379), 0, 1);
        world.inventory.insert("redis", &["redis"], &[[10, 0, 0, 9].into()]);
        assert_eq!(world.standing(&connect([10, 0, 0, 9], 6379)), Standing::Normal);
        assert_eq!(world.standing(&connect([10, 0, 0, 9], 22)), Standing::New);
        assert_eq!(world.standing(&Act::Dns { name: "redis.dns.podman".into() }), Standing::Normal);
    }

    #[test]
    fn a_resolvers_probe_of_a_known_peer_is_no_new_peer() {
        let mut world = World::new();
        let udp = |act: Act| match act {
            Act::Connect { peer, name, refused } => {
                Act::Connect { peer: Peer { protocol: Protocol::UDP, ..peer }, name, refused }
            }
            other => other,
        };
        world.see(&connect([198, 51, 100, 1], 6379), 0, 1);
        assert_eq!(world.standing(&udp(connect([198, 51, 100, 1], 6379))), Standing::Normal);
        assert_eq!(world.standing(&udp(connect([198, 51, 100, 1], 53))), Standing::New);
        assert_eq!(world.standing(&udp(connect([198, 51, 100, 2], 6379))), Standing::New);
    }

    #[test]
    fn three_addresses_of_a_network_make_the_network_known_on_that_port() {
        let mut world = World::new();
        for host in 1..=3 {
            assert_eq!(world.standing(&connect([198, 51, 100, 77], 443)), Standing::New);
            world.see(&connect([198, 51, 100, host], 443), 0, u64::from(host));
        }
        assert_eq!(world.standing(&connect([198, 51, 100, 77], 443)), Standing::Normal);
        assert_eq!(world.standing(&connect([198, 51, 100, 77], 22)), Standing::New);
    }

    #[test]
    fn a_connection_older_than_the_probes_is_known_when_it_is_opened_again() {
        let mut world = World::new();
        world.inventory.insert("redis", &["redis"], &[[10, 0, 0, 5].into()]);
        let peer = Peer { address: [10, 0, 0, 5].into(), port: 0, protocol: Protocol::TCP };
        world.see(&Act::Inbound { peer, port: 43_210 }, 0, 1);
        assert_eq!(world.standing(&connect([10, 0, 0, 5], 6379)), Standing::Normal);
        assert_eq!(world.standing(&Act::Dns { name: "redis".into() }), Standing::Normal);
    }

    #[test]
    fn a_port_that_neighbours_call_may_be_called_by_another_and_not_by_the_world() {
        let mut world = World::new();
        world.inventory.insert("proxy", &["proxy"], &[[10, 0, 0, 2].into()]);
        let call = |address: [u8; 4], port| Act::Inbound {
            peer: Peer { address: address.into(), port: 0, protocol: Protocol::TCP },
            port,
        };
        world.see(&call([10, 0, 0, 2], 8080), 0, 1);
        assert_eq!(world.standing(&call([10, 0, 0, 1], 8080)), Standing::Normal);
        assert_eq!(world.standing(&call([10, 0, 0, 1], 22)), Standing::New);
        assert_eq!(world.standing(&call([203, 0, 113, 9], 8080)), Standing::New);
    }

    #[test]
    fn what_only_one_of_two_replicas_always_does_waits_for_review() {
        let mut world = World::new();
        for block in 1..=20 {
            world.see(&exec("/app"), 0, block);
            world.see(&exec("/app"), 1, block);
            world.see(&exec("/tmp/implant"), 1, block);
        }
        world.see(&exec("/usr/bin/once"), 0, 7);
        world.novelty.review_lonely();
        assert_eq!(world.standing(&exec("/tmp/implant")), Standing::Review);
        assert_eq!(world.standing(&exec("/usr/bin/once")), Standing::Normal, "once is no habit");
        assert_eq!(world.standing(&exec("/app")), Standing::Normal);
    }

    #[test]
    fn a_single_replica_has_no_sibling_to_differ_from() {
        let mut world = World::new();
        for block in 1..=20 {
            world.see(&exec("/app"), 0, block);
        }
        world.novelty.review_lonely();
        assert_eq!(world.standing(&exec("/app")), Standing::Normal);
    }

    #[test]
    fn an_acceptance_can_be_taken_back() {
        let mut world = World::new();
        let alert = AlertId(7);
        world.novelty.accept(
            &exec("/bin/sh"),
            "ann",
            Some(alert),
            Timestamp(0),
            EventId::default(),
            &world.inventory,
        );
        assert_eq!(world.standing(&exec("/bin/sh")), Standing::Normal);
        world.novelty.retract(alert);
        assert_eq!(world.standing(&exec("/bin/sh")), Standing::New);
    }

    #[test]
    fn a_kind_above_its_cap_is_judged_by_how_many_are_new_at_once() {
        let mut world = World::new();
        for block in 1..=400 {
            world.see(
                &Act::Dns { name: format!("host{}-{block}", ["a", "b"][block as usize % 2]) },
                0,
                block,
            );
        }
        assert!(world.novelty.is_open(BehaviourKind::Dns));
        let surprise = |n| world.novelty.surprise(BehaviourKind::Dns, n);
        assert!(surprise(1) < 1.5, "{}", surprise(1));
        assert!(surprise(60) > 20.0);
    }

    #[test]
    fn start_ups_recur_by_starts_and_stay_out_of_the_estimate() {
        let mut world = World::new();
        world.novelty.observe_cell(0, 1);
        world.novelty.learn(&Sighting {
            act: &exec("/entrypoint.sh"),
            count: 1,
            replica: 0,
            block: 1,
            at: Timestamp(0),
            evidence: EventId::default(),
            executable: "",
            start_up: true,
            suspect: false,
            inventory: &world.inventory,
        });
        assert_eq!(world.novelty.incidence(BehaviourKind::Exec).distinct, 0);
        assert_eq!(world.standing(&exec("/entrypoint.sh")), Standing::Normal);
    }
}
