//! Builds windows: two readings of counters that only grow, and what the events in between told, become one [`Window`].
//!
//! Pure: no clock, no kernel. A counter that went backwards (it never should) counts as zero, not as a huge difference.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use bulkhead_abi::network::NetworkCounters;
use bulkhead_domain::feature::{self, FeatureId};
use bulkhead_domain::net::Peer;
use bulkhead_domain::window::{Direction, Loss, PeerTraffic, TOP_PEERS};
use bulkhead_domain::{Timestamp, Window};
use bulkhead_loader::observe::network::Flow;

use crate::dns::label_entropy;
use crate::syscalls::{self, Abi};

/// Bigrams kept of one window: the most frequent of a busy server's few hundred.
pub const BIGRAMS_MAX: usize = 512;

/// Distinct DNS names remembered within one window; more count by the questions alone.
const NAMES_MAX: usize = 4096;

/// Which traffic a flow sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId {
    /// The peer; its port is 0 for inbound flows.
    pub peer: Peer,
    /// Who opened it.
    pub direction: Direction,
    /// Port of the container's service; 0 for outbound flows.
    pub local_port: u16,
}

/// What the kernel counted of one container, as read at one moment.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Calls by interface and number.
    pub syscalls: HashMap<(Abi, u32), u64>,
    /// Pairs of consecutive calls of one task.
    pub bigrams: HashMap<(u16, u16), u64>,
    /// Programs executed.
    pub execs: u64,
    /// Tasks forked.
    pub forks: u64,
    /// Tasks that ended.
    pub exits: u64,
    /// Acts that were reported before in the same epoch, and only counted.
    pub acts_repeated: u64,
    /// Traffic by flow.
    pub flows: HashMap<FlowId, Flow>,
    /// Traffic in sum.
    pub network: NetworkCounters,
    /// Lost events by cause.
    pub losses: BTreeMap<String, u64>,
}

/// What the events of one window told, beyond the kernel's counters.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    events: u64,
    questions: u64,
    name_bytes: u64,
    entropy: f64,
    names: BTreeSet<String>,
    lost: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts an event that arrived.
    pub fn event(&mut self) {
        self.events += 1;
    }

    /// Counts a question for a name.
    pub fn question(&mut self, name: &str) {
        self.questions += 1;
        self.name_bytes += name.len() as u64;
        self.entropy += label_entropy(name);
        if self.names.len() < NAMES_MAX {
            self.names.insert(name.to_owned());
        }
    }

    /// Counts what user space lost.
    pub fn lose(&mut self, cause: &str, count: u64) {
        *self.lost.entry(cause.to_owned()).or_default() += count;
    }
}

/// When a window was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its start.
    pub start: Timestamp,
    /// Its length, ms.
    pub length_ms: u64,
    /// The step of whole windows, ms: part of the feature set's identity.
    pub step_ms: u64,
}

/// The sequences that the kernel kept of a window.
#[derive(Clone, Debug, Default)]
pub struct Sequences {
    /// Buckets of hashed n-grams seen, ascending.
    pub ngrams: Vec<u16>,
    /// Sampled ordered runs of native call numbers.
    pub runs: Vec<Vec<u16>>,
}

/// One window from two readings and what happened in between.
pub fn build(
    span: Span,
    before: &Counters,
    now: &Counters,
    tally: &Tally,
    sequences: Sequences,
) -> Window {
    let calls = grown(&before.syscalls, &now.syscalls);
    let flows = grown_flows(&before.flows, &now.flows);
    let network = Network { before: &before.network, now: &now.network };
    let (peers, rest) = busiest(&flows);
    let mut features = Features::default();

    features.set(feature::SYSCALLS, calls.values().sum());
    features.set(feature::SYSCALL_KINDS, calls.len() as u64);
    features.set(feature::SYSCALLS_FOREIGN, foreign(&calls));
    features.set(feature::NGRAMS, sequences.ngrams.len() as u64);
    features.set(feature::EXECS, now.execs.saturating_sub(before.execs));
    features.set(feature::FORKS, now.forks.saturating_sub(before.forks));
    features.set(feature::EXITS, now.exits.saturating_sub(before.exits));
    connection_features(&mut features, &network, &flows);
    features.set(feature::BYTES_OUT, network.of(|n| n.bytes_out));
    features.set(feature::BYTES_IN, network.of(|n| n.bytes_in));
    features.set(feature::PACKETS_OUT, network.of(|n| n.packets_out));
    features.set(feature::PACKETS_IN, network.of(|n| n.packets_in));
    features.set(feature::BYTES_OUT_TOP, flows.iter().map(|(_, f)| f.bytes_out).max().unwrap_or(0));
    features.set(feature::BYTES_OUT_INITIATED, network.of(|n| n.bytes_out_initiated));
    dns_features(&mut features, &network, tally);

    Window {
        start: span.start,
        step_ms: span.length_ms,
        feature_set: feature::feature_set(span.step_ms),
        features: features.0,
        arch: syscalls::native(),
        syscalls: by_name(&calls),
        bigrams: most_frequent(grown(&before.bigrams, &now.bigrams)),
        loss: loss(before, now, tally, calls.values().sum()),
        ngrams: sequences.ngrams,
        runs: sequences.runs,
        peers,
        rest,
    }
}

/// Sparse features: a zero is absent.
#[derive(Default)]
struct Features(BTreeMap<FeatureId, f64>);

impl Features {
    fn set(&mut self, id: FeatureId, value: u64) {
        self.set_mean(id, value as f64);
    }

    fn set_mean(&mut self, id: FeatureId, value: f64) {
        if value != 0.0 {
            self.0.insert(id, value);
        }
    }
}

/// Two readings of the network counters.
struct Network<'a> {
    before: &'a NetworkCounters,
    now: &'a NetworkCounters,
}

impl Network<'_> {
    fn of(&self, counter: impl Fn(&NetworkCounters) -> u64) -> u64 {
        counter(self.now).saturating_sub(counter(self.before))
    }
}

/// Connections, without what a measure of ours makes of them: of a refused peer one attempt counts, and no retry.
fn connection_features(features: &mut Features, network: &Network<'_>, flows: &[(FlowId, Flow)]) {
    let refused = || {
        flows.iter().filter(|(id, flow)| id.direction == Direction::Outbound && flow.refused > 0)
    };
    let again: u64 = refused().map(|(_, flow)| flow.refused - 1).sum();
    let refused_retries: u64 = refused().map(|(_, flow)| flow.retries + flow.reset).sum();
    let failed = network.of(|n| n.reset) + network.of(|n| n.retries);
    let tried = || {
        flows.iter().filter(|(id, flow)| {
            id.direction == Direction::Outbound && (flow.attempts > 0 || flow.packets_out > 0)
        })
    };
    let addresses: BTreeSet<IpAddr> = tried().map(|(id, _)| id.peer.address).collect();
    let ports: BTreeSet<u16> =
        tried().map(|(id, _)| id.peer.port).filter(|port| *port != 0).collect();
    features.set(feature::CONNECTS, network.of(|n| n.connects).saturating_sub(again));
    features.set(feature::CONNECTS_FAILED, failed.saturating_sub(refused_retries));
    features.set(feature::CONNECT_ADDRESSES, addresses.len() as u64);
    features.set(feature::CONNECT_PORTS, ports.len() as u64);
    features.set(feature::ACCEPTS, network.of(|n| n.accepted));
    features.set(feature::UDP_SENDS, network.of(|n| n.udp_sends));
}

fn dns_features(features: &mut Features, network: &Network<'_>, tally: &Tally) {
    // The kernel counts every question; names are known only of those whose event arrived.
    let questions = network.of(|n| n.dns_questions).max(tally.questions);
    features.set(feature::DNS_QUESTIONS, questions);
    features.set(feature::DNS_FAILURES, network.of(|n| n.dns_nxdomain + n.dns_failures));
    features.set(feature::DNS_NAMES, tally.names.len() as u64);
    if tally.questions > 0 {
        let seen = tally.questions as f64;
        features.set_mean(feature::DNS_NAME_BYTES, tally.name_bytes as f64 / seen);
        features.set_mean(feature::DNS_ENTROPY, tally.entropy / seen);
    }
}

/// What a growing table gained, without what stood still.
fn grown<K: Copy + Eq + Hash>(before: &HashMap<K, u64>, now: &HashMap<K, u64>) -> HashMap<K, u64> {
    now.iter()
        .map(|(key, count)| (*key, count.saturating_sub(before.get(key).copied().unwrap_or(0))))
        .filter(|(_, gained)| *gained > 0)
        .collect()
}

/// What each flow gained, in a fixed order.
fn grown_flows(before: &HashMap<FlowId, Flow>, now: &HashMap<FlowId, Flow>) -> Vec<(FlowId, Flow)> {
    let mut flows: Vec<(FlowId, Flow)> = now
        .iter()
        .map(|(id, flow)| (*id, gained(before.get(id), flow)))
        .filter(|(_, flow)| flow.packets_out + flow.packets_in + flow.attempts > 0)
        .collect();
    flows.sort_unstable_by_key(|(id, _)| *id);
    flows
}

fn gained(before: Option<&Flow>, now: &Flow) -> Flow {
    // A flow that was evicted and made anew begins at zero again: then all of it is new.
    let none = Flow::default();
    let before = before.filter(|before| before.first_ns == now.first_ns).unwrap_or(&none);
    Flow {
        packets_out: now.packets_out.saturating_sub(before.packets_out),
        bytes_out: now.bytes_out.saturating_sub(before.bytes_out),
        packets_in: now.packets_in.saturating_sub(before.packets_in),
        bytes_in: now.bytes_in.saturating_sub(before.bytes_in),
        attempts: now.attempts.saturating_sub(before.attempts),
        refused: now.refused.saturating_sub(before.refused),
        established: now.established.saturating_sub(before.established),
        reset: now.reset.saturating_sub(before.reset),
        retries: now.retries.saturating_sub(before.retries),
        ..*now
    }
}

/// The busiest peers by bytes, then by connections; and the sum of the others.
fn busiest(flows: &[(FlowId, Flow)]) -> (Vec<PeerTraffic>, [u64; 5]) {
    let mut peers: Vec<PeerTraffic> = flows
        .iter()
        .map(|(id, flow)| PeerTraffic {
            peer: id.peer,
            direction: id.direction,
            local_port: id.local_port,
            bytes_out: flow.bytes_out,
            bytes_in: flow.bytes_in,
            packets_out: flow.packets_out,
            packets_in: flow.packets_in,
            connections: flow.attempts,
        })
        .collect();
    // Stable: what is equally busy stays in the order of flows.
    peers.sort_by_key(|p| std::cmp::Reverse((p.bytes_out + p.bytes_in, p.connections)));
    let others = peers.split_off(peers.len().min(TOP_PEERS));
    let rest = others.iter().fold([0; 5], |sum, p| {
        [
            sum[0] + p.bytes_out,
            sum[1] + p.bytes_in,
            sum[2] + p.packets_out,
            sum[3] + p.packets_in,
            sum[4] + p.connections,
        ]
    });
    (peers, rest)
}

fn foreign(calls: &HashMap<(Abi, u32), u64>) -> u64 {
    calls.iter().filter(|((abi, _), _)| !matches!(abi, Abi::Native(_))).map(|(_, n)| n).sum()
}

fn by_name(calls: &HashMap<(Abi, u32), u64>) -> BTreeMap<String, u64> {
    calls.iter().map(|((abi, number), count)| (syscalls::name(*abi, *number), *count)).collect()
}

fn most_frequent(pairs: HashMap<(u16, u16), u64>) -> Vec<((u16, u16), u64)> {
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_unstable_by_key(|(pair, count)| (std::cmp::Reverse(*count), *pair));
    pairs.truncate(BIGRAMS_MAX);
    pairs
}

/// What was lost, and what was not: events that arrived, and acts that the kernel counted instead of reporting them again.
/// Calls are kept in their thousands; they count where some of their own kind were lost.
///
/// Packets of more peers than the flow table has room for are no loss: they are in the totals, and a public service with
/// many clients would be blind for ever. That a container reaches so many peers is what the fan-out features are for.
fn loss(before: &Counters, now: &Counters, tally: &Tally, calls: u64) -> Loss {
    let mut by_cause: BTreeMap<String, u64> = now
        .losses
        .iter()
        .map(|(cause, count)| {
            (cause.clone(), count.saturating_sub(before.losses.get(cause).copied().unwrap_or(0)))
        })
        .collect();
    for (cause, count) in &tally.lost {
        *by_cause.entry(cause.clone()).or_default() += count;
    }
    by_cause.retain(|_, count| *count > 0);
    let lost = |causes: &[&str]| causes.iter().any(|cause| by_cause.contains_key(*cause));
    let mut kept = tally.events + now.acts_repeated.saturating_sub(before.acts_repeated);
    if lost(&["recursion", "bigrams"]) {
        kept += calls;
    }
    Loss { by_cause, kept }
}

#[cfg(test)]
mod tests {
    use bulkhead_domain::net::Protocol;
    use bulkhead_domain::window::Arch;
    use proptest::prelude::*;

    use super::*;

    const SPAN: Span =
        Span { start: Timestamp::from_secs(1_000), length_ms: 5_000, step_ms: 5_000 };

    fn window(before: &Counters, now: &Counters, tally: &Tally) -> Window {
        build(SPAN, before, now, tally, Sequences::default())
    }

    fn count(window: &Window, id: FeatureId) -> u64 {
        window.feature(id) as u64
    }

    fn outbound(last: u8, port: u16) -> FlowId {
        let address = IpAddr::from([198, 51, 100, last]);
        FlowId {
            peer: Peer { address, port, protocol: Protocol::TCP },
            direction: Direction::Outbound,
            local_port: 0,
        }
    }

    fn native(number: u32) -> (Abi, u32) {
        (Abi::Native(Arch::X86_64), number)
    }

    #[test]
    fn a_window_holds_differences_and_leaves_out_what_stood_still() {
        let before =
            Counters { syscalls: [(native(0), 10), (native(1), 5)].into(), ..Counters::default() };
        let now = Counters {
            syscalls: [(native(0), 17), (native(1), 5), ((Abi::I386, 20), 2)].into(),
            execs: 3,
            ..Counters::default()
        };
        let window = window(&before, &now, &Tally::default());
        assert_eq!(window.syscalls, [("i386:getpid".into(), 2), ("read".into(), 7)].into());
        assert_eq!(count(&window, feature::SYSCALLS), 9);
        assert_eq!(count(&window, feature::SYSCALL_KINDS), 2);
        assert_eq!(count(&window, feature::SYSCALLS_FOREIGN), 2);
        assert_eq!(count(&window, feature::EXECS), 3);
        assert!(!window.features.contains_key(&feature::FORKS), "zero is absent");
        assert_eq!(window.feature_set, feature::feature_set(5_000));
    }

    #[test]
    fn a_quiet_window_is_empty_and_lossless() {
        let quiet = window(&Counters::default(), &Counters::default(), &Tally::default());
        assert!(quiet.features.is_empty() && quiet.peers.is_empty());
        assert!(quiet.loss.ratio().abs() < f64::EPSILON);
    }

    #[test]
    fn the_seventeenth_peer_is_summed_with_the_rest() {
        let flow = |n: u64| Flow { bytes_out: n, packets_out: 1, attempts: 1, ..Flow::default() };
        let now = Counters {
            flows: (1..=20).map(|n| (outbound(n, 443), flow(u64::from(n)))).collect(),
            ..Counters::default()
        };
        let window = window(&Counters::default(), &now, &Tally::default());
        assert_eq!(window.peers.len(), TOP_PEERS);
        assert_eq!(window.peers[0].bytes_out, 20);
        assert_eq!(window.rest, [1 + 2 + 3 + 4, 0, 4, 0, 4]);
        assert_eq!(count(&window, feature::BYTES_OUT_TOP), 20);
        assert_eq!(count(&window, feature::CONNECT_ADDRESSES), 20);
        assert_eq!(count(&window, feature::CONNECT_PORTS), 1);
    }

    #[test]
    fn a_scan_without_bytes_shows_in_ports_addresses_and_failures() {
        let tried = Flow { attempts: 1, reset: 1, packets_out: 1, ..Flow::default() };
        let now = Counters {
            flows: (1..=50).map(|port| (outbound(9, port), tried)).collect(),
            network: NetworkCounters { connects: 50, reset: 50, ..NetworkCounters::default() },
            ..Counters::default()
        };
        let window = window(&Counters::default(), &now, &Tally::default());
        assert_eq!(count(&window, feature::CONNECTS), 50);
        assert_eq!(count(&window, feature::CONNECTS_FAILED), 50);
        assert_eq!(count(&window, feature::CONNECT_PORTS), 50);
        assert_eq!(count(&window, feature::CONNECT_ADDRESSES), 1);
    }

    #[test]
    fn of_a_refused_peer_one_attempt_counts_and_no_retry() {
        let refused = Flow { attempts: 40, refused: 40, retries: 6, ..Flow::default() };
        let open = Flow { attempts: 2, packets_out: 4, retries: 1, ..Flow::default() };
        let now = Counters {
            flows: [(outbound(1, 443), refused), (outbound(2, 443), open)].into(),
            network: NetworkCounters { connects: 42, retries: 7, ..NetworkCounters::default() },
            ..Counters::default()
        };
        let window = window(&Counters::default(), &now, &Tally::default());
        assert_eq!(count(&window, feature::CONNECTS), 3);
        assert_eq!(count(&window, feature::CONNECTS_FAILED), 1);
    }

    #[test]
    fn a_flow_made_anew_counts_from_zero() {
        let flow =
            |first_ns, bytes_out| Flow { first_ns, bytes_out, packets_out: 1, ..Flow::default() };
        let before =
            Counters { flows: [(outbound(1, 80), flow(5, 900))].into(), ..Counters::default() };
        let now =
            Counters { flows: [(outbound(1, 80), flow(9, 70))].into(), ..Counters::default() };
        assert_eq!(window(&before, &now, &Tally::default()).peers[0].bytes_out, 70);
    }

    #[test]
    fn names_give_means_over_the_questions_that_were_seen() {
        let mut tally = Tally::default();
        tally.question("example.org");
        tally.question("example.org");
        tally.question("0123456789abcdef.t.example.org");
        let now = Counters {
            network: NetworkCounters {
                dns_questions: 5,
                dns_nxdomain: 2,
                ..NetworkCounters::default()
            },
            ..Counters::default()
        };
        let window = window(&Counters::default(), &now, &tally);
        assert_eq!(count(&window, feature::DNS_QUESTIONS), 5);
        assert_eq!(count(&window, feature::DNS_FAILURES), 2);
        assert_eq!(count(&window, feature::DNS_NAMES), 2);
        assert!((window.feature(feature::DNS_NAME_BYTES) - 52.0 / 3.0).abs() < 1e-9);
        assert!(window.feature(feature::DNS_ENTROPY) > 1.0);
    }

    #[test]
    fn losses_of_kernel_and_user_space_stand_side_by_side() {
        let before = Counters { losses: [("quota".into(), 3)].into(), ..Counters::default() };
        let now = Counters {
            losses: [("quota".into(), 10), ("ring_full".into(), 0)].into(),
            acts_repeated: 4,
            ..Counters::default()
        };
        let mut tally = Tally::default();
        tally.event();
        tally.lose("outbox_windows", 2);
        let loss = window(&before, &now, &tally).loss;
        assert_eq!(loss.by_cause, [("outbox_windows".into(), 2), ("quota".into(), 7)].into());
        assert_eq!(loss.kept, 5);
        assert!((loss.ratio() - 9.0 / 14.0).abs() < 1e-9);
    }

    #[test]
    fn skipped_programs_are_weighed_against_the_calls_that_were_counted() {
        let now = Counters {
            syscalls: [(native(0), 99)].into(),
            losses: [("recursion".into(), 1)].into(),
            ..Counters::default()
        };
        let loss = window(&Counters::default(), &now, &Tally::default()).loss;
        assert!((loss.ratio() - 0.01).abs() < 1e-9);
    }

    #[test]
    fn bigrams_are_the_most_frequent_in_a_fixed_order() {
        let now = Counters {
            bigrams: (0..600_u16).map(|n| ((n, 1), u64::from(n % 7) + 1)).collect(),
            ..Counters::default()
        };
        let window = window(&Counters::default(), &now, &Tally::default());
        assert_eq!(window.bigrams.len(), BIGRAMS_MAX);
        assert_eq!(window.bigrams[0], ((6, 1), 7));
        assert_eq!(window.bigrams[1], ((13, 1), 7));
    }

    proptest! {
        #[test]
        fn windows_in_a_row_add_up_to_what_the_kernel_counted(
            steps in proptest::collection::vec(
                proptest::collection::vec((1..40_u8, 1..4_u16, 0..1000_u64, 0..1000_u64), 0..30), 1..8),
        ) {
            let mut before = Counters::default();
            let (mut bytes, mut connections) = ([0, 0], 0);
            for step in steps {
                let mut now = before.clone();
                for (last, port, sent, received) in step {
                    let flow = now.flows.entry(outbound(last, port)).or_default();
                    flow.bytes_out += sent;
                    flow.bytes_in += received;
                    flow.packets_out += 1;
                    flow.attempts += 1;
                }
                let window = window(&before, &now, &Tally::default());
                prop_assert!(window.peers.len() <= TOP_PEERS);
                let sum = |of: fn(&PeerTraffic) -> u64| window.peers.iter().map(of).sum::<u64>();
                bytes[0] += sum(|p| p.bytes_out) + window.rest[0];
                bytes[1] += sum(|p| p.bytes_in) + window.rest[1];
                connections += sum(|p| p.connections) + window.rest[4];
                before = now;
            }
            let total = |of: fn(&Flow) -> u64| before.flows.values().map(of).sum::<u64>();
            prop_assert_eq!(bytes, [total(|f| f.bytes_out), total(|f| f.bytes_in)]);
            prop_assert_eq!(connections, total(|f| f.attempts));
        }
    }
}
