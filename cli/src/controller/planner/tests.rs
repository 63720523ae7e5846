//! The planner's loop on a real log: what it writes, and that it writes it once.

use bulkhead_bus::embedded::{self, Embedded};
use bulkhead_domain::alert::{AlertClass, Review};
use bulkhead_domain::container::ContainerKey;
use bulkhead_domain::guardrail::Guardrails;
use bulkhead_domain::measure::{Action, Proposal, Target};
use bulkhead_domain::score::{Score, Threshold};
use bulkhead_domain::workload::OwnerKind;
use bulkhead_domain::{EventId, WorkloadName};
use tokio::task::JoinHandle;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

fn workload() -> WorkloadName {
    WorkloadName {
        cluster: "local".into(),
        scope: "shop".into(),
        kind: OwnerKind::Service,
        owner: "web".into(),
        container: String::new(),
    }
}

fn alert(number: u64, peer: &str) -> Alert {
    Alert {
        id: AlertId(number),
        revision: 1,
        class: AlertClass::Deviation,
        workload: workload(),
        container: Some(ContainerKey {
            node: "n1".into(),
            boot: "b".into(),
            engine_id: "c1".into(),
            cgroup: 7,
        }),
        container_name: "web-1".into(),
        first: now(),
        last: now(),
        evidence: EventId::default(),
        exceedances: 1,
        closed: false,
        title: "connect to a peer never seen".into(),
        score: Score(9.0),
        threshold: Threshold { score: Score(5.0), extrapolated: false, interval: None, blocks: 9 },
        provisional: false,
        contributions: Vec::new(),
        nearest_normal: String::new(),
        process: None,
        loss_ratio: 0.0,
        baseline_version: 1,
        model_version: "live".into(),
        techniques: Vec::new(),
        mode: Mode::Enforce,
        proposal: Some(Proposal {
            target: Target::Workload(workload()),
            action: Action::Deny(peer.parse().unwrap()),
        }),
        response: Response::None,
        review: Review::Open,
    }
}

/// A log, a planner on it, and the key it signs with.
struct Rig {
    log: Embedded,
    signer: Signer,
    guardrails: Guardrails,
    running: Option<JoinHandle<Result<(), BusError>>>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new(guardrails: Guardrails) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Embedded::open(embedded::Config::new(dir.path(), now)).unwrap();
        let signer = Signer::from_entropy([3; 32]);
        let mut rig = Self { log, signer, guardrails, running: None, _dir: dir };
        rig.start();
        rig
    }

    fn start(&mut self) {
        let settings = Settings {
            cluster: "local".into(),
            guardrails: self.guardrails.clone(),
            node_critical: Vec::new(),
        };
        let planner = Planner::new(settings, self.signer.clone(), "n1".into());
        self.running = Some(tokio::spawn(run(self.log.clone(), planner, now)));
    }

    async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
    }

    async fn publish(&self, alert: &Alert) {
        self.log.publish(vec![typed::alert(alert, "detector")]).await.unwrap();
    }

    /// Waits until everything that was published has been planned for, the planner's own copies included.
    async fn settled(&self) {
        loop {
            let end = self.log.fetch(Topic::Alerts, 0, 0).await.unwrap().high_watermark;
            if self.log.committed(PLANNER, Topic::Alerts, 0).await.unwrap() == Some(end) {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn records(&self, topic: Topic) -> Vec<Record> {
        self.log.fetch(topic, 0, 0).await.unwrap().records
    }

    async fn measures(&self) -> Vec<Measure> {
        let verifier = self.signer.verifier();
        let records = self.records(Topic::Measures).await;
        records
            .iter()
            .filter_map(|r| match typed::read_measure(r, &verifier, "local").ok()? {
                MeasureRecord::Set(measure) => Some(measure),
                MeasureRecord::Released { .. } => None,
            })
            .collect()
    }

    async fn latest_response(&self) -> Response {
        let records = self.records(Topic::Alerts).await;
        typed::read_alert(records.last().unwrap()).unwrap().response
    }
}

#[tokio::test]
async fn an_alert_becomes_a_signed_measure_an_audit_entry_and_a_response() {
    let rig = Rig::new(Guardrails::default());
    rig.publish(&alert(1, "203.0.113.9")).await;
    rig.settled().await;
    let measures = rig.measures().await;
    assert_eq!(measures.len(), 1);
    assert_eq!(measures[0].expires, now().plus(Duration::from_secs(600)));
    assert_eq!(rig.latest_response().await, Response::Took(vec![measures[0].id]));
    let audit = rig.records(Topic::Audit).await;
    let entry = typed::read_audit(&audit[0]).unwrap();
    assert_eq!((audit.len(), entry.who.as_str()), (1, "planner"));
    assert!(entry.what.starts_with("deny 203.0.113.9"), "{}", entry.what);
}

#[tokio::test]
async fn the_next_revision_is_told_what_was_taken_and_nothing_is_taken_twice() {
    let mut rig = Rig::new(Guardrails::default());
    rig.publish(&alert(1, "203.0.113.9")).await;
    rig.settled().await;
    rig.stop().await;
    rig.publish(&Alert { revision: 2, ..alert(1, "203.0.113.9") }).await;
    rig.start();
    rig.settled().await;
    let measures = rig.measures().await;
    assert_eq!(measures.len(), 1);
    assert_eq!(rig.latest_response().await, Response::Took(vec![measures[0].id]));
    assert_eq!(rig.records(Topic::Alerts).await.len(), 4, "two revisions, each told once");
}

#[tokio::test]
async fn a_guardrail_counts_what_the_same_batch_has_decided() {
    let mut rig = Rig::new(Guardrails { measures_per_minute_max: 2, ..Guardrails::default() });
    rig.stop().await;
    let batch = (1..=5).map(|n| typed::alert(&alert(n, &format!("203.0.113.{n}")), "detector"));
    rig.log.publish(batch.collect()).await.unwrap();
    rig.start();
    rig.settled().await;
    assert_eq!(rig.measures().await.len(), 2);
    let response = rig.latest_response().await;
    assert!(
        matches!(&response, Response::HeldBack { reason, .. } if reason.contains("at most 2")),
        "{response:?}"
    );
}

#[tokio::test]
async fn what_is_held_back_is_told_with_every_revision_and_audited_once() {
    let rig = Rig::new(Guardrails { protect: vec!["web".into()], ..Guardrails::default() });
    for revision in 1..=3 {
        rig.publish(&Alert { revision, ..alert(1, "203.0.113.9") }).await;
        rig.settled().await;
        assert!(matches!(rig.latest_response().await, Response::HeldBack { .. }), "{revision}");
    }
    assert!(rig.measures().await.is_empty());
    assert_eq!(rig.records(Topic::Audit).await.len(), 1);
}

#[tokio::test]
async fn an_alert_in_detect_is_left_as_it_is() {
    let rig = Rig::new(Guardrails::default());
    rig.publish(&Alert { mode: Mode::Detect, ..alert(1, "203.0.113.9") }).await;
    rig.settled().await;
    assert!(rig.measures().await.is_empty());
    assert_eq!(rig.records(Topic::Alerts).await.len(), 1);
}

#[tokio::test]
async fn an_alert_that_does_not_read_is_filed_and_the_next_one_planned_for() {
    let rig = Rig::new(Guardrails::default());
    let mut broken = typed::alert(&alert(1, "203.0.113.9"), "detector");
    broken.value = Some(b"noise".to_vec());
    rig.log.publish(vec![broken]).await.unwrap();
    rig.publish(&alert(2, "203.0.113.9")).await;
    rig.settled().await;
    assert_eq!(rig.measures().await.len(), 1);
    let letters = rig.records(Topic::Deadletter).await;
    let letter = typed::read_dead_letter(&letters[0]).unwrap();
    assert!(letter.reason.contains("not a message"), "{}", letter.reason);
}

#[tokio::test]
async fn a_measure_that_is_not_signed_counts_for_nothing() {
    let mut rig = Rig::new(Guardrails::default());
    rig.stop().await;
    let forger = Signer::from_entropy([4; 32]);
    let plan_of_forger = plan(&alert(9, "203.0.113.9"), &State::default(), &rig_settings(), now());
    let Step::Impose(measure) = &plan_of_forger.steps[0] else { panic!("it is imposed") };
    let record = MeasureRecord::Set(measure.clone());
    rig.log.publish(vec![typed::measure(&record, &workload(), &forger)]).await.unwrap();
    rig.publish(&alert(1, "203.0.113.9")).await;
    rig.start();
    rig.settled().await;
    assert!(matches!(rig.latest_response().await, Response::Took(_)));
}

fn rig_settings() -> Settings {
    Settings {
        cluster: "local".into(),
        guardrails: Guardrails::default(),
        node_critical: Vec::new(),
    }
}
