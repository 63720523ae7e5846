//! From a signed measure in the log to a refused packet, and back: real guards, a real log, a container made of a cgroup
//! and a namespace.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bulkhead_bus::{Bus as _, Embedded, Outgoing, Record, Signer, Topic, embedded, typed};
use bulkhead_domain::container::{Container, ContainerKey, Engine};
use bulkhead_domain::health::Condition;
use bulkhead_domain::inventory::{InventoryRecord, LifeState};
use bulkhead_domain::measure::{Action, Decider, Measure, MeasureId, MeasureRecord, Target};
use bulkhead_domain::observation::Body;
use bulkhead_domain::verdict::Rules;
use bulkhead_domain::workload::OwnerKind;
use bulkhead_domain::{Timestamp, WorkloadName};
use bulkhead_enforcer::Config;
use bulkhead_enforcer::run::{RunError, Standing, run};
use bulkhead_loader::guard::Guard;
use bulkhead_tests::netns::Netns;
use bulkhead_tests::requirement::{Need, cgroup2, met};
use bulkhead_tests::scratch::{container_id, unique};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const DENIED: &str = "203.0.113.7";
const FREE: &str = "203.0.113.8";
/// Long enough for a stopped machine; nothing waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node with one container, and a log.
struct Node {
    root: PathBuf,
    container: Container,
    netns: Netns,
    config: Config,
    bus: Embedded,
    signer: Signer,
    _dirs: [tempfile::TempDir; 2],
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = Guard::uninstall(&self.config.pins);
        for directory in
            [self.root.join("web"), self.root.join("bulkhead-canary"), self.root.clone()]
        {
            // What has just ended there may still be leaving.
            for _ in 0..50 {
                if !directory.exists() || fs::remove_dir(&directory).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn clock() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(now.as_nanos()).unwrap())
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

impl Node {
    fn make(group: &str) -> Option<Self> {
        if !met(group, &[Need::Root, Need::Bpf, Need::Cgroup2, Need::Netns]) {
            return None;
        }
        let mount = cgroup2().unwrap();
        let root = mount.join(format!("bh-enforce-{}", unique()));
        fs::create_dir_all(root.join("web")).unwrap();
        let netns = Netns::new("enforce").unwrap();
        for address in [DENIED, FREE] {
            netns.add_address(address.parse::<std::net::IpAddr>().unwrap()).unwrap();
        }
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let config = Config {
            cluster: "local".into(),
            node: "n1".into(),
            boot: "boot-1".into(),
            state: dirs[0].path().into(),
            pins: PathBuf::from(format!("/sys/fs/bpf/bh-enforce-{}", unique())),
            cgroup_mount: mount.clone(),
            cgroup_root: root.clone(),
            cgroup_parents: Vec::new(),
            hold: Duration::from_secs(5),
            rules: Rules::default(),
            measures_max: 8,
        };
        let container = Container {
            key: ContainerKey {
                node: "n1".into(),
                boot: "boot-1".into(),
                engine_id: container_id(),
                cgroup: root.join("web").metadata().unwrap().ino(),
            },
            workload: workload(),
            engine: Engine::Podman,
            name: "web-1".into(),
            image: "web".into(),
            digest: String::new(),
            cgroup_path: format!("/{}/web", root.file_name().unwrap().to_str().unwrap()),
            pid: 0,
            netns: netns.path().metadata().unwrap().ino(),
            addresses: Vec::new(),
            host_network: false,
            started: Timestamp(0),
        };
        let bus = Embedded::open(embedded::Config::new(dirs[1].path(), clock)).unwrap();
        let signer = Signer::from_entropy([7; 32]);
        Some(Self { root, container, netns, config, bus, signer, _dirs: dirs })
    }

    fn start(&self, standing: Standing) -> (oneshot::Sender<()>, JoinHandle<Result<(), RunError>>) {
        let (stop, stopped) = oneshot::channel::<()>();
        let (bus, verifier) = (self.bus.clone(), self.signer.verifier());
        let task = tokio::spawn(run(standing, bus, verifier, async {
            let _ = stopped.await;
        }));
        (stop, task)
    }

    /// One at a time: the self-test's socket is made by moving this whole process for a moment.
    fn prepare(&self) -> Standing {
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Standing::prepare(self.config.clone()).unwrap()
    }

    fn measure(id: u64, target: Target, action: Action) -> Measure {
        Measure {
            id: MeasureId(id),
            cluster: "local".into(),
            target,
            action,
            decider: Decider::Manual { who: "ada".into() },
            reason: "a test".into(),
            created: clock(),
            expires: clock().plus(Duration::from_secs(600)),
        }
    }

    fn deny(id: u64) -> Measure {
        Self::measure(id, Target::Workload(workload()), Action::Deny(DENIED.parse().unwrap()))
    }

    async fn publish(&self, record: Outgoing) {
        self.bus.publish(vec![record]).await.unwrap();
    }

    async fn set(&self, measure: Measure) {
        let record = typed::measure(&MeasureRecord::Set(measure), &workload(), &self.signer);
        self.publish(record).await;
    }

    async fn release(&self, id: u64) {
        let released = MeasureRecord::Released {
            id: MeasureId(id),
            workload: workload(),
            cluster: "local".into(),
            who: "ada".into(),
            why: "over".into(),
            at: clock(),
        };
        self.publish(typed::measure(&released, &workload(), &self.signer)).await;
    }

    async fn inventory(&self, state: LifeState) {
        let record = InventoryRecord { container: self.container.clone(), state, at: clock() };
        self.publish(typed::inventory(&record)).await;
    }

    /// Whether a datagram to that peer is let out of the container.
    fn sends(&self, peer: &str) -> bool {
        let script = format!(
            "echo 0 > {}/cgroup.procs && exec bash -c 'echo x > /dev/udp/{peer}/9000' 2>/dev/null",
            self.root.join("web").display()
        );
        self.netns.command("sh").args(["-c", &script]).status().unwrap().success()
    }

    async fn until(what: &str, reached: impl Fn() -> bool) {
        let until = tokio::time::Instant::now() + PATIENCE;
        while !reached() {
            assert!(tokio::time::Instant::now() < until, "never happened: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn records(&self, topic: Topic) -> Vec<Record> {
        let mut all = Vec::new();
        for partition in 0..self.bus.partitions(topic).await.unwrap() {
            all.extend(self.bus.fetch(topic, partition, 0).await.unwrap().records);
        }
        all
    }

    /// Measures in force, the self-test's aside.
    fn in_force(&self) -> Vec<u64> {
        let (rules, _) = Guard::open(&self.config.pins).unwrap().rules();
        let canary = bulkhead_enforcer::canary::MEASURE;
        rules.iter().map(|r| r.measure).filter(|id| *id != canary).collect()
    }

    fn audit(&self) -> String {
        fs::read_to_string(self.config.state.join("audit.jsonl")).unwrap()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_signed_measure_becomes_a_refused_packet_and_its_release_ends_it() {
    let Some(node) = Node::make("enforcer") else { return };
    runtime().block_on(async {
        let (stop, task) = node.start(node.prepare());
        node.inventory(LifeState::Running).await;
        Node::until("named", || {
            let guard = Guard::open(&node.config.pins).unwrap();
            guard.slot(node.container.key.cgroup).unwrap().is_some()
        })
        .await;
        assert!(node.sends(DENIED) && node.sends(FREE));
        node.set(Node::deny(1)).await;
        Node::until("in force", || node.in_force() == [1]).await;
        assert!(!node.sends(DENIED) && node.sends(FREE));
        node.set(Node::measure(
            2,
            Target::Container(node.container.key.clone()),
            Action::Quarantine,
        ))
        .await;
        Node::until("quarantined", || node.in_force().len() == 2).await;
        assert!(!node.sends(FREE));
        node.release(2).await;
        Node::until("released", || node.in_force() == [1]).await;
        assert!(!node.sends(DENIED) && node.sends(FREE));
        let text = node.audit();
        for words in ["apply m-0000000000000001", "release m-0000000000000002", "\"ada\"", "a test"]
        {
            assert!(text.contains(words), "{words} in {text}");
        }
        drop(stop);
        task.await.unwrap().unwrap();
    });
    assert!(!node.sends(DENIED), "guards are pinned: they outlive the loop");
}

#[test]
fn what_is_not_signed_or_of_another_cluster_is_refused_and_goes_to_the_dead_letters() {
    let Some(node) = Node::make("enforcer") else { return };
    runtime().block_on(async {
        let (stop, task) = node.start(node.prepare());
        let stranger = Signer::from_entropy([8; 32]);
        let forged = MeasureRecord::Set(Node::deny(1));
        node.publish(typed::measure(&forged, &workload(), &stranger)).await;
        let foreign = Measure { cluster: "other".into(), ..Node::deny(2) };
        node.set(foreign).await;
        node.set(Node::deny(3)).await;
        Node::until("the good one is in force", || node.in_force() == [3]).await;
        let until = tokio::time::Instant::now() + PATIENCE;
        while node.records(Topic::Deadletter).await.len() < 2 {
            assert!(tokio::time::Instant::now() < until, "no dead letters");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(stop);
        task.await.unwrap().unwrap();
    });
}

#[test]
fn a_restart_takes_over_and_a_reboot_reinstalls() {
    let Some(mut node) = Node::make("enforcer") else { return };
    runtime().block_on(async {
        let (stop, task) = node.start(node.prepare());
        node.set(Node::deny(1)).await;
        Node::until("in force", || node.in_force() == [1]).await;
        Node::until("remembered", || ledger(&node.config.state).contains("m-0000000000000001"))
            .await;
        drop(stop);
        task.await.unwrap().unwrap();
    });
    let ends = |node: &Node| Guard::open(&node.config.pins).unwrap().rules().0[0].expires_ns;
    let before = ends(&node);
    drop(node.prepare());
    assert_eq!((node.in_force(), ends(&node)), (vec![1], before), "nothing is doubled or moved");
    // A reboot: the pins are gone, and boot time begins anew.
    Guard::uninstall(&node.config.pins).unwrap();
    node.config.boot = "boot-2".into();
    drop(node.prepare());
    assert_eq!(node.in_force(), [1]);
    assert!(ends(&node).abs_diff(before) < 5_000_000_000, "what is left of it is reinstalled");
}

#[test]
fn what_a_person_disarmed_with_every_daemon_dead_does_not_come_back() {
    let Some(node) = Node::make("enforcer") else { return };
    runtime().block_on(async {
        let (stop, task) = node.start(node.prepare());
        node.set(Node::deny(1)).await;
        Node::until("in force", || node.in_force() == [1]).await;
        drop(stop);
        task.await.unwrap().unwrap();
        assert_eq!(Guard::open(&node.config.pins).unwrap().disarm(None, &[]).unwrap(), [1]);
        let (stop, task) = node.start(node.prepare());
        // The log still says it, and says another after it.
        node.set(Node::deny(2)).await;
        Node::until("the later one is in force", || node.in_force() == [2]).await;
        // While the loop runs, too.
        Guard::open(&node.config.pins).unwrap().disarm(Some(2), &[]).unwrap();
        Node::until("heard", || node.audit().contains("disarm m-0000000000000002")).await;
        assert!(node.in_force().is_empty());
        drop(stop);
        task.await.unwrap().unwrap();
    });
}

#[test]
fn the_self_test_is_refused_and_says_so() {
    let Some(node) = Node::make("enforcer") else { return };
    runtime().block_on(async {
        let (stop, task) = node.start(node.prepare());
        let until = tokio::time::Instant::now() + PATIENCE;
        let verifier = node.signer.verifier();
        loop {
            let told = node.records(Topic::Observations).await.iter().any(|record| {
                let observation = typed::read_observation(record, &verifier).unwrap();
                matches!(observation.body, Body::Health(h) if h.condition == Condition::CanaryRefused)
            });
            if told {
                break;
            }
            assert!(tokio::time::Instant::now() < until, "the self-test said nothing");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(node.in_force().is_empty(), "its lease lasts only while it is tried");
        drop(stop);
        task.await.unwrap().unwrap();
    });
}

fn ledger(state: &Path) -> String {
    fs::read_to_string(state.join("ledger.json")).unwrap_or_default()
}
