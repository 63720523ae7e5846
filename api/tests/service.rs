//! The service over its real socket and a real log: who may do what, what is answered, and what ends up in the log.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::client::{Client, ClientError};
use bulkhead_api::credentials::{self, Groups};
use bulkhead_api::follow::{self, FOLLOWED, Trust};
use bulkhead_api::protocol::{
    MeasureKind, RefusalKind, Reply, Request, ReviewAction, TargetSelector,
};
use bulkhead_api::server::Server;
use bulkhead_api::service::{Identity, Service, Shared};
use bulkhead_api::state::State;
use bulkhead_api::writer::Writer;
use bulkhead_bus::embedded::{Config, Embedded};
use bulkhead_bus::{Bus, Signer, Tail, Topic, typed};
use bulkhead_domain::alert::{Alert, AlertClass, AlertId, Response, Review};
use bulkhead_domain::container::{Container, ContainerKey, Engine};
use bulkhead_domain::intent::Wish;
use bulkhead_domain::inventory::{InventoryRecord, LifeState};
use bulkhead_domain::measure::{Action, MeasureRecord, Target};
use bulkhead_domain::observation::Body;
use bulkhead_domain::score::{Score, Threshold};
use bulkhead_domain::verdict::{Rules, VerdictStep};
use bulkhead_domain::view::{BaselineView, EngineView};
use bulkhead_domain::workload::OwnerKind;
use bulkhead_domain::{EventId, Mode, Timestamp, WorkloadName};

/// A detector that knows no workload: what the API shows of one is tested with the real one, end to end.
struct Idle;

impl State for Idle {
    async fn engine(&self) -> Option<EngineView> {
        Some(EngineView::default())
    }

    async fn baseline(&self, _workload: WorkloadName) -> Option<Option<BaselineView>> {
        Some(None)
    }
}

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn clock() -> Timestamp {
    NOW
}

fn signer() -> Signer {
    Signer::from_entropy([7; 32])
}

fn workload() -> WorkloadName {
    WorkloadName {
        cluster: "local".into(),
        scope: "shop".into(),
        kind: OwnerKind::Image,
        owner: "web".into(),
        container: String::new(),
    }
}

fn container() -> Container {
    Container {
        key: ContainerKey {
            node: "n1".into(),
            boot: "b".into(),
            engine_id: "e".repeat(64),
            cgroup: 7,
        },
        workload: workload(),
        engine: Engine::Podman,
        name: "web-1".into(),
        image: "web".into(),
        digest: String::new(),
        cgroup_path: "/web-1".into(),
        pid: 0,
        netns: 0,
        addresses: Vec::new(),
        host_network: false,
        started: NOW,
    }
}

fn alert() -> Alert {
    Alert {
        id: AlertId(0xab),
        revision: 1,
        class: AlertClass::Deviation,
        workload: workload(),
        container: Some(container().key),
        container_name: "web-1".into(),
        first: NOW,
        last: NOW,
        evidence: EventId::default(),
        exceedances: 1,
        closed: false,
        title: "connected to a peer it never met".into(),
        score: Score(9.0),
        threshold: Threshold { score: Score(7.0), extrapolated: false, interval: None, blocks: 10 },
        provisional: false,
        contributions: Vec::new(),
        nearest_normal: String::new(),
        process: None,
        loss_ratio: 0.0,
        baseline_version: 1,
        model_version: "live".into(),
        techniques: Vec::new(),
        mode: Mode::Detect,
        proposal: None,
        response: Response::None,
        review: Review::Open,
    }
}

/// A service in a thread of its own, and the log behind it.
struct Running {
    _directory: tempfile::TempDir,
    socket: PathBuf,
    log: Embedded,
}

fn serve(groups: Groups) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let log = Embedded::open(Config::new(directory.path().join("log"), clock)).unwrap();
    let (bound, ready) = std::sync::mpsc::channel();
    let (path, bus) = (socket.clone(), log.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&path, groups, bus, &bound));
    });
    ready.recv().unwrap();
    Running { _directory: directory, socket, log }
}

async fn run(path: &Path, groups: Groups, bus: Embedded, bound: &std::sync::mpsc::Sender<()>) {
    let (shared, log) = (Arc::new(Shared::default()), bus.clone());
    let trust = Trust { verifier: signer().verifier(), cluster: "local".into() };
    for topic in FOLLOWED {
        tokio::spawn(follow::partition(bus.clone(), topic, 0, trust.clone(), Arc::clone(&shared)));
    }
    let service = Service {
        state: Idle,
        identity: Identity {
            version: "0.0.0".into(),
            cluster: "local".into(),
            node: "n1".into(),
            started: NOW,
            manual_ttl: Duration::from_secs(3600),
            rules: Rules::default(),
        },
        shared,
        writer: Writer::new(bus, signer(), EventId { producer: 9, epoch: 1, sequence: 0 }),
        clock,
        nonce: || 42,
        health: Box::new(move || log.health()),
    };
    let server = Server::bind(path, groups).unwrap();
    bound.send(()).unwrap();
    server.run(Arc::new(service)).await;
}

/// Groups by whose number this process may write, whoever runs the test.
fn mine() -> Groups {
    let gid = nix::unistd::Gid::effective().to_string();
    Groups { read: gid.clone(), write: gid }
}

fn ask(running: &Running, request: Request) -> Result<Reply, ClientError> {
    Client::connect(&running.socket).unwrap().call(request)
}

/// Asks until the answer satisfies: the ledger follows the log a moment later.
fn ask_until(running: &Running, request: &Request, done: impl Fn(&Reply) -> bool) -> Reply {
    for _ in 0..600 {
        if let Ok(reply) = ask(running, request.clone())
            && done(&reply)
        {
            return reply;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no such answer to {request:?}");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn records(running: &Running, topic: Topic) -> Vec<bulkhead_bus::Record> {
    block_on(async { Tail::new(running.log.clone(), topic, 0, 0).poll().await.unwrap().records })
}

fn stock(running: &Running) {
    let word = InventoryRecord { container: container(), state: LifeState::Running, at: NOW };
    block_on(async {
        running
            .log
            .publish(vec![typed::inventory(&word), typed::alert(&alert(), "detector")])
            .await
            .unwrap();
    });
    ask_until(
        running,
        &Request::Containers,
        |r| matches!(r, Reply::Containers(list) if list.len() == 1),
    );
    ask_until(running, &Request::Alert { id: "a-00".into() }, |_| true);
}

#[test]
fn a_manual_deny_is_signed_listed_explained_and_ended() {
    let running = serve(mine());
    stock(&running);
    let deny = Request::Deny {
        target: TargetSelector::Container("web-1".into()),
        peer: "198.51.100.7:443/tcp".parse().unwrap(),
        ttl: None,
        why: "suspicious".into(),
    };
    let Reply::Done { measure: Some(id), workload: of, .. } = ask(&running, deny).unwrap() else {
        panic!()
    };
    assert_eq!(of, workload());

    let records_before = records(&running, Topic::Measures);
    let MeasureRecord::Set(measure) =
        typed::read_measure(&records_before[0], &signer().verifier(), "local").unwrap()
    else {
        panic!()
    };
    assert_eq!(measure.target, Target::Container(container().key));
    assert_eq!(measure.action, Action::Deny("198.51.100.7:443/tcp".parse().unwrap()));
    assert_eq!(measure.expires, NOW.plus(Duration::from_secs(3600)), "the configured default");
    assert!(measure.is_manual());

    let listed = Request::Measures { kind: Some(MeasureKind::Deny) };
    ask_until(&running, &listed, |r| matches!(r, Reply::Measures(l) if l.len() == 1));
    let peer = bulkhead_domain::net::Peer {
        address: "198.51.100.7".parse().unwrap(),
        port: 443,
        protocol: bulkhead_domain::net::Protocol::TCP,
    };
    let why = Request::Why { container: "eeeeee".into(), peer };
    let Reply::Why(answer) = ask(&running, why.clone()).unwrap() else { panic!() };
    assert_eq!((answer.step, answer.passes), (VerdictStep::ManualLease, false));
    assert_eq!(answer.measure.map(|m| m.id), Some(id));
    assert!(answer.sentence.contains(&format!("bulkhead deny remove {id}")));

    ask(&running, Request::Release { id, why: "cleared".into() }).unwrap();
    ask_until(&running, &listed, |r| matches!(r, Reply::Measures(l) if l.is_empty()));
    let Reply::Why(answer) = ask(&running, why).unwrap() else { panic!() };
    assert_eq!((answer.step, answer.passes), (VerdictStep::Default, true));

    let audit: Vec<_> = records(&running, Topic::Audit)
        .iter()
        .map(|r| typed::read_audit(r).unwrap())
        .map(|a| (a.why, a.result))
        .collect();
    assert_eq!(
        audit,
        [("suspicious".to_owned(), "done".to_owned()), ("cleared".into(), "done".into())]
    );
}

#[test]
fn reviews_and_modes_become_signed_intents_of_the_workload_in_order() {
    let running = serve(mine());
    stock(&running);
    let review = |review| Request::Review { id: "ab".into(), review, why: String::new() };
    // An alert's id is found by its beginning, so a middle part is not enough.
    assert!(matches!(
        ask(&running, review(ReviewAction::Accept)),
        Err(ClientError::Refused(r)) if r.kind == RefusalKind::Unknown
    ));
    let review =
        |review| Request::Review { id: "a-00000000000000ab".into(), review, why: String::new() };
    ask(&running, review(ReviewAction::Accept)).unwrap();
    ask(&running, review(ReviewAction::Unmute)).unwrap();
    let mode =
        Request::SetMode { workload: "web".into(), mode: Mode::Enforce, why: "ready".into() };
    ask(&running, mode).unwrap();

    let verifier = signer().verifier();
    let seen: Vec<_> = records(&running, Topic::Observations)
        .iter()
        .map(|r| typed::read_observation(r, &verifier).unwrap())
        .collect();
    assert!(seen.windows(2).all(|pair| pair[0].id < pair[1].id), "readers drop what goes back");
    assert!(seen.iter().all(|o| o.workload == workload() && o.at == NOW));
    let wishes: Vec<_> = seen
        .into_iter()
        .map(|o| match o.body {
            Body::Intent(intent) => intent.wish,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        wishes,
        [
            Wish::AcceptAlert(AlertId(0xab)),
            Wish::Mute { alert: AlertId(0xab), duration: Some(Duration::ZERO) },
            Wish::SetMode { mode: Mode::Enforce, learn_for: None, until_mature: false },
        ]
    );
}

#[test]
fn who_is_in_no_group_may_do_nothing_and_readers_may_not_write() {
    if nix::unistd::Uid::effective().is_root() {
        // Root is never refused; the table of rights is tested in `credentials`, which any user runs.
        assert!(credentials::caller(0, 0, &Groups::default()).right == credentials::Right::Write);
        return;
    }
    let nobody = Groups { read: "3999999999".into(), write: "3999999998".into() };
    let running = serve(nobody);
    // The service's own user may read, and no more.
    ask(&running, Request::Status).unwrap();
    let mode = Request::SetMode { workload: "web".into(), mode: Mode::Learn, why: String::new() };
    assert!(matches!(
        ask(&running, mode),
        Err(ClientError::Refused(r)) if r.kind == RefusalKind::Forbidden
    ));
}

#[test]
fn a_follower_waits_for_the_next_alert_and_gets_it_once() {
    let running = serve(mine());
    let ask_after = |cursor, wait| Request::AlertsAfter { cursor, wait };
    let Reply::Alerts { cursor, .. } = ask(&running, ask_after(None, Duration::ZERO)).unwrap()
    else {
        panic!()
    };
    let socket = running.socket.clone();
    let follower = std::thread::spawn(move || {
        let request = ask_after(Some(cursor), Duration::from_secs(30));
        Client::connect(&socket).unwrap().call(request).unwrap()
    });
    stock(&running);
    let Reply::Alerts { alerts, cursor } = follower.join().unwrap() else { panic!() };
    assert_eq!(alerts.iter().map(|a| a.id).collect::<Vec<_>>(), [AlertId(0xab)]);
    let again = ask_after(Some(cursor), Duration::ZERO);
    let Reply::Alerts { alerts, .. } = ask(&running, again).unwrap() else { panic!() };
    assert!(alerts.is_empty());
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_written() {
    let running = serve(mine());
    stock(&running);
    for (request, kind) in [
        (
            Request::Quarantine {
                target: TargetSelector::Workload("nope".into()),
                ttl: None,
                why: String::new(),
            },
            RefusalKind::Unknown,
        ),
        (
            Request::Quarantine {
                target: TargetSelector::Workload("web".into()),
                ttl: Some(Duration::ZERO),
                why: String::new(),
            },
            RefusalKind::Invalid,
        ),
        (
            Request::Quarantine {
                target: TargetSelector::Workload("web".into()),
                ttl: None,
                why: "x".repeat(5000),
            },
            RefusalKind::Invalid,
        ),
        (
            Request::Learn {
                workload: "web".into(),
                learn_for: Some(Duration::from_secs(u64::MAX / 2)),
                until_mature: false,
                reset: true,
                why: String::new(),
            },
            RefusalKind::Invalid,
        ),
        (
            Request::Release { id: bulkhead_domain::MeasureId(1), why: String::new() },
            RefusalKind::Unknown,
        ),
    ] {
        match ask(&running, request) {
            Err(ClientError::Refused(refusal)) => assert_eq!(refusal.kind, kind),
            other => panic!("{other:?}"),
        }
    }
    assert!(records(&running, Topic::Measures).is_empty());
    assert!(records(&running, Topic::Audit).is_empty());
}

#[test]
fn bytes_that_are_no_request_get_an_answer_and_hurt_nobody() {
    use std::io::{Read as _, Write as _};
    let running = serve(mine());
    for bytes in [&b"\x00\x00\x00\x04{]}["[..], b"\xff\xff\xff\xff", b"\x00\x00"] {
        let mut stream = std::os::unix::net::UnixStream::connect(&running.socket).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(bytes.len() == 2 || String::from_utf8_lossy(&answer).contains("invalid"));
    }
    ask(&running, Request::Status).unwrap();
}
