//! The loop on a real log: killed anywhere and started again it says the same things, each once.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../simulated/shop.rs"]
#[expect(dead_code, reason = "this suite needs a part of the simulated shop")]
mod shop;

use std::collections::BTreeSet;
use std::time::Duration;

use bulkhead_bus::embedded::{self, Embedded};
use bulkhead_bus::{Bus as _, Outgoing, Record, Signer, Tail, Topic, typed};
use bulkhead_detector::query::{self, Asker};
use bulkhead_detector::run::{GROUP, RunError, Settings, run};
use bulkhead_domain::behaviour::{Act, ForbiddenAct};
use bulkhead_domain::intent::{Intent, Wish};
use bulkhead_domain::observation::Body;
use bulkhead_domain::view::EngineView;
use bulkhead_domain::{Mode, Observation, Timestamp};
use tokio::task::JoinHandle;

use shop::{Role, Shop, short_run};

fn still() -> Timestamp {
    Timestamp(0)
}

fn signer() -> Signer {
    Signer::from_entropy([5; 32])
}

struct Rig {
    log: Embedded,
    running: Option<(JoinHandle<Result<(), RunError>>, Asker)>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Embedded::open(embedded::Config::new(dir.path(), still)).unwrap();
        Self { log, running: None, _dir: dir }
    }

    fn start(&mut self) {
        let settings = Settings {
            engine: short_run(),
            verifier: signer().verifier(),
            node: "n1".into(),
            clock: still,
        };
        let (asker, queries) = query::channel();
        self.running = Some((tokio::spawn(run(self.log.clone(), settings, queries)), asker));
    }

    /// Ends the loop wherever it is: what it knew and did not write is gone.
    async fn kill(&mut self) {
        let (running, _) = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
        // A killed process writes no more; here a write that it had handed over may still be under way.
        self.log.publish(Vec::new()).await.unwrap();
    }

    async fn publish(&self, log: &[Observation]) {
        for part in log.chunks(200) {
            let records: Vec<Outgoing> = part.iter().map(typed::observation).collect();
            self.log.publish(records).await.unwrap();
        }
    }

    async fn view(&self) -> EngineView {
        self.running.as_ref().unwrap().1.engine().await.unwrap()
    }

    /// Waits until the loop has committed all that was published.
    async fn settled(&self) {
        let end = self.log.fetch(Topic::Observations, 0, 0).await.unwrap().high_watermark;
        while self.log.committed(GROUP, Topic::Observations, 0).await.unwrap() != Some(end) {
            assert!(!self.running.as_ref().unwrap().0.is_finished(), "the loop ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn records(&self, topic: Topic) -> Vec<Record> {
        let mut tail = Tail::new(self.log.clone(), topic, 0, 0);
        let mut all = Vec::new();
        loop {
            let batch = tail.poll().await.unwrap();
            if batch.records.is_empty() {
                return all;
            }
            all.extend(batch.records);
        }
    }

    async fn alerts(&self) -> Vec<Vec<u8>> {
        self.records(Topic::Alerts).await.into_iter().filter_map(|r| r.value).collect()
    }
}

/// Learning, an attack, a restart, and the quiet after it.
fn recorded() -> Vec<Observation> {
    let mut shop = Shop::open(short_run(), 3, true);
    shop.learn();
    shop.run(20);
    let act = ForbiddenAct::ShellOnSocket;
    let shell = Act::Forbidden { act, object: "/bin/sh".into() };
    shop.act(Role::App1, shell, Some(Shop::own("/bin/sh", "/usr/bin/server")));
    shop.run(30);
    shop.restart(Role::App1);
    shop.run(100);
    shop.log
}

#[tokio::test]
async fn killed_anywhere_it_says_the_same_things_each_once() {
    let log = recorded();
    let mut whole = Rig::new();
    whole.start();
    whole.publish(&log).await;
    whole.settled().await;
    let expected = whole.alerts().await;
    assert!(expected.len() >= 2, "there is something to say: {}", expected.len());

    for seed in 1..=4_usize {
        let mut broken = Rig::new();
        broken.start();
        let mut from = 0;
        let mut kills = 0;
        while from < log.len() {
            let until = (from + 37 * seed + log.len() / 12).min(log.len());
            broken.publish(&log[from..until]).await;
            // Let it get somewhere, not always equally far.
            for _ in 0..(kills * seed) % 50 {
                tokio::task::yield_now().await;
            }
            if kills % 2 == 0 {
                tokio::time::sleep(Duration::from_millis(3 * seed as u64)).await;
            }
            broken.kill().await;
            broken.start();
            kills += 1;
            from = until;
        }
        broken.settled().await;
        assert!(kills >= 3, "{kills}");
        assert!(
            broken.alerts().await == expected,
            "seed {seed}: {} and {}",
            broken.alerts().await.len(),
            expected.len()
        );
        let (one, other) = (whole.view().await, broken.view().await);
        assert!(one.workloads == other.workloads, "seed {seed}: the state is the same");
    }
}

#[tokio::test]
async fn without_snapshots_that_read_it_rebuilds_from_the_log_and_repeats_nothing() {
    let mut rig = Rig::new();
    rig.start();
    rig.publish(&recorded()).await;
    rig.settled().await;
    let (said, knew) = (rig.alerts().await, rig.view().await);
    assert!(said.len() >= 2);
    rig.kill().await;
    for record in rig.records(Topic::Baselines).await {
        let mut snapshot = typed::read_baseline(&record).unwrap();
        snapshot.artifact = b"of another layout".to_vec();
        snapshot.absorbed.floor = 0;
        rig.log.publish(vec![typed::baseline(&snapshot)]).await.unwrap();
    }
    rig.start();
    assert!(rig.view().await.workloads == knew.workloads, "the state is the same");
    rig.settled().await;
    assert!(rig.alerts().await == said, "nothing is said again");
}

#[tokio::test]
async fn no_learning_is_lost_by_a_kill() {
    let mut shop = Shop::open(short_run(), 3, true);
    shop.run(60);
    let mut rig = Rig::new();
    rig.start();
    rig.publish(&shop.log).await;
    rig.kill().await;
    rig.start();
    rig.settled().await;
    assert!(rig.view().await.workloads == shop.engine.view().workloads, "the state is the same");
}

#[tokio::test]
async fn snapshots_bound_what_a_takeover_reads() {
    let log = recorded();
    let mut rig = Rig::new();
    rig.start();
    rig.publish(&log).await;
    rig.settled().await;
    let snapshots = rig.records(Topic::Baselines).await;
    let floors: Vec<u64> =
        snapshots.iter().map(|r| typed::read_baseline(r).unwrap().absorbed.floor).collect();
    let names: BTreeSet<Vec<u8>> = snapshots.into_iter().map(|r| r.key).collect();
    assert!(names.len() > 3, "every workload has one");
    let floor = floors.into_iter().max().unwrap();
    assert!(floor as usize > log.len() / 2, "{floor} of {}", log.len());
}

fn intent(mode: Mode, sequence: u64) -> Observation {
    let wish = Wish::SetMode { mode, learn_for: None, until_mature: false };
    Observation {
        id: bulkhead_domain::EventId { producer: 99, epoch: 1, sequence },
        workload: Shop::workload(Role::App1),
        at: Timestamp::from_secs(1_800_000_500),
        body: Body::Intent(Intent { wish, who: "ann".into(), why: "because".into() }),
    }
}

#[tokio::test]
async fn an_intent_counts_when_it_is_signed_and_is_filed_when_it_is_not() {
    let shop = Shop::open(short_run(), 3, true);
    let mut rig = Rig::new();
    rig.start();
    rig.publish(&shop.log).await;
    rig.publish(&[intent(Mode::Enforce, 1)]).await;
    rig.settled().await;
    let mode = |view: &EngineView| {
        view.workloads.iter().find(|w| w.name == Shop::workload(Role::App1)).unwrap().mode
    };
    assert_eq!(mode(&rig.view().await), Mode::Learn);
    let letters = rig.records(Topic::Deadletter).await;
    let letter = typed::read_dead_letter(&letters[0]).unwrap();
    assert!(letter.reason.contains("not signed"), "{}", letter.reason);

    let signed = typed::intent(&intent(Mode::Enforce, 2), &signer());
    rig.log.publish(vec![signed]).await.unwrap();
    rig.settled().await;
    assert_eq!(mode(&rig.view().await), Mode::Enforce);
    let audit = rig.records(Topic::Audit).await;
    assert_eq!(typed::read_audit(audit.last().unwrap()).unwrap().what, "mode enforce (was learn)");
}

#[tokio::test]
async fn noise_in_the_log_is_filed_once_and_stops_nothing() {
    let mut rig = Rig::new();
    rig.start();
    let shop = Shop::open(short_run(), 3, true);
    let mut noise = typed::observation(&shop.log[0]);
    noise.value = Some(vec![0xff; 40]);
    rig.log.publish(vec![noise]).await.unwrap();
    rig.publish(&shop.log).await;
    rig.settled().await;
    rig.kill().await;
    rig.start();
    rig.publish(&[intent(Mode::Detect, 1)]).await;
    rig.settled().await;
    assert!(!rig.view().await.workloads.is_empty());
    assert_eq!(rig.records(Topic::Deadletter).await.len(), 2, "the noise, and the unsigned intent");
}
