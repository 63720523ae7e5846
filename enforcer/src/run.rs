//! The loop: measures and inventory come in from the bus, rules go into the kernel, and what was done is told.
//!
//! One task owns everything. Order on a measure: the kernel first, then the ledger, then audit and reports, then walls and
//! open connections: an effect comes before its record, and repeating it is harmless.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bulkhead_bus::{Bus, BusError, Outgoing, Record, Tail, Topic, Verifier, typed};
use bulkhead_domain::container::{Container, ContainerKey};
use bulkhead_domain::health::{Condition, Health};
use bulkhead_domain::inventory::LifeState;
use bulkhead_domain::measure::{Action, Measure, MeasureId, MeasureRecord};
use bulkhead_domain::observation::{Body, Observation};
use bulkhead_domain::text::printable;
use bulkhead_domain::workload::OwnerKind;
use bulkhead_domain::{Timestamp, WorkloadName};
use bulkhead_loader::guard::{self, Guard, GuardError, Lists};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::audit::{self, Audit};
use crate::canary::{self, Canary, Song};
use crate::config::Config;
use crate::core::{Change, Core, Now, Refused};
use crate::epoch::{self, Ids};
use crate::hands::{Hands, Job, Report, Site};
use crate::ledger::{Ledger, LedgerError};
use crate::rules;

/// Records that wait for the loop.
const RECORDS_MAX: usize = 1_024;
/// Records decided on before the kernel is written once.
const TURN_MAX: usize = 256;
/// Records that wait for the bus; what finds no room is in the audit log and counted.
const OUT_MAX: usize = 1_024;
/// How often ends, marks and walls are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often the guards are tried.
const CANARY_EVERY: Duration = Duration::from_secs(60);
/// Pause before a bus that is away is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// Why the enforcer ended, or could not begin.
#[derive(Debug, Error)]
pub enum RunError {
    /// The guards.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A file of the state directory.
    #[error("cannot use {what} in the state directory: {source}")]
    State {
        /// Which.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The bus refused for good.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Guards that stand, with what they were told before this start in force again.
#[derive(Debug)]
pub struct Standing {
    config: Config,
    guard: Guard,
    core: Core,
    ledger: Ledger,
    audit: Audit,
    lists: Lists,
    canary: Option<Canary>,
    epoch: u64,
}

/// The clocks.
fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        wall: Timestamp(u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX)),
        boot_ns: guard::boot_ns(),
    }
}

impl Standing {
    /// Installs the guards and puts back what the ledger remembers: before the observers load, and before any engine is
    /// asked.
    pub fn prepare(config: Config) -> Result<Self, RunError> {
        let now = now();
        let state = |what| move |source| RunError::State { what, source };
        let ledger = Ledger::new(&config.state, &config.boot);
        let memory = ledger.read()?;
        let audit = Audit::open(&config.state, &config.node).map_err(state("audit.jsonl"))?;
        let epoch = epoch::next(&config.state).map_err(state("enforcer-epoch"))?;
        let mut core = Core::new(&config.node, config.measures_max);
        core.restore(memory.measures, memory.ended, now);
        let mut guard = Guard::install(&guard::Config {
            cgroup_root: config.cgroup_root.clone(),
            pin_dir: config.pins.clone(),
            hold: config.hold,
        })?;
        for parent in &config.cgroup_parents {
            let path = config.cgroup_mount.join(parent.strip_prefix("/").unwrap_or(parent));
            match path.metadata() {
                Ok(metadata) => guard.watch_parent(metadata.ino())?,
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "no such parent of containers");
                }
            }
        }
        let canary = match Canary::hatch(&config.cgroup_mount, &config.cgroup_root) {
            Ok(canary) => Some(canary),
            Err(error) => {
                tracing::warn!(%error, "no self-test of the guards");
                None
            }
        };
        let lists = rules::lists(&config.rules);
        let mut standing = Self { config, guard, core, ledger, audit, lists, canary, epoch };
        standing.take_marks(now)?;
        standing.guard.apply(&standing.core.rules(), &standing.lists)?;
        standing.ledger.write(&standing.core)?;
        Ok(standing)
    }

    /// Takes note of what a person disarmed meanwhile; what was in force of it.
    fn take_marks(&mut self, now: Now) -> Result<Vec<Measure>, RunError> {
        let marked = self.guard.disarmed()?;
        if marked.is_empty() {
            return Ok(Vec::new());
        }
        let mut ended = Vec::new();
        for id in marked.iter().map(|id| MeasureId(*id)) {
            if !self.core.is_ended(id) {
                ended.extend(self.core.disarm(id, now));
            }
        }
        // The ledger remembers from here on; the kernel was written by someone else.
        self.ledger.write(&self.core)?;
        for id in marked {
            self.guard.forget_disarmed(id)?;
        }
        self.guard.look()?;
        Ok(ended)
    }
}

/// Enforces until `stop` is done. Whatever is in force then stays so: the guards are pinned.
pub async fn run<B: Bus>(
    standing: Standing,
    bus: B,
    verifier: Verifier,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let (hands, mut reports) = Hands::start(&standing.config.pins)?;
    let (sender, mut records) = mpsc::channel(RECORDS_MAX);
    let (out, outgoing) = mpsc::channel(OUT_MAX);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(publish(bus.clone(), outgoing));
    for topic in [Topic::Measures, Topic::Inventory] {
        tasks.spawn(follow_all(bus.clone(), topic, sender.clone()));
    }
    drop(sender);
    let config = &standing.config;
    let ids = Ids::new(&config.cluster, &config.node, standing.epoch);
    let mut enforcer = Enforcer {
        ids,
        hands,
        out,
        verifier,
        audited: 0,
        lost: 0,
        weak: HashSet::new(),
        song: None,
        standing,
    };
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut try_canary = interval(CANARY_EVERY);
    try_canary.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            record = records.recv() => {
                let Some(record) = record else { return Err(BusError::Closed.into()) };
                let mut batch = vec![record];
                while batch.len() < TURN_MAX && let Ok(record) = records.try_recv() {
                    batch.push(record);
                }
                enforcer.turn(&batch, now())?;
            }
            Some(report) = reports.recv() => enforcer.reported(report, now()),
            _ = tick.tick() => enforcer.tick(now())?,
            _ = try_canary.tick() => enforcer.try_guards()?,
        }
    }
}

/// Follows all partitions of a topic from their start: the topics are compacted, so that is all that counts.
async fn follow_all<B: Bus>(bus: B, topic: Topic, sender: mpsc::Sender<Record>) {
    let partitions = loop {
        match bus.partitions(topic).await {
            Ok(partitions) => break partitions,
            Err(_) if sender.is_closed() => return,
            Err(_) => sleep(RETRY).await,
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    for partition in 0..partitions {
        let mut tail = Tail::new(bus.clone(), topic, partition, 0);
        let sender = sender.clone();
        tasks.spawn(async move {
            loop {
                match tail.next().await {
                    Ok(batch) => {
                        for record in batch.records {
                            if sender.send(record).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, %topic, partition, "bus away");
                        sleep(RETRY).await;
                    }
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Brings records to the bus one by one, in order, until it takes each.
async fn publish<B: Bus>(bus: B, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some(record) = outgoing.recv().await {
        loop {
            match bus.publish(vec![record.clone()]).await {
                Ok(_) => break,
                Err(BusError::Away { .. } | BusError::Full { .. }) => sleep(RETRY).await,
                Err(error) => {
                    tracing::warn!(%error, "a record was refused by the bus");
                    break;
                }
            }
        }
    }
}

/// What the loop owns.
struct Enforcer {
    standing: Standing,
    ids: Ids,
    hands: Hands,
    out: mpsc::Sender<Outgoing>,
    verifier: Verifier,
    /// Audit entries sent so far: tells two of one instant apart.
    audited: u64,
    /// Records that found no room on their way to the bus.
    lost: u64,
    /// Containers whose weakness was told.
    weak: HashSet<ContainerKey>,
    /// How the last try of the guards ended.
    song: Option<Song>,
}

/// What one turn did, to be told after the kernel and the ledger have it.
#[derive(Default)]
struct Turn {
    applied: Vec<Measure>,
    released: Vec<(Measure, String, String)>,
    changed: bool,
    moved: bool,
}

impl Enforcer {
    /// Decides on a batch of records, then writes the kernel once.
    fn turn(&mut self, batch: &[Record], now: Now) -> Result<(), RunError> {
        let mut turn = Turn::default();
        for record in batch {
            match record.position.topic {
                Topic::Inventory => self.inventory(record, &mut turn, now)?,
                _ => self.measure(record, &mut turn, now),
            }
        }
        self.settle(&turn, now)
    }

    fn measure(&mut self, record: &Record, turn: &mut Turn, now: Now) {
        let cluster = self.standing.config.cluster.clone();
        let read = match typed::read_measure(record, &self.verifier, &cluster) {
            Ok(read) => read,
            Err(error) => return self.dead(record, &error.to_string(), now),
        };
        match read {
            MeasureRecord::Set(measure) => match self.standing.core.set(measure.clone(), now) {
                Ok(Change::Applied) => turn.applied.push(measure),
                // A log that is read again says old things again: nothing to tell.
                Ok(_) | Err(Refused::Expired | Refused::OtherNode | Refused::Disarmed) => {}
                Err(refused @ Refused::TooMany { .. }) => {
                    self.failed(&measure, "refused", &refused.to_string(), now);
                }
            },
            MeasureRecord::Released { id, who, why, .. } => {
                if let Change::Released(measure) = self.standing.core.release(id) {
                    turn.released.push((*measure, who, why));
                }
            }
        }
    }

    fn inventory(&mut self, record: &Record, turn: &mut Turn, now: Now) -> Result<(), RunError> {
        let read = match typed::read_inventory(record) {
            Ok(read) => read,
            Err(error) => {
                self.dead(record, &error.to_string(), now);
                return Ok(());
            }
        };
        let container = read.container;
        let config = &self.standing.config;
        if container.key.node != config.node || container.key.boot != config.boot {
            return Ok(());
        }
        let site = Site::of(&container, &config.cgroup_mount);
        // The latest word of an earlier run may be about a container that has ended since: its directory tells.
        let here = site.cgroup.metadata().is_ok_and(|m| m.ino() == container.key.cgroup);
        turn.moved = true;
        if read.state == LifeState::Running && here {
            let (scope, workload) = (container.key.lease_scope(), site.workload);
            if let Err(error) = self.standing.guard.name(container.key.cgroup, scope, workload) {
                // Without its slot no lease matches it: that must not pass in silence.
                self.health(Condition::MeasureFailed, Some(&container), error.to_string(), now);
            }
            self.abort_for(&container);
            self.standing.core.started(container);
        } else {
            self.weak.remove(&container.key);
            if self.standing.core.stopped(&container.key).is_some() {
                self.standing.guard.forget(container.key.cgroup)?;
            }
        }
        Ok(())
    }

    /// A container that came after its measures may have connections already.
    fn abort_for(&self, container: &Container) {
        let known = self.standing.core.containers().any(|c| c.key == container.key);
        if known {
            return;
        }
        let measures: Vec<Measure> = self.standing.core.of(container).cloned().collect();
        for measure in measures {
            self.abort(container, &measure);
        }
    }

    /// Kernel, ledger, then telling.
    fn settle(&mut self, turn: &Turn, now: Now) -> Result<(), RunError> {
        let standing = &mut self.standing;
        let touched = turn.changed || !turn.applied.is_empty() || !turn.released.is_empty();
        let mut refused = None;
        if touched {
            if let Err(error) = standing.guard.apply(&standing.core.rules(), &standing.lists) {
                for measure in &turn.applied {
                    standing.core.release(measure.id);
                }
                standing.guard.apply(&standing.core.rules(), &standing.lists)?;
                refused = Some(error.to_string());
            }
            if let Err(error) = standing.ledger.write(&standing.core) {
                // In force in the kernel, and in the log: after a crash it comes back from there.
                tracing::error!(%error, "the ledger was not written");
            }
        }
        for measure in &turn.applied {
            if let Some(cause) = &refused {
                self.failed(measure, "failed", cause, now);
                continue;
            }
            self.audit(&audit::decider(measure), "apply", measure, &measure.reason, "done", now);
            let concerned: Vec<Container> =
                self.standing.core.concerned(measure).cloned().collect();
            for container in concerned {
                self.abort(&container, measure);
            }
        }
        for (measure, who, why) in &turn.released {
            self.audit(who, "release", measure, why, "done", now);
        }
        if touched || turn.moved {
            self.walls(now);
        }
        Ok(())
    }

    fn abort(&self, container: &Container, measure: &Measure) {
        let lists = &self.standing.lists;
        let mut keep = lists.critical.clone();
        let peers = match &measure.action {
            Action::Quarantine => {
                keep.extend(&lists.quarantine_allow);
                None
            }
            Action::Deny(peers) => {
                if !measure.is_manual() {
                    keep.extend(&lists.protected);
                }
                Some(rules::pattern(peers))
            }
        };
        let site = Site::of(container, &self.standing.config.cgroup_mount);
        if !self.hands.give(Job::Abort { site, peers, keep }) {
            tracing::warn!(
                "open connections were not ended: too much to do; their packets are dropped"
            );
        }
    }

    fn walls(&mut self, now: Now) {
        let (walls, weak) = self.standing.core.walls();
        let mount = &self.standing.config.cgroup_mount;
        let sites = walls.into_iter().map(|c| Site::of(c, mount)).collect();
        self.hands.give(Job::Walls(sites));
        let weak: Vec<(Container, String)> =
            weak.into_iter().map(|(c, why)| (c.clone(), why)).collect();
        for (container, why) in weak {
            if self.weak.insert(container.key.clone()) {
                self.health(Condition::MeasureWeak, Some(&container), why, now);
            }
        }
    }

    fn reported(&mut self, report: Report, now: Now) {
        let find =
            |core: &Core, key: &ContainerKey| core.containers().find(|c| c.key == *key).cloned();
        match report {
            Report::Walled(key) => tracing::info!(container = key.short(), "wall at its interface"),
            // Most containers that come under a lease have just begun, and have none.
            Report::Aborted(_, 0) => {}
            Report::Aborted(key, count) => {
                tracing::info!(container = key.short(), count, "open connections ended");
            }
            Report::Weak(key, why) => {
                if let Some(container) = find(&self.standing.core, &key)
                    && self.weak.insert(key)
                {
                    self.health(Condition::MeasureWeak, Some(&container), why, now);
                }
            }
        }
    }

    /// Ends what is over, hears what a person disarmed, and sees that walls stand.
    fn tick(&mut self, now: Now) -> Result<(), RunError> {
        let disarmed = self.standing.take_marks(now)?;
        let expired = self.standing.core.expire(now);
        let turn = Turn {
            changed: !disarmed.is_empty() || !expired.is_empty(),
            moved: true,
            ..Turn::default()
        };
        for measure in &disarmed {
            // Whoever ended it has written down who it was.
            self.audit("node", "disarm", measure, "ended from the pins", "done", now);
        }
        for measure in &expired {
            self.audit("clock", "expire", measure, "its time was up", "done", now);
        }
        self.settle(&turn, now)
    }

    /// Denies the canary a peer, sees whether it is refused, and takes the lease back.
    fn try_guards(&mut self) -> Result<(), RunError> {
        let standing = &mut self.standing;
        let Some(canary) = &standing.canary else { return Ok(()) };
        // Someone may have changed the maps: what should be there is put back with it.
        standing.guard.look()?;
        standing.guard.name(canary.cgroup(), canary::MEASURE, 0)?;
        let song = match canary.rule(guard::boot_ns()) {
            Ok(rule) => {
                let mut rules = standing.core.rules();
                rules.push(rule);
                standing.guard.apply(&rules, &standing.lists)?;
                canary.sing()
            }
            Err(error) => Song::Mute(error.to_string()),
        };
        standing.guard.apply(&standing.core.rules(), &standing.lists)?;
        let before = self.song.replace(song.clone());
        if before.as_ref() == Some(&song) {
            return Ok(());
        }
        let now = now();
        match song {
            Song::Refused => {
                let detail = "the self-test's packet was refused, as it must be".to_owned();
                self.health(Condition::CanaryRefused, None, detail, now);
            }
            Song::Passed => {
                let detail = "the self-test's packet got through a deny: measures may not hold; restart the agent, and see `bulkhead doctor`".to_owned();
                tracing::error!(detail, "the guards do not guard");
                self.health(Condition::CanaryPassed, None, detail, now);
            }
            Song::Mute(cause) => tracing::warn!(cause, "the self-test showed nothing"),
        }
        Ok(())
    }

    fn failed(&mut self, measure: &Measure, result: &str, cause: &str, now: Now) {
        let result = format!("{result}: {cause}");
        self.audit(&audit::decider(measure), "apply", measure, &measure.reason, &result, now);
        let detail = format!("{} on {} was not applied: {cause}", measure.action, measure.target);
        self.health(Condition::MeasureFailed, None, detail, now);
    }

    fn audit(
        &mut self,
        who: &str,
        verb: &str,
        measure: &Measure,
        why: &str,
        result: &str,
        now: Now,
    ) {
        let what = format!("{verb} {} {}", measure.id, measure.action);
        let object = measure.target.to_string();
        let entry = self.standing.audit.write(now.wall, (who, &what, &object), why, result);
        tracing::info!(who = printable(who, 80), what, object, result, "measure");
        self.audited += 1;
        self.send(typed::audit(&entry, self.audited));
    }

    fn dead(&mut self, record: &Record, cause: &str, now: Now) {
        let object = record.position.topic.name();
        let cause_shown = printable(cause, 200);
        tracing::warn!(cause = cause_shown, topic = object, "a record was refused");
        let said = ("unknown", "refuse record", object);
        self.standing.audit.write(now.wall, said, &cause_shown, "refused");
        let node = self.standing.config.node.clone();
        self.send(typed::dead_letter(record, "enforcer", &node, &cause_shown, now.wall));
    }

    fn health(
        &mut self,
        condition: Condition,
        container: Option<&Container>,
        detail: String,
        now: Now,
    ) {
        let config = &self.standing.config;
        let workload = container.map_or_else(
            || WorkloadName {
                cluster: config.cluster.clone(),
                scope: config.node.clone(),
                kind: OwnerKind::Unit,
                owner: "bulkhead.service".into(),
                container: String::new(),
            },
            |c| c.workload.clone(),
        );
        let health = Health {
            node: config.node.clone(),
            condition,
            container: container.map(|c| c.key.clone()),
            detail,
        };
        let body = Body::Health(health);
        let id = self.ids.take();
        self.send(typed::observation(&Observation { id, workload, at: now.wall, body }));
    }

    fn send(&mut self, record: Outgoing) {
        if self.out.try_send(record).is_err() {
            self.lost += 1;
            tracing::warn!(lost = self.lost, "a record found no room on its way to the bus");
        }
    }
}
