//! The kernel's verdict against a naive reading of the same rules: overlapping prefixes, ports, scopes and expiries.
//!
//! The kernel runs the real program (`BPF_PROG_TEST_RUN`) on packets that the test writes, at the loopback interface of a
//! namespace of the test's own: there the container is known by the interface's number, so no traffic is needed. All hooks
//! share that verdict. The naive reading goes through all rules, one by one, in the order that the design names.

mod support;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use bulkhead_loader::guard::{Guard, Lists, PeerPattern, Rule, Wall, What, Who, boot_ns};
use bulkhead_tests::netns::Netns;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::standing::Standing;

/// `TC_ACT_SHOT`.
const DROP: u32 = 2;
const LOOPBACK: u32 = 1;

/// The containers that are asked about: scope and workload.
const CONTAINERS: [(u64, u64); 3] = [(1, 10), (2, 10), (3, 20)];

#[derive(Clone, Copy, Debug)]
struct Packet {
    peer: IpAddr,
    port: u16,
    protocol: u8,
}

/// What the order of verdicts says, rule by rule.
fn naive(container: (u64, u64), packet: Packet, rules: &[Rule], lists: &Lists, now: u64) -> bool {
    let on = |list: &[PeerPattern]| {
        list.iter().any(|p| p.matches(packet.peer, packet.port, packet.protocol))
    };
    let concerns = |rule: &&Rule| {
        rule.expires_ns > now
            && match rule.who {
                Who::Container(id) => id == container.0,
                Who::Workload(id) => id == container.1,
                Who::Node => true,
            }
    };
    let denied = |wanted: bool| {
        rules.iter().filter(concerns).any(|rule| {
            matches!(rule.what, What::Deny { peers, manual }
                if manual == wanted && peers.matches(packet.peer, packet.port, packet.protocol))
        })
    };
    if on(&lists.critical) {
        return true;
    }
    if rules.iter().filter(concerns).any(|rule| rule.what == What::Quarantine) {
        return on(&lists.quarantine_allow);
    }
    !denied(true) && (on(&lists.protected) || !denied(false))
}

/// An Ethernet frame that the container sends.
fn frame(packet: Packet) -> Vec<u8> {
    let mut payload = vec![0; 20];
    payload[..2].copy_from_slice(&5000_u16.to_be_bytes());
    payload[2..4].copy_from_slice(&packet.port.to_be_bytes());
    let mut frame = vec![0; 12];
    match packet.peer {
        IpAddr::V4(v4) => {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, packet.protocol, 0, 0]);
            frame.extend([192, 0, 2, 1]);
            frame.extend(v4.octets());
        }
        IpAddr::V6(v6) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, packet.protocol, 64]);
            frame.extend([0; 16]);
            frame.extend(v6.octets());
        }
    }
    frame.extend(payload);
    frame
}

/// Addresses so near to each other that prefixes overlap.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..8_u32).prop_map(|low| IpAddr::V4(Ipv4Addr::from_bits(0xc633_6400 | low << 5 | low))),
        (0..8_u128).prop_map(|low| {
            IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | low << 60 | low))
        }),
    ]
}

fn pattern() -> impl Strategy<Value = PeerPattern> {
    let lengths = prop_oneof![Just(0_u8), Just(8), 24..=32_u8, Just(48), 60..=68_u8, Just(128)];
    let port = prop::option::of(80..82_u16);
    let protocol = prop::option::of(prop_oneof![Just(6_u8), Just(17)]);
    (address(), lengths, port, protocol).prop_map(|(a, l, p, r)| PeerPattern::new(a, l, p, r))
}

/// A rule that ended a while ago, or ends in an hour: never near the moment at which the kernel looks.
fn rule() -> impl Strategy<Value = Rule> {
    let who = prop_oneof![
        (1..=3_u64).prop_map(Who::Container),
        prop_oneof![Just(10_u64), Just(20)].prop_map(Who::Workload),
        Just(Who::Node),
    ];
    let what = prop_oneof![
        8 => (pattern(), any::<bool>()).prop_map(|(peers, manual)| What::Deny { peers, manual }),
        1 => Just(What::Quarantine),
    ];
    (who, what, any::<bool>(), 1..50_u64).prop_map(|(who, what, ended, measure)| {
        let now = boot_ns();
        let expires_ns = if ended { 1 + now / 2 } else { now + 3_600_000_000_000 };
        Rule { who, what, expires_ns, measure }
    })
}

fn lists() -> impl Strategy<Value = Lists> {
    let few = || prop::collection::vec(pattern(), 0..2);
    (few(), few(), few()).prop_map(|(critical, protected, quarantine_allow)| Lists {
        critical,
        protected,
        quarantine_allow,
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    (address(), 80..83_u16, prop_oneof![Just(6_u8), Just(17)])
        .prop_map(|(peer, port, protocol)| Packet { peer, port, protocol })
}

#[test]
fn the_kernel_decides_as_a_naive_reading_of_the_rules() {
    let Some(standing) = Standing::open("verdict") else { return };
    let netns = Netns::new("verdict").unwrap();
    let pins = standing.pins.clone();
    let work = move || {
        let guard = RefCell::new(Guard::open(&pins).unwrap());
        let program = SchedClassifier::from_pin(pins.join("guard_interface_sent")).unwrap();
        let rules = prop::collection::vec(rule(), 0..24);
        let packets = prop::collection::vec(packet(), 40);
        let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
        let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
        let mut runner = TestRunner::new_with_rng(config, seed);
        let (asked, dropped) = (Cell::new(0_u32), Cell::new(0_u32));
        runner
            .run(&(rules, lists(), packets), |(rules, lists, packets)| {
                guard.borrow_mut().apply(&rules, &lists).unwrap();
                for container in CONTAINERS {
                    let owner = Wall { cgroup: 0, container: container.0, workload: container.1 };
                    guard.borrow_mut().put_wall(LOOPBACK, owner).unwrap();
                    for packet in &packets {
                        let expect = naive(container, *packet, &rules, &lists, boot_ns());
                        let data = frame(*packet);
                        let mut options = TestRunOptions::new();
                        options.data_in = Some(&data);
                        let result = program.test_run(options).unwrap();
                        asked.set(asked.get() + 1);
                        dropped.set(dropped.get() + u32::from(result.return_value == DROP));
                        prop_assert_eq!(
                            result.return_value != DROP,
                            expect,
                            "{:?} of {:?}",
                            packet,
                            container
                        );
                    }
                }
                Ok(())
            })
            .unwrap();
        (asked.get(), dropped.get())
    };
    let (asked, dropped) = netns.enter(work).unwrap();
    // Both answers are frequent, or nothing was compared.
    assert!(dropped > asked / 20 && dropped < asked * 19 / 20, "{dropped} of {asked} dropped");
}
