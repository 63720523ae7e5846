//! What the collector's core promises.

use super::*;
use crate::naming::description::Description;
use crate::naming::workload::Place;
use crate::registry::{Node, UNRESOLVED_MS_MAX};
use crate::slots::Slots;

const ID: &str = "0cd273a3b8dc35f837ec2ecb40b72417200aeb86c849398a7eb1510d9f3c5be3";
const CGROUP: u64 = 70;

/// A machine on which no process can be looked at.
struct Nobody;

impl World for Nobody {
    fn look(&self, _: u32) -> Option<Looked> {
        None
    }
    fn inside(&self, _: u64, _: u32) -> Option<String> {
        None
    }
}

fn at(ms: u64) -> Timestamp {
    Timestamp(1_000_000_000_000 + ms * 1_000_000)
}

fn core() -> Core {
    let place = Place { cluster: "local".into(), node: "harbour".into() };
    let registry = Registry::new(Node { place, boot: "boot".into() }, Slots::new(8));
    let mut core = Core::new(Parts {
        registry,
        ids: Ids::new("local", "harbour", 1),
        cluster: "local".into(),
        node: "harbour".into(),
        step_ms: 5_000,
        outbox_max: 1_000,
    });
    core.set_clock(at(0), 0);
    core
}

fn description() -> Description {
    Description {
        name: "web-1".into(),
        image: "web".into(),
        ..Description::bare(Engine::Docker, ID)
    }
}

/// A container whose cgroup is there and whose engine has not spoken.
fn unnamed() -> Core {
    let mut core = core();
    let recognised = Some(Recognised::Container { engine: Some(Engine::Docker), id: ID.into() });
    let todos = core.appeared(CGROUP, "/docker/x", recognised, None, at(0), &Nobody);
    assert!(matches!(todos[0], Todo::Claim { cgroup: CGROUP, .. }));
    core.begin(CGROUP, Counters::default(), true, at(0));
    core
}

fn named() -> Core {
    let mut core = unnamed();
    core.told(Told::Described(Box::new(description())), at(0), &Nobody);
    core.outbox.take(usize::MAX);
    core
}

fn seen(ms: u64, what: What) -> Seen {
    Seen { cgroup: CGROUP, slot: 1, time_ns: ms * 1_000_000, what }
}

fn exec(pid: u32, path: &str, origin: Origin) -> What {
    What::Exec {
        pid,
        parent: 1,
        uid: 0,
        origin,
        path: path.into(),
        socket_stdio: false,
        memfd: false,
    }
}

fn connect(peer: &str) -> What {
    What::Connect {
        peer: peer.parse().unwrap(),
        protocol: 6,
        refused: false,
        count: 1,
        actor: Some(Actor { pid: 5, uid: 33, comm: "we\x1bb".into() }),
    }
}

/// What went out, in short.
fn out(core: &mut Core) -> Vec<String> {
    core.outbox
        .take(usize::MAX)
        .into_iter()
        .map(|message| match message {
            Message::Inventory(record) => format!("inventory {:?}", record.state),
            Message::Observation(observation) => {
                assert!(!observation.workload.owner.is_empty());
                match observation.body {
                    Body::Started(container) => format!("started {}", container.name),
                    Body::Stopped(_) => "stopped".into(),
                    Body::Behaviour(_, behaviour) => {
                        let vouched = behaviour.process.as_ref().is_some_and(|p| p.engine_exec);
                        let vouched = if vouched { " vouched" } else { "" };
                        format!("{} x{}{vouched}", behaviour.act, behaviour.count)
                    }
                    Body::Window(_, window) => format!("window {} ms", window.step_ms),
                    Body::Health(health) => format!("health {:?}", health.condition),
                    Body::Intent(_) => unreachable!("a collector has no wishes"),
                }
            }
        })
        .collect()
}

#[test]
fn nothing_goes_out_before_the_name_and_everything_after_it_in_order() {
    let mut core = unnamed();
    core.seen(seen(1, exec(5, "/bin/web", Origin::Started)), at(1), &Nobody);
    core.seen(seen(2, connect("198.51.100.7:443")), at(2), &Nobody);
    assert_eq!(out(&mut core), [""; 0]);
    let todos = core.told(Told::Described(Box::new(description())), at(3), &Nobody);
    assert!(todos.contains(&Todo::Measure(CGROUP)));
    assert_eq!(
        out(&mut core),
        [
            "started web-1",
            "inventory Running",
            "exec /bin/web x1",
            "connect 198.51.100.7:443/tcp x1"
        ]
    );
}

#[test]
fn the_first_program_of_a_new_container_started_it_even_if_the_kernel_cannot_tell() {
    let mut core = named();
    core.seen(seen(1, exec(5, "/bin/web", Origin::Unknown)), at(1), &Nobody);
    core.seen(seen(2, exec(6, "/bin/late", Origin::Unknown)), at(2), &Nobody);
    let origins: Vec<Origin> = core
        .outbox
        .take(2)
        .into_iter()
        .filter_map(|message| match message {
            Message::Observation(observation) => match observation.body {
                Body::Behaviour(_, behaviour) => behaviour.process.map(|process| process.origin),
                _ => None,
            },
            Message::Inventory(_) => None,
        })
        .collect();
    assert_eq!(origins, [Origin::Started, Origin::Unknown]);
}

#[test]
fn a_container_that_nobody_names_is_reported_and_its_acts_go_out_all_the_same() {
    let mut core = unnamed();
    core.seen(seen(1, exec(5, "/bin/web", Origin::Started)), at(1), &Nobody);
    core.tick(at(UNRESOLVED_MS_MAX), &Nobody);
    assert_eq!(
        out(&mut core),
        [
            &format!("started {ID}"),
            "inventory Running",
            "exec /bin/web x1",
            "health UnresolvedPassed"
        ]
    );
}

#[test]
fn an_act_is_told_once_a_window_and_its_repeats_with_the_next_report() {
    let mut core = named();
    for ms in 1..=4 {
        core.seen(seen(ms, connect("198.51.100.7:443")), at(ms), &Nobody);
    }
    assert_eq!(out(&mut core), ["connect 198.51.100.7:443/tcp x1"]);
    core.window(CGROUP, Counters::default(), Sequences::default(), at(5_000));
    core.seen(seen(5_001, connect("198.51.100.7:443")), at(5_001), &Nobody);
    assert_eq!(out(&mut core), ["window 5000 ms", "connect 198.51.100.7:443/tcp x4"]);
}

#[test]
fn who_enters_waits_for_the_engines_word() {
    let mut core = named();
    core.seen(seen(1, exec(9, "/bin/sh", Origin::Entered)), at(1), &Nobody);
    assert_eq!(out(&mut core), [""; 0], "the word may still come");
    let exec_told = Exec { pids: vec![9], ..Exec::of(ID) };
    core.told(Told::Exec(exec_told), at(200), &Nobody);
    assert_eq!(out(&mut core), ["exec /bin/sh x1 vouched"]);
    // What the shell runs is of the same session, and its word has come.
    let What::Exec { uid, path, socket_stdio, memfd, .. } = exec(10, "/bin/ls", Origin::Spawned)
    else {
        unreachable!("it is an exec")
    };
    let origin = Origin::Spawned;
    let child = What::Exec { pid: 10, parent: 9, uid, origin, path, socket_stdio, memfd };
    core.seen(seen(301, child), at(301), &Nobody);
    assert_eq!(out(&mut core), ["exec /bin/ls x1 vouched"]);
}

#[test]
fn who_enters_without_a_word_is_told_after_the_wait() {
    let mut core = named();
    core.seen(seen(1, exec(9, "/bin/sh", Origin::Entered)), at(1), &Nobody);
    core.tick(at(vouch::WAIT_MS), &Nobody);
    assert_eq!(out(&mut core), [""; 0]);
    core.tick(at(1 + vouch::WAIT_MS), &Nobody);
    assert_eq!(out(&mut core), ["exec /bin/sh x1"]);
}

#[test]
fn a_connection_has_the_name_that_the_container_asked_for() {
    let mut core = named();
    let mut answer = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    answer.extend(b"\x05store\x07example\x00\x00\x01\x00\x01");
    let question = {
        let mut question = answer.clone();
        question[2..8].copy_from_slice(&[1, 0, 0, 1, 0, 0]);
        question
    };
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 7]);
    let dns = |answer, message| What::Dns { answer, message, actor: None };
    core.seen(seen(1, dns(false, question)), at(1), &Nobody);
    core.seen(seen(2, dns(true, answer)), at(2), &Nobody);
    core.seen(seen(3, dns(true, b"garbage".to_vec())), at(3), &Nobody);
    core.seen(seen(4, connect("198.51.100.7:443")), at(4), &Nobody);
    assert_eq!(
        out(&mut core),
        ["dns store.example x1", "connect store.example (198.51.100.7:443/tcp) x1"]
    );
    core.window(CGROUP, Counters::default(), Sequences::default(), at(5_000));
    let Some(Message::Observation(observation)) = core.outbox.take(1).pop() else {
        panic!("a window")
    };
    let Body::Window(_, window) = observation.body else { panic!("a window") };
    assert!(window.feature(bulkhead_domain::feature::DNS_NAMES) > 0.5);
}

#[test]
fn a_process_that_is_gone_goes_by_the_name_it_gave_itself_escaped() {
    let mut core = named();
    core.seen(seen(1, connect("198.51.100.7:443")), at(1), &Nobody);
    let Some(Message::Observation(observation)) = core.outbox.take(1).pop() else {
        panic!("a behaviour")
    };
    let Body::Behaviour(_, behaviour) = observation.body else { panic!("a behaviour") };
    let process = behaviour.process.unwrap();
    assert_eq!((process.executable.as_str(), process.uid), ("we\\u{1b}b", 33));
    assert_eq!(observation.at, at(1), "event time is the kernel's");
}

#[test]
fn an_end_brings_the_last_window_then_the_stop() {
    let mut core = named();
    let last = Some((Counters { execs: 2, ..Counters::default() }, Sequences::default()));
    let todos = core.gone(CGROUP, last, at(1_500), &Nobody);
    assert_eq!(todos, [Todo::Release { cgroup: CGROUP, index: 1 }]);
    assert_eq!(out(&mut core), ["window 1500 ms", "stopped", "inventory Stopped"]);
    core.seen(seen(1_600, exec(5, "/bin/late", Origin::Spawned)), at(1_600), &Nobody);
    assert_eq!(out(&mut core), [""; 0]);
    assert_eq!(core.foreign(), 1);
}

#[test]
fn an_engine_that_goes_is_the_nodes_own_news_and_names_stay() {
    let mut core = named();
    core.told(Told::Lost(Engine::Docker, "cannot connect".into()), at(1), &Nobody);
    core.told(Told::Back(Engine::Docker), at(2), &Nobody);
    assert_eq!(out(&mut core), ["health EngineLost", "health EngineBack"]);
    assert!(core.registry().container(CGROUP).is_some());
}

#[test]
fn what_the_outbox_sheds_is_in_the_next_window() {
    let mut core = named();
    core.outbox = Outbox::new(1);
    core.seen(seen(1, connect("198.51.100.7:443")), at(1), &Nobody);
    core.seen(seen(2, connect("198.51.100.8:443")), at(2), &Nobody);
    core.outbox.take(1);
    core.window(CGROUP, Counters::default(), Sequences::default(), at(5_000));
    let Some(Message::Observation(observation)) = core.outbox.take(1).pop() else {
        panic!("a window")
    };
    let Body::Window(_, window) = observation.body else { panic!("a window") };
    assert_eq!(window.loss.by_cause, [("outbox_behaviours".into(), 1)].into());
}

#[test]
fn a_mount_of_the_hosts_is_an_act_of_the_container() {
    let mut core = named();
    core.mounts(CGROUP, ["/".into(), "/run/docker.sock".into()], at(1));
    assert_eq!(out(&mut core), ["host-mount / x1", "engine-socket /run/docker.sock x1"]);
}
