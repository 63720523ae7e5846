//! Standing guards: what is refused and how, how long it lasts, what outlives whom, and how a person ends it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_loader::guard::{self, Guard, GuardError, Lists, Rule, Who, boot_ns};
use bulkhead_loader::sockets::{self, Whose};
use bulkhead_tests::scratch::container_id;
use support::container::{Cgroup, run, start};
use support::link::{Link, PEER};
use support::raw::end;
use support::standing::{CONTAINER, Standing, WORKLOAD, deny, host, quarantine};

const FREE: &str = "203.0.113.8";
const PORT: u16 = 9000;
/// Long enough for a stopped machine; nothing waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether a datagram to that peer is let out of the container.
fn sends(cgroup: &Cgroup, link: &Link, peer: &'static str) -> bool {
    let done = run(cgroup, Some(&link.inside()), || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        match socket.send_to(b"x", end(peer, PORT)) {
            Ok(_) => true,
            Err(e) if e.kind() == ErrorKind::PermissionDenied => false,
            Err(e) => panic!("{e}"),
        }
    });
    done.said == "true"
}

#[test]
fn without_rules_everything_passes() {
    let Some(mut standing) = Standing::open("guards") else { return };
    let link = Link::new();
    let cgroup = standing.container("a");
    assert!(sends(&cgroup, &link, PEER));
    standing.apply(&[deny(1, Who::Container(CONTAINER + 1), host(PEER))]);
    assert!(!sends(&cgroup, &link, PEER));
    standing.apply(&[]);
    assert!(sends(&cgroup, &link, PEER));
}

#[test]
fn a_lease_ends_by_the_kernels_clock_with_nobody_there() {
    let Some(mut standing) = Standing::open("guards") else { return };
    let link = Link::new();
    let cgroup = standing.container("a");
    let mut rule = deny(1, Who::Container(CONTAINER + 1), host(PEER));
    rule.expires_ns = boot_ns() + 1_500_000_000;
    standing.apply(&[rule]);
    // From here on nothing writes the maps; the pins alone hold them.
    assert!(!sends(&cgroup, &link, PEER));
    let mut last_refused = boot_ns();
    while !sends(&cgroup, &link, PEER) {
        last_refused = boot_ns();
        assert!(last_refused < rule.expires_ns + PATIENCE.as_nanos() as u64, "it never ends");
    }
    assert!(boot_ns() >= rule.expires_ns, "it ended before its time");
    assert!(last_refused < rule.expires_ns + 1_000_000_000, "refused a second past its end");
}

#[test]
fn a_workloads_lease_finds_the_replica_that_starts_later_and_a_containers_its_restart() {
    let Some(mut standing) = Standing::open("guards") else { return };
    let link = Link::new();
    standing.apply(&[
        deny(1, Who::Workload(WORKLOAD), host(PEER)),
        deny(2, Who::Container(0x77), host(FREE)),
    ]);
    let replica = standing.container("later");
    assert!(!sends(&replica, &link, PEER));
    assert!(sends(&replica, &link, FREE));
    for name in ["before", "after"] {
        let cgroup = standing.root.child(name);
        standing.guard.name(cgroup.id(), 0x77, 0x78).unwrap();
        assert!(!sends(&cgroup, &link, FREE), "{name}");
        assert!(sends(&cgroup, &link, PEER));
    }
}

#[test]
fn quarantine_lets_pass_what_is_allowed_and_ends_when_released() {
    let Some(mut standing) = Standing::open("guards") else { return };
    let link = Link::new();
    let cgroup = standing.container("a");
    let lists = Lists { quarantine_allow: vec![host(FREE)], ..Lists::default() };
    let rule = quarantine(1, Who::Container(CONTAINER + 1));
    standing.guard.apply(&[rule], &lists).unwrap();
    assert!(!sends(&cgroup, &link, PEER));
    assert!(sends(&cgroup, &link, FREE));
    standing.guard.apply(&[], &lists).unwrap();
    assert!(sends(&cgroup, &link, PEER));
}

#[test]
fn applying_twice_changes_nothing_and_keeps_what_was_counted() {
    let Some(mut standing) = Standing::open("guards") else { return };
    let link = Link::new();
    let cgroup = standing.container("a");
    let rules = [deny(1, Who::Container(CONTAINER + 1), host(PEER))];
    assert!(standing.guard.apply(&rules, &Lists::default()).unwrap().written > 0);
    assert!(!sends(&cgroup, &link, PEER));
    let again = standing.guard.apply(&rules, &Lists::default()).unwrap();
    assert_eq!(again, guard::Changes::default());
    let longer = Rule { expires_ns: rules[0].expires_ns + 1, ..rules[0] };
    standing.apply(&[longer]);
    assert_eq!(standing.guard.hits(1).unwrap().unwrap().calls, 1);
}

#[test]
fn a_second_installation_takes_over_what_is_in_force_without_a_gap() {
    let Some(mut standing) = Standing::open("guards") else { return };
    let link = Link::new();
    let cgroup = standing.container("a");
    let rules = [deny(1, Who::Container(CONTAINER + 1), host(PEER))];
    standing.apply(&rules);
    let config = standing.config();
    let mut running = start(&cgroup, Some(&link.inside()), |voice| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        voice.ready();
        let until = Instant::now() + Duration::from_secs(3);
        let mut passed = 0;
        while Instant::now() < until {
            passed += u32::from(socket.send_to(b"x", end(PEER, PORT)).is_ok());
        }
        passed
    });
    running.wait_ready();
    let again = Guard::install(&config).unwrap();
    assert_eq!(again.rules().0, rules);
    assert_eq!(running.wait().said, "0", "packets passed while the guards were changed");
    let links = fs::read_dir(&standing.pins).unwrap().flatten();
    assert!(links.into_iter().all(|e| !e.file_name().to_string_lossy().ends_with("_new")));
    drop(again);
    assert!(!sends(&cgroup, &link, PEER), "the pins outlive their maker");
}

#[test]
fn a_person_ends_measures_from_the_pins_and_the_mark_stays() {
    let Some(mut standing) = Standing::open("guards") else { return };
    let link = Link::new();
    let cgroup = standing.container("a");
    let who = Who::Container(CONTAINER + 1);
    standing.apply(&[deny(1, who, host(PEER)), deny(2, who, host(FREE)), quarantine(3, who)]);
    let mut person = Guard::open(&standing.pins).unwrap();
    assert_eq!(person.disarm(Some(3), &[]).unwrap(), [3]);
    assert_eq!(person.disarm(Some(1), &[]).unwrap(), [1]);
    assert_eq!(person.disarm(Some(99), &[]).unwrap(), [0; 0]);
    assert!(sends(&cgroup, &link, PEER));
    assert!(!sends(&cgroup, &link, FREE));
    assert_eq!(person.disarm(None, &[]).unwrap(), [2]);
    assert!(sends(&cgroup, &link, FREE));
    let mut marked = person.disarmed().unwrap();
    marked.sort_unstable();
    assert_eq!(marked, [1, 2, 3]);
}

#[test]
fn pins_of_another_abi_are_refused_with_path_and_remedy() {
    let Some(standing) = Standing::open("guards") else { return };
    let map = aya::maps::MapData::from_pin(standing.pins.join("ABI")).unwrap();
    let mut cell: aya::maps::Array<_, u32> = aya::maps::Map::Array(map).try_into().unwrap();
    cell.set(0, guard::abi() + 1, 0).unwrap();
    for refused in [Guard::install(&standing.config()), Guard::open(&standing.pins)] {
        let error = refused.unwrap_err();
        assert!(matches!(error, GuardError::OtherAbi { .. }));
        let text = error.to_string();
        let path = standing.pins.display().to_string();
        assert!(text.contains(&format!("rm -r {path}")), "{text}");
    }
}

#[test]
fn no_pins_is_said_as_such() {
    let error = Guard::open(std::path::Path::new("/sys/fs/bpf/bh-nowhere")).unwrap_err();
    assert!(matches!(error, GuardError::NotInstalled { .. }), "{error}");
}

#[test]
fn a_new_container_is_held_back_from_denied_peers_until_it_has_a_name() {
    let Some(mut standing) = Standing::holding("guards", Duration::from_secs(3600)) else { return };
    let link = Link::new();
    standing.apply(&[deny(1, Who::Workload(WORKLOAD), host(PEER))]);
    let id = container_id();
    let names = [
        id.clone(),
        format!("libpod-{id}"),
        format!("docker-{id}.scope"),
        format!("cri-containerd-{id}.scope"),
        format!("crio-{id}.scope"),
    ];
    for name in &names {
        let cgroup = standing.root.child(name);
        assert!(!sends(&cgroup, &link, PEER), "{name} is held back");
        assert!(sends(&cgroup, &link, FREE), "{name} reaches what nobody is denied");
        standing.guard.name(cgroup.id(), 5, 6).unwrap();
        assert!(sends(&cgroup, &link, PEER), "{name} is named, and of another workload");
    }
    assert_eq!(standing.guard.counters().unwrap().marked, names.len() as u64);
    assert!(standing.guard.counters().unwrap().held >= names.len() as u64);
    for name in
        [format!("libpod-conmon-{id}.scope"), id[..63].to_owned(), format!("x{id}"), "web".into()]
    {
        let cgroup = standing.root.child(&name);
        assert!(sends(&cgroup, &link, PEER), "{name} is no container");
    }
}

#[test]
fn under_a_quarantine_a_new_container_reaches_nobody_until_it_has_a_name() {
    let Some(mut standing) = Standing::holding("guards", Duration::from_secs(3600)) else { return };
    let link = Link::new();
    standing.apply(&[quarantine(1, Who::Container(0x99))]);
    let cgroup = standing.root.child(&container_id());
    assert!(!sends(&cgroup, &link, FREE));
    standing.guard.name(cgroup.id(), 5, 6).unwrap();
    assert!(sends(&cgroup, &link, FREE));
}

#[test]
fn past_its_time_an_unnamed_container_passes_and_is_listed() {
    let Some(mut standing) = Standing::holding("guards", Duration::from_millis(700)) else {
        return;
    };
    let link = Link::new();
    standing.apply(&[deny(1, Who::Workload(WORKLOAD), host(PEER))]);
    let cgroup = standing.root.child(&container_id());
    let waiting = standing.guard.unresolved().unwrap();
    assert_eq!(waiting.iter().map(|u| u.cgroup).collect::<Vec<_>>(), [cgroup.id()]);
    let until = Instant::now() + PATIENCE;
    while !sends(&cgroup, &link, PEER) {
        assert!(Instant::now() < until, "it is held back for ever");
    }
    assert!(boot_ns() >= waiting[0].until_ns);
}

#[test]
fn a_registered_parents_children_are_containers_and_a_removed_one_is_forgotten() {
    let Some(mut standing) = Standing::holding("guards", Duration::from_secs(3600)) else { return };
    let link = Link::new();
    standing.apply(&[deny(1, Who::Workload(WORKLOAD), host(PEER))]);
    let parent = standing.root.child("runc");
    standing.guard.watch_parent(parent.id()).unwrap();
    let cgroup = parent.child("web");
    assert!(!sends(&cgroup, &link, PEER));
    let id = cgroup.id();
    drop(cgroup);
    assert_eq!(standing.guard.slot(id).unwrap(), None);
}

#[test]
fn open_connections_to_a_denied_peer_are_aborted_and_others_stay() {
    let Some(mut standing) = Standing::open("guards") else { return };
    let link = Link::new();
    let cgroup = standing.container("a");
    let listener = link.outside.enter(|| TcpListener::bind(end("::", 80)).unwrap()).unwrap();
    let held = thread::spawn(move || {
        let kept: Vec<TcpStream> = listener.incoming().take(2).flatten().collect();
        thread::sleep(PATIENCE);
        drop(kept);
    });
    let mut running = start(&cgroup, Some(&link.inside()), |voice| {
        let mut denied = TcpStream::connect(end(PEER, 80)).unwrap();
        let free = TcpStream::connect(end(FREE, 80)).unwrap();
        voice.ready();
        let aborted = denied.read(&mut [0]).map_err(|e| e.kind());
        (aborted, free.take_error().unwrap().is_none())
    });
    running.wait_ready();
    let netns = fs::File::open(link.inside()).unwrap();
    let peers = host(PEER);
    let count = sockets::abort(&Whose::Namespace(&netns), |a, p| peers.matches(a, p, 6)).unwrap();
    assert_eq!(count, 1);
    assert_eq!(running.wait().said, "(Err(ConnectionAborted), true)");
    drop(held);
}
