//! Answers requests: reads from the ledger and the detector, writes to the bus.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_bus::{Bus, BusError};
use bulkhead_domain::alert::{Alert, Review};
use bulkhead_domain::audit::AuditEntry;
use bulkhead_domain::container::Container;
use bulkhead_domain::intent::{Intent, Wish};
use bulkhead_domain::measure::{Action, Decider, Measure, MeasureId, MeasureRecord, Target};
use bulkhead_domain::net::Peer;
use bulkhead_domain::verdict::{self, Rules, Verdict, VerdictStep};
use bulkhead_domain::view::{EngineView, WhyView, WorkloadSummary};
use bulkhead_domain::{Mode, Timestamp, WorkloadName, duration};
use tokio::sync::watch;

use crate::credentials::Caller;
use crate::ledger::Ledger;
use crate::protocol::{
    MANUAL_TTL_MAX, Refusal, RefusalKind, Reply, Request, ReviewAction, ServiceStatus,
    TAIL_WAIT_MAX, TargetSelector,
};
use crate::select;
use crate::server::Handler;
use crate::state::State;
use crate::writer::Writer;

/// Longest reason that a person may give.
const WHY_CHARS_MAX: usize = 1000;

/// Most alerts that one answer holds.
const ALERTS_ANSWERED_MAX: usize = 1000;

/// What the service knows of itself and its configuration.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Version of the binary.
    pub version: String,
    /// Cluster.
    pub cluster: String,
    /// Node.
    pub node: String,
    /// When the controller started.
    pub started: Timestamp,
    /// TTL of a manual measure when none is given.
    pub manual_ttl: Duration,
    /// What a verdict depends on besides measures.
    pub rules: Rules,
}

/// The ledger, shared between the loop that feeds it and the requests that ask it.
#[derive(Debug)]
pub struct Shared {
    ledger: Mutex<Ledger>,
    changed: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { ledger: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Shared {
    /// Changes the ledger, and wakes those who wait for an alert.
    pub fn update(&self, change: impl FnOnce(&mut Ledger)) {
        let cursor = {
            let mut ledger = self.read();
            change(&mut ledger);
            ledger.cursor()
        };
        self.changed.send_if_modified(|last| std::mem::replace(last, cursor) != cursor);
    }

    /// The ledger, to ask it; held only for as long as an answer is copied out.
    fn read(&self) -> MutexGuard<'_, Ledger> {
        // The ledger's updates do not stop half way, so a panic elsewhere leaves it whole.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The API's handler.
pub struct Service<S, B> {
    /// What the detector tells.
    pub state: S,
    /// Who serves.
    pub identity: Identity,
    /// The fold of the topics.
    pub shared: std::sync::Arc<Shared>,
    /// The way into the log.
    pub writer: Writer<B>,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
    /// Draws the nonce of a manual measure.
    pub nonce: fn() -> u128,
    /// Whether the log takes writes; the reason when it does not.
    pub health: Box<dyn Fn() -> Result<(), BusError> + Send + Sync>,
}

impl<S: State, B: Bus> Handler for Service<S, B> {
    async fn handle(&self, caller: &Caller, request: Request) -> Result<Reply, Refusal> {
        let now = (self.clock)();
        self.shared.update(|ledger| ledger.expire(now));
        match request {
            Request::Status => self.status().await,
            Request::Workloads { workload } => self.workloads(workload).await,
            Request::Containers => Ok(Reply::Containers(self.shared.read().container_summaries())),
            Request::Baseline { workload } => self.baseline(&workload).await,
            Request::Alerts { workload, open, limit } => self.alerts(workload, open, limit).await,
            Request::Alert { id } => {
                let ledger = self.shared.read();
                Ok(Reply::Alert(Box::new(select::alert(&id, ledger.alerts())?.clone())))
            }
            Request::AlertsAfter { cursor, wait } => Ok(self.alerts_after(cursor, wait).await),
            Request::Measures { kind } => {
                Ok(Reply::Measures(self.shared.read().measure_summaries(kind, (self.clock)())))
            }
            Request::Why { container, peer } => self.why(&container, &peer),
            Request::Learn { workload, learn_for, until_mature, reset, why } => {
                self.learn(caller, &workload, Learning { learn_for, until_mature, reset }, why)
                    .await
            }
            Request::SetMode { workload, mode, why } => {
                let wish = Wish::SetMode { mode, learn_for: None, until_mature: false };
                let name = self.workload(&workload).await?;
                let what = format!("mode of {} is {} from now on", name.short(), mode.word());
                self.intend(caller, name, wish, why, what).await
            }
            Request::AcceptAct { workload, act, why } => {
                let name = self.workload(&workload).await?;
                let what = format!("accepted `{act}` for {}", name.short());
                self.intend(caller, name, Wish::AcceptAct(act), why, what).await
            }
            Request::Review { id, review, why } => self.review(caller, &id, &review, why).await,
            Request::Deny { target, peer, ttl, why } => {
                self.impose(caller, target, Action::Deny(peer), ttl, why).await
            }
            Request::Quarantine { target, ttl, why } => {
                self.impose(caller, target, Action::Quarantine, ttl, why).await
            }
            Request::Release { id, why } => self.release(caller, id, why).await,
        }
    }
}

/// What `learn` was asked to do.
struct Learning {
    learn_for: Option<Duration>,
    until_mature: bool,
    reset: bool,
}

impl<S: State, B: Bus> Service<S, B> {
    async fn engine(&self) -> Result<EngineView, Refusal> {
        self.state.engine().await.ok_or_else(no_detector)
    }

    /// The workload meant, among those that the detector or the inventory knows.
    async fn workload(&self, typed: &str) -> Result<WorkloadName, Refusal> {
        let mut known: std::collections::BTreeSet<WorkloadName> =
            self.shared.read().containers().map(|c| c.workload.clone()).collect();
        if let Some(view) = self.state.engine().await {
            known.extend(view.workloads.into_iter().map(|w| w.name));
        }
        select::workload(typed, &known)
    }

    async fn status(&self) -> Result<Reply, Refusal> {
        let view = self.state.engine().await.unwrap_or_default();
        let mut by_mode = BTreeMap::new();
        for w in &view.workloads {
            *by_mode.entry(w.mode.word().to_owned()).or_default() += 1;
        }
        let now = (self.clock)();
        let ledger = self.shared.read();
        Ok(Reply::Status(ServiceStatus {
            version: self.identity.version.clone(),
            cluster: self.identity.cluster.clone(),
            node: self.identity.node.clone(),
            started: self.identity.started,
            now,
            workloads_by_mode: by_mode,
            containers: ledger.containers().count() as u64,
            open_alerts: ledger.alerts().filter(|a| !a.closed).count() as u64,
            measures: ledger.measures(now).len() as u64,
            last_observation: view.workloads.iter().map(|w| w.last).max(),
            records: view.records,
            duplicates: view.duplicates,
            log_error: (self.health)().err().map(|error| error.to_string()),
        }))
    }

    async fn workloads(&self, typed: Option<String>) -> Result<Reply, Refusal> {
        let mut list: Vec<WorkloadSummary> = self.engine().await?.workloads;
        if let Some(typed) = typed {
            let name = select::workload(&typed, list.iter().map(|w| &w.name))?;
            list.retain(|w| w.name == name);
        }
        Ok(Reply::Workloads(list))
    }

    async fn baseline(&self, typed: &str) -> Result<Reply, Refusal> {
        let name = self.workload(typed).await?;
        let short = name.short();
        let view = self.state.baseline(name).await.ok_or_else(no_detector)?;
        view.map(Reply::Baseline).ok_or_else(|| {
            Refusal::new(
                RefusalKind::Unknown,
                format!("nothing was learned of {short} yet"),
                "wait for its first window, then ask again",
            )
        })
    }

    async fn alerts(
        &self,
        workload: Option<String>,
        open: bool,
        limit: usize,
    ) -> Result<Reply, Refusal> {
        let name = match workload {
            Some(typed) => Some(self.workload(&typed).await?),
            None => None,
        };
        let ledger = self.shared.read();
        let alerts = ledger
            .alerts()
            .filter(|a| name.as_ref().is_none_or(|n| a.workload == *n))
            .filter(|a| !open || (!a.closed && a.review == Review::Open))
            .take(limit.min(ALERTS_ANSWERED_MAX))
            .cloned()
            .collect();
        Ok(Reply::Alerts { alerts, cursor: ledger.cursor() })
    }

    async fn alerts_after(&self, cursor: Option<u64>, wait: Duration) -> Reply {
        let mut changed = self.shared.changed.subscribe();
        let from = cursor.unwrap_or_else(|| self.shared.read().cursor());
        // A cursor from before a restart may lie ahead: then everything is new.
        let beyond = |last: &u64| *last != from;
        // Past the wait there is nothing new, which is an answer too.
        let _ = tokio::time::timeout(wait.min(TAIL_WAIT_MAX), changed.wait_for(beyond)).await;
        let ledger = self.shared.read();
        let from = if from > ledger.cursor() { 0 } else { from };
        let alerts: Vec<Alert> =
            ledger.alerts_after(from).take(ALERTS_ANSWERED_MAX).cloned().collect();
        Reply::Alerts { alerts, cursor: ledger.cursor() }
    }

    fn why(&self, typed: &str, peer: &Peer) -> Result<Reply, Refusal> {
        let now = (self.clock)();
        let ledger = self.shared.read();
        let container = select::container(typed, ledger.containers())?;
        let measures = ledger.measures(now);
        let verdict = verdict::verdict(container, peer, &measures, &self.identity.rules, now);
        Ok(Reply::Why(Box::new(WhyView {
            container: container.clone(),
            peer: peer.to_string(),
            step: verdict.step,
            passes: verdict.passes,
            measure: verdict.measure.cloned(),
            sentence: sentence(&verdict),
        })))
    }

    async fn learn(
        &self,
        caller: &Caller,
        typed: &str,
        learning: Learning,
        why: String,
    ) -> Result<Reply, Refusal> {
        let name = self.workload(typed).await?;
        learning.learn_for.map(|time| bounded("learning", time)).transpose()?;
        if learning.reset {
            let what = format!("forgot the baseline of {}", name.short());
            self.intend(caller, name.clone(), Wish::Reset, why.clone(), what).await?;
        }
        let end = match (learning.learn_for, learning.until_mature) {
            (Some(d), _) => format!("for {}", duration::format(d)),
            (None, true) => "until it is mature".to_owned(),
            (None, false) => "until told otherwise".to_owned(),
        };
        let what = format!("{} learns {end}", name.short());
        let wish = Wish::SetMode {
            mode: Mode::Learn,
            learn_for: learning.learn_for,
            until_mature: learning.until_mature,
        };
        self.intend(caller, name, wish, why, what).await
    }

    async fn review(
        &self,
        caller: &Caller,
        id: &str,
        review: &ReviewAction,
        why: String,
    ) -> Result<Reply, Refusal> {
        let (id, workload) = {
            let ledger = self.shared.read();
            let alert = select::alert(id, ledger.alerts())?;
            (alert.id, alert.workload.clone())
        };
        let (wish, what) = match review {
            ReviewAction::Accept => (Wish::AcceptAlert(id), format!("accepted {id}")),
            ReviewAction::Retract => (Wish::RetractAlert(id), format!("retracted {id}")),
            ReviewAction::Mute(d) => {
                let d = d.map(|time| bounded("a mute", time)).transpose()?;
                let what = match d {
                    Some(d) => format!("muted {id} for {}", duration::format(d)),
                    None => format!("muted {id} until unmuted"),
                };
                (Wish::Mute { alert: id, duration: d }, what)
            }
            ReviewAction::Unmute => {
                (Wish::Mute { alert: id, duration: Some(Duration::ZERO) }, format!("unmuted {id}"))
            }
        };
        self.intend(caller, workload, wish, why, what).await
    }

    /// Puts a wish into the workload's log, and into the audit log.
    async fn intend(
        &self,
        caller: &Caller,
        workload: WorkloadName,
        wish: Wish,
        why: String,
        what: String,
    ) -> Result<Reply, Refusal> {
        let why = reason(why)?;
        let now = (self.clock)();
        let intent = Intent { wish, who: caller.who.clone(), why: why.clone() };
        let audit = self.audit(caller, &what, &workload.to_string(), why, now);
        self.writer.intent(&workload, intent, &audit, now).await.map_err(|e| not_written(&e))?;
        Ok(Reply::Done { what, workload, measure: None })
    }

    async fn impose(
        &self,
        caller: &Caller,
        selector: TargetSelector,
        action: Action,
        ttl: Option<Duration>,
        why: String,
    ) -> Result<Reply, Refusal> {
        let why = reason(why)?;
        let ttl = bounded("a measure", ttl.unwrap_or(self.identity.manual_ttl))?;
        let (target, workload) = match selector {
            TargetSelector::Workload(typed) => {
                let name = self.workload(&typed).await?;
                (Target::Workload(name.clone()), name)
            }
            TargetSelector::Container(typed) => {
                let ledger = self.shared.read();
                let container: &Container = select::container(&typed, ledger.containers())?;
                (Target::Container(container.key.clone()), container.workload.clone())
            }
        };
        let now = (self.clock)();
        let measure = Measure {
            id: MeasureId::manual((self.nonce)()),
            cluster: self.identity.cluster.clone(),
            target,
            action,
            decider: Decider::Manual { who: caller.who.clone() },
            reason: why.clone(),
            created: now,
            expires: now.plus(ttl),
        };
        let what = format!(
            "{}: {} for {}, until {}",
            measure.id, measure.action, measure.target, measure.expires
        );
        let id = measure.id;
        let object = measure.target.to_string();
        let audit = self.audit(caller, &what, &object, why, now);
        let record = MeasureRecord::Set(measure);
        self.writer.measure(&workload, &record, &audit).await.map_err(|e| not_written(&e))?;
        Ok(Reply::Done { what, workload, measure: Some(id) })
    }

    async fn release(&self, caller: &Caller, id: MeasureId, why: String) -> Result<Reply, Refusal> {
        let why = reason(why)?;
        let now = (self.clock)();
        let (workload, object) = {
            let ledger = self.shared.read();
            let measure = ledger.measure_of(id, now).ok_or_else(|| {
                Refusal::new(
                    RefusalKind::Unknown,
                    format!("measure {id} is not in force"),
                    "see `bulkhead deny list`, `bulkhead quarantine list` or `bulkhead status`",
                )
            })?;
            let workload = ledger.workload_of(measure).ok_or_else(|| {
                Refusal::new(
                    RefusalKind::Unknown,
                    format!("the container of measure {id} is gone, and its workload with it"),
                    format!("end it on its node with `bulkhead disarm {id}`"),
                )
            })?;
            (workload, format!("{} for {}", measure.action, measure.target))
        };
        let record = MeasureRecord::Released {
            id,
            workload: workload.clone(),
            cluster: self.identity.cluster.clone(),
            who: caller.who.clone(),
            why: why.clone(),
            at: now,
        };
        let what = format!("{id} ended: {object}");
        let audit = self.audit(caller, &what, &object, why, now);
        self.writer.measure(&workload, &record, &audit).await.map_err(|e| not_written(&e))?;
        Ok(Reply::Done { what, workload, measure: Some(id) })
    }

    fn audit(
        &self,
        caller: &Caller,
        what: &str,
        object: &str,
        why: String,
        at: Timestamp,
    ) -> AuditEntry {
        AuditEntry {
            at,
            node: self.identity.node.clone(),
            who: caller.who.clone(),
            what: what.to_owned(),
            object: object.to_owned(),
            why,
            result: "done".into(),
        }
    }
}

fn not_written(error: &BusError) -> Refusal {
    Refusal::new(
        RefusalKind::Unavailable,
        format!("nothing was decided, because it could not be written down: {error}"),
        "try again once that is put right",
    )
}

fn no_detector() -> Refusal {
    Refusal::new(
        RefusalKind::Unavailable,
        "the detector does not answer",
        "see that this service plays the role `detector`, and its log",
    )
}

fn reason(why: String) -> Result<String, Refusal> {
    if why.chars().count() > WHY_CHARS_MAX {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            "the reason is too long",
            format!("write at most {WHY_CHARS_MAX} characters"),
        ));
    }
    Ok(why)
}

/// A time that a person asked for, when it is one that something can last.
fn bounded(what: &str, ttl: Duration) -> Result<Duration, Refusal> {
    if ttl.is_zero() || ttl > MANUAL_TTL_MAX {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            format!("{what} cannot last {}", duration::format(ttl)),
            format!("write --for with something up to {}", duration::format(MANUAL_TTL_MAX)),
        ));
    }
    Ok(ttl)
}

/// What a person makes of a verdict, and how it is changed.
fn sentence(verdict: &Verdict<'_>) -> String {
    let id = verdict.measure.map(|m| m.id.to_string()).unwrap_or_default();
    match (verdict.step, verdict.passes) {
        (VerdictStep::NodeCritical, _) => {
            "The peer is in enforcement.node-critical: nothing is ever held back from it.".into()
        }
        (VerdictStep::Quarantine, true) => format!(
            "The container is quarantined by {id}, and the peer is in enforcement.quarantine-allow."
        ),
        (VerdictStep::Quarantine, false) => format!(
            "The container is quarantined by {id}. End it with `bulkhead quarantine release {id}`."
        ),
        (VerdictStep::ManualLease, _) => {
            format!("A person denied the peer by {id}. End it with `bulkhead deny remove {id}`.")
        }
        (VerdictStep::Protected, _) => {
            "The peer is in guardrails.protected: automatic measures do not reach it.".into()
        }
        (VerdictStep::AutomaticLease, _) => format!(
            "The planner denied the peer by {id}. End it with `bulkhead deny remove {id}`; if the traffic is normal, accept its alert."
        ),
        (VerdictStep::Default, _) => {
            "No measure concerns them. Deny the peer with `bulkhead deny add`.".into()
        }
    }
}
