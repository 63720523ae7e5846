//! One of each record, with every field filled.

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_bus::typed::{self, Absorbed, BaselineSnapshot};
use bulkhead_bus::{Outgoing, Topic};
use bulkhead_domain::alert::{Alert, AlertClass, Contribution, Response, Review};
use bulkhead_domain::audit::AuditEntry;
use bulkhead_domain::behaviour::{Act, Behaviour, ForbiddenAct};
use bulkhead_domain::budget::AlertBudget;
use bulkhead_domain::container::{Container, ContainerKey, Engine};
use bulkhead_domain::feature::{FEATURES, feature_set};
use bulkhead_domain::health::{Condition, Health};
use bulkhead_domain::intent::{Intent, Wish};
use bulkhead_domain::inventory::{InventoryRecord, LifeState};
use bulkhead_domain::measure::{Action, Decider, Measure, MeasureRecord, Proposal, Target};
use bulkhead_domain::net::{Peer, Protocol};
use bulkhead_domain::observation::{Body, Observation};
use bulkhead_domain::process::{Origin, Process};
use bulkhead_domain::score::{Score, Threshold, View};
use bulkhead_domain::window::{Arch, Direction, Loss, PeerTraffic, Window};
use bulkhead_domain::workload::OwnerKind;
use bulkhead_domain::{AlertId, EventId, MeasureId, Mode, Timestamp, WorkloadName};

use super::{arrived, signer};

fn workload() -> WorkloadName {
    WorkloadName {
        cluster: "local".into(),
        scope: "shop".into(),
        kind: OwnerKind::Service,
        owner: "web/front".into(),
        container: "nginx".into(),
    }
}

fn key() -> ContainerKey {
    ContainerKey {
        node: "harbour".into(),
        boot: "6b1f0c7e-0000-4000-8000-1d6f0c7e9a10".into(),
        engine_id: "c0ffee".repeat(10) + "c0fe",
        cgroup: 12345,
    }
}

fn container() -> Container {
    Container {
        key: key(),
        workload: workload(),
        engine: Engine::Podman,
        name: "web-1".into(),
        image: "localhost/shop/web".into(),
        digest: "sha256:12ab".into(),
        cgroup_path: "/machine.slice/libpod-c0ffee.scope".into(),
        pid: 4242,
        netns: 4_026_531_992,
        addresses: vec!["198.51.100.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
        host_network: false,
        started: Timestamp::from_secs(1_700_000_000),
    }
}

fn process() -> Process {
    Process {
        pid: 99,
        executable: "/usr/bin/curl".into(),
        parent: "/bin/sh".into(),
        uid: 1000,
        origin: Origin::Entered,
        engine_exec: true,
    }
}

fn peer(text: &str, port: u16) -> Peer {
    Peer { address: text.parse().unwrap(), port, protocol: Protocol::TCP }
}

pub(crate) fn acts() -> Vec<Act> {
    let mut acts = vec![
        Act::Exec { path: "/usr/bin/\u{1b}[31mcurl".into() },
        Act::Connect {
            peer: peer("203.0.113.9", 443),
            name: Some("store.example".into()),
            refused: true,
        },
        Act::Connect { peer: peer("2001:db8::9", 443), name: None, refused: false },
        Act::Listen { port: 8080, protocol: Protocol::UDP },
        Act::Inbound { peer: peer("198.51.100.1", 0), port: 80 },
        Act::Dns { name: "store.example".into() },
        Act::Syscall { name: "socket:AF_PACKET".into() },
    ];
    acts.extend(
        ForbiddenAct::ALL.map(|act| Act::Forbidden { act, object: "/run/docker.sock".into() }),
    );
    acts
}

pub(crate) fn window() -> Window {
    Window {
        start: Timestamp(1_700_000_000_123_456_789),
        step_ms: 5000,
        feature_set: feature_set(5000),
        features: FEATURES.iter().map(|f| (f.id, f64::from(f.id.0) * 1234.5)).collect(),
        arch: Arch::X86_64,
        syscalls: (0..40_u64).map(|n| (format!("system_call_{n}"), n * n * 100 + 1)).collect(),
        bigrams: (0..64_u16).map(|n| ((n, n + 1), u64::from(n) * 1000)).collect(),
        ngrams: (0..300_u16).map(|n| n * 109 + n % 7).collect(),
        runs: vec![vec![0, 1, 2, 231], vec![]],
        peers: (0..16_u16)
            .map(|n| PeerTraffic {
                peer: peer(&format!("198.51.100.{n}"), 1000 + n),
                direction: if n % 2 == 0 { Direction::Outbound } else { Direction::Inbound },
                local_port: n,
                bytes_out: u64::from(n) * 100_000,
                bytes_in: 7,
                packets_out: 100,
                packets_in: 99,
                connections: 3,
            })
            .collect(),
        rest: [1, 2, 3, 4, u64::MAX],
        loss: Loss { by_cause: BTreeMap::from([("quota".into(), 17)]), kept: 1000 },
    }
}

fn observation(body: Body) -> Observation {
    Observation {
        id: EventId { producer: 0xfeed_beef_0000_0001, epoch: 3, sequence: 99 },
        workload: workload(),
        at: Timestamp(1_700_000_005_000_000_001),
        body,
    }
}

pub(crate) fn wishes() -> Vec<Wish> {
    let mut wishes: Vec<Wish> = acts().into_iter().map(Wish::AcceptAct).collect();
    wishes.extend([
        Wish::AcceptAlert(AlertId(7)),
        Wish::RetractAlert(AlertId(u64::MAX)),
        Wish::Mute { alert: AlertId(7), duration: Some(Duration::from_millis(1500)) },
        Wish::Mute { alert: AlertId(7), duration: None },
        Wish::SetMode { mode: Mode::Detect, learn_for: None, until_mature: false },
        Wish::SetMode {
            mode: Mode::Learn,
            learn_for: Some(Duration::from_secs(1800)),
            until_mature: true,
        },
        Wish::SetMode { mode: Mode::Enforce, learn_for: None, until_mature: false },
        Wish::SetBudget(AlertBudget::per_day(2.5).unwrap()),
        Wish::Reset,
    ]);
    wishes
}

fn intent(wish: Wish) -> Observation {
    observation(Body::Intent(Intent { wish, who: "ann".into(), why: "known".into() }))
}

pub(crate) fn intent_record(wish: Wish) -> Outgoing {
    typed::intent(&intent(wish), &signer())
}

fn proposal() -> Proposal {
    Proposal {
        target: Target::Workload(workload()),
        action: Action::Deny("203.0.113.0/24:443/tcp".parse().unwrap()),
    }
}

pub(crate) fn alert(response: Response, review: Review) -> Alert {
    Alert {
        id: AlertId(0xa1e7),
        revision: 4,
        class: AlertClass::Deviation,
        workload: workload(),
        container: Some(key()),
        container_name: "web-1".into(),
        first: Timestamp(1_700_000_005_000_000_001),
        last: Timestamp(1_700_000_015_000_000_001),
        evidence: EventId { producer: 1, epoch: 2, sequence: 3 },
        exceedances: 12,
        closed: false,
        title: "web-1 sent 50 MB to the object store".into(),
        score: Score(12.5),
        threshold: Threshold {
            score: Score(7.25),
            extrapolated: true,
            interval: Some((6.5, 8.0)),
            blocks: 9,
        },
        provisional: true,
        contributions: vec![Contribution {
            view: View::Volume,
            subject: "bytes per connection".into(),
            observed: "52 MB".into(),
            expected: "up to 200 kB".into(),
            share: 1.0,
            act: acts().into_iter().nth(1),
            peer: Some(peer("203.0.113.9", 443)),
        }],
        nearest_normal: "connect store.example".into(),
        process: Some(process()),
        loss_ratio: 0.01,
        baseline_version: 812,
        model_version: "live".into(),
        techniques: vec!["T1048".into()],
        mode: Mode::Enforce,
        proposal: Some(proposal()),
        response,
        review,
    }
}

pub(crate) fn measure() -> Measure {
    Measure {
        id: MeasureId(0xdead),
        cluster: "local".into(),
        target: Target::Container(key()),
        action: Action::Quarantine,
        decider: Decider::Automatic { alert: AlertId(0xa1e7), rung: 2 },
        reason: "web-1 sent 50 MB to the object store".into(),
        created: Timestamp::from_secs(1_700_000_020),
        expires: Timestamp::from_secs(1_700_000_620),
    }
}

fn released() -> MeasureRecord {
    MeasureRecord::Released {
        id: MeasureId(0xdead),
        workload: workload(),
        cluster: "local".into(),
        who: "ann".into(),
        why: "backup".into(),
        at: Timestamp::from_secs(1_700_000_100),
    }
}

pub(crate) fn measure_record(record: &MeasureRecord) -> Outgoing {
    typed::measure(record, &workload(), &signer())
}

fn audit() -> AuditEntry {
    AuditEntry {
        at: Timestamp::from_secs(1_700_000_100),
        node: "harbour".into(),
        who: "ann".into(),
        what: "quarantine add".into(),
        object: "web-1".into(),
        why: "backup".into(),
        result: "done".into(),
    }
}

/// Every record that has a golden file: its name, what it says, and the record.
pub(crate) fn all() -> Vec<(&'static str, String, Outgoing)> {
    let observed = |name, body| {
        let o = observation(body);
        (name, format!("{o:?}"), typed::observation(&o))
    };
    let behaviour = |act| Behaviour { act, process: Some(process()), count: 3 };
    let connect = acts().into_iter().nth(1).unwrap();
    let health = Health {
        node: "harbour".into(),
        condition: Condition::CanaryPassed,
        container: Some(key()),
        detail: "the canary's packet got through".into(),
    };
    let mute = Wish::Mute { alert: AlertId(7), duration: Some(Duration::from_secs(60)) };
    let took = alert(Response::Took(vec![MeasureId(1), MeasureId(2)]), Review::Open);
    let manual = MeasureRecord::Set(Measure {
        target: Target::Workload(workload()),
        action: proposal().action,
        decider: Decider::Manual { who: "ann".into() },
        ..measure()
    });
    let life = |state| InventoryRecord {
        container: container(),
        state,
        at: Timestamp::from_secs(1_700_000_001),
    };
    let snapshot = BaselineSnapshot {
        workload: workload(),
        absorbed: Absorbed { partition: 0, next: 812, floor: 700 },
        at: Timestamp::from_secs(1_700_000_200),
        artifact: b"opaque to the bus".to_vec(),
    };
    let dead = typed::dead_letter(
        &arrived(&typed::audit(&audit(), 1)),
        "detector",
        "harbour",
        "not signed",
        Timestamp::from_secs(1_700_000_300),
    );
    let letter = format!("{:?}", typed::read_dead_letter(&arrived(&dead)).unwrap());
    vec![
        observed("behaviour", Body::Behaviour(key(), behaviour(connect))),
        observed("window", Body::Window(key(), window())),
        observed("started", Body::Started(container())),
        observed("stopped", Body::Stopped(key())),
        observed("health", Body::Health(health)),
        ("intent", format!("{:?}", intent(mute.clone())), intent_record(mute)),
        ("alert", format!("{took:?}"), typed::alert(&took, "detector")),
        (
            "measure-automatic",
            format!("{:?}", MeasureRecord::Set(measure())),
            measure_record(&MeasureRecord::Set(measure())),
        ),
        ("measure-manual", format!("{manual:?}"), measure_record(&manual)),
        ("measure-released", format!("{:?}", released()), measure_record(&released())),
        (
            "inventory-running",
            format!("{:?}", life(LifeState::Running)),
            typed::inventory(&life(LifeState::Running)),
        ),
        (
            "inventory-stopped",
            format!("{:?}", life(LifeState::Stopped)),
            typed::inventory(&life(LifeState::Stopped)),
        ),
        ("baseline", format!("{snapshot:?}"), typed::baseline(&snapshot)),
        ("audit", format!("{:?}", audit()), typed::audit(&audit(), 1)),
        ("dead-letter", letter, dead),
    ]
}

/// The bytes of a record: its value, or what its tombstone tells.
pub(crate) fn content(record: &Outgoing) -> Vec<u8> {
    let tombstone = || record.headers.find("tombstone").unwrap().to_vec();
    record.value.clone().unwrap_or_else(tombstone)
}

/// The same record with other bytes, signed again where it was.
pub(crate) fn with_content(record: &Outgoing, bytes: Vec<u8>) -> Outgoing {
    let mut changed = record.clone();
    match &mut changed.value {
        Some(value) => *value = bytes,
        None => changed.headers.set("tombstone", bytes),
    }
    if record.topic == Topic::Measures || record.headers.find("signature").is_some() {
        signer().sign(&mut changed);
    }
    changed
}
