//! The planner's loop: reads alerts, plans, and transacts signed measures with the offsets they follow from.
//!
//! The plan itself is pure (`bulkhead_planner`); here is what it reads and what becomes of its steps. Before each plan the
//! inventory and the measures are read to their end, so that a guardrail never counts too few. Measures it decides are
//! counted at once, for the next alert of the same batch.
//!
//! What was done is told by publishing the alert's latest revision again with its response; those copies are known by
//! their source and not planned for again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_bus::typed;
use bulkhead_bus::{Batch, Bus, BusError, Commit, Outgoing, Record, Signer, Tail, Topic};
use bulkhead_domain::alert::Response;
use bulkhead_domain::audit::AuditEntry;
use bulkhead_domain::duration;
use bulkhead_domain::measure::{Measure, MeasureRecord};
use bulkhead_domain::plan::Step;
use bulkhead_domain::{Alert, AlertId, Mode, Timestamp};
use bulkhead_planner::{Settings, State, plan};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::config::Config;
use crate::output;

/// The group under which the planner commits its offsets, and the source of what it publishes.
const PLANNER: &str = "planner";

/// Pause before the bus is asked again after it refused for a while.
const RETRY: Duration = Duration::from_millis(200);

/// Responses remembered, for the next revisions of the same alerts. Beyond it some are forgotten: what was taken is in
/// the measures, and what was held back is held back again.
const RESPONSES_MAX: usize = 4096;

/// How often records of measures that nobody remembers are ended.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// Records ended at once.
const FORGOTTEN_MAX: usize = 256;

/// Starts the loop.
pub fn start<B: Bus>(
    config: &Config,
    bus: B,
    signer: Signer,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let settings = Settings {
        cluster: config.cluster.clone(),
        guardrails: config.guardrails.clone(),
        node_critical: config.rules.node_critical.clone(),
    };
    let planner = Planner::new(settings, signer, config.node.clone());
    tasks.spawn(async move { run(bus, planner, output::now).await.context("the planner stopped") });
}

/// Plans until the bus is closed.
async fn run<B: Bus>(
    bus: B,
    mut planner: Planner,
    clock: fn() -> Timestamp,
) -> Result<(), BusError> {
    let (sender, mut batches) = mpsc::channel(1);
    let mut readers = JoinSet::new();
    let mut ledgers = Vec::new();
    for partition in 0..bus.partitions(Topic::Alerts).await? {
        let from = bus.committed(PLANNER, Topic::Alerts, partition).await?.unwrap_or(0);
        tracing::info!(partition, from, "planner takes over");
        readers.spawn(read(bus.clone(), partition, from, sender.clone()));
        ledgers.push(Tail::new(bus.clone(), Topic::Inventory, partition, 0));
        ledgers.push(Tail::new(bus.clone(), Topic::Measures, partition, 0));
    }
    drop(sender);
    let mut forget = interval(FORGET_EVERY);
    forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            received = batches.recv() => {
                let (partition, batch) = received.ok_or(BusError::Closed)??;
                catch_up(&mut planner, &mut ledgers).await?;
                let outputs = planner.alerts(&batch, clock());
                let commit = Commit { topic: Topic::Alerts, partition, next: batch.next };
                transact(&bus, outputs, commit).await?;
            }
            _ = forget.tick() => {
                catch_up(&mut planner, &mut ledgers).await?;
                let ends = planner.ends_of_forgotten(clock());
                if let Err(error) = bus.publish(ends).await {
                    tracing::warn!(error = %error, "cannot end the records of old measures");
                }
            }
        }
    }
}

/// Reads the alerts of one partition, one batch ahead of the plan.
async fn read<B: Bus>(
    bus: B,
    partition: u32,
    from: u64,
    batches: mpsc::Sender<Result<(u32, Batch), BusError>>,
) {
    let mut tail = Tail::new(bus, Topic::Alerts, partition, from);
    loop {
        let batch = match tail.next().await {
            Err(error) if error.is_transient() => {
                tracing::warn!(partition, error = %error, "cannot read alerts, trying again");
                sleep(RETRY).await;
                continue;
            }
            batch => batch,
        };
        let ends = batch.is_err();
        if batches.send(batch.map(|batch| (partition, batch))).await.is_err() || ends {
            return;
        }
    }
}

/// Reads inventory and measures to their end.
async fn catch_up<B: Bus>(planner: &mut Planner, ledgers: &mut [Tail<B>]) -> Result<(), BusError> {
    for tail in ledgers {
        loop {
            match tail.poll().await {
                Ok(batch) if batch.records.is_empty() => break,
                Ok(batch) => batch.records.iter().for_each(|record| planner.absorb(record)),
                Err(error) if error.is_transient() => {
                    tracing::warn!(error = %error, "cannot read the ledger, trying again");
                    sleep(RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Writes the steps and the offset they follow from, for as long as that takes.
async fn transact<B: Bus>(bus: &B, outputs: Vec<Outgoing>, commit: Commit) -> Result<(), BusError> {
    loop {
        match bus.transact(PLANNER, outputs.clone(), vec![commit]).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_transient() => {
                tracing::error!(error = %error, "cannot write measures, trying again");
                sleep(RETRY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The fold and what the steps of its plans become; without I/O.
struct Planner {
    settings: Settings,
    signer: Signer,
    node: String,
    state: State,
    responses: BTreeMap<AlertId, Response>,
    audits: u64,
}

impl Planner {
    fn new(settings: Settings, signer: Signer, node: String) -> Self {
        Self {
            settings,
            signer,
            node,
            state: State::default(),
            responses: BTreeMap::new(),
            audits: 0,
        }
    }

    /// Takes in a record of the inventory or of the measures.
    fn absorb(&mut self, record: &Record) {
        let read = match record.position.topic {
            Topic::Inventory => {
                typed::read_inventory(record).map(|word| self.state.inventory(word))
            }
            _ => typed::read_measure(record, &self.signer.verifier(), &self.settings.cluster)
                .map(|measure| self.state.measure(measure)),
        };
        if let Err(error) = read {
            // Its own reader (API or agent) reports it; here it only must not count.
            tracing::warn!(topic = %record.position.topic, offset = record.position.offset, error = %error, "skipped a record");
        }
    }

    /// What follows from a batch of alerts, in order. Only the latest revision of an alert in it is planned for.
    fn alerts(&mut self, batch: &Batch, now: Timestamp) -> Vec<Outgoing> {
        let mut outputs = Vec::new();
        let mut latest: BTreeMap<AlertId, (usize, Alert)> = BTreeMap::new();
        for (order, record) in batch.records.iter().enumerate() {
            if typed::source(record) == Some(PLANNER) {
                continue;
            }
            match typed::read_alert(record) {
                Ok(alert) => {
                    let known = latest.get(&alert.id).map_or(0, |(_, a)| a.revision);
                    if alert.revision >= known {
                        latest.insert(alert.id, (order, alert));
                    }
                }
                Err(reason) => {
                    let reason = reason.to_string();
                    outputs.push(typed::dead_letter(record, PLANNER, &self.node, &reason, now));
                }
            }
        }
        let mut alerts: Vec<(usize, Alert)> = latest.into_values().collect();
        alerts.sort_by_key(|(order, _)| *order);
        for (_, alert) in alerts {
            outputs.extend(self.alert(alert, now));
        }
        outputs
    }

    fn alert(&mut self, alert: Alert, now: Timestamp) -> Vec<Outgoing> {
        if alert.mode != Mode::Enforce {
            return Vec::new();
        }
        let mut outputs = Vec::new();
        for step in plan(&alert, &self.state, &self.settings, now).steps {
            match step {
                Step::Impose(measure) => outputs.extend(self.impose(&alert, measure, now)),
                Step::HoldBack { proposal, reason, .. } => {
                    let held = Response::HeldBack { proposal, reason: reason.clone() };
                    if self.responses.get(&alert.id) != Some(&held) {
                        let what = format!("hold back a measure for alert {}", alert.id);
                        let result = format!("refused: {reason}");
                        outputs.push(self.audit(&alert, what, result, now));
                    }
                    // What was taken for this alert before stays what was done.
                    if !matches!(self.responses.get(&alert.id), Some(Response::Took(_))) {
                        self.respond(alert.id, held);
                    }
                }
                // A plan for an alert ends nothing.
                Step::Release(_) => {}
            }
        }
        let taken = self.state.taken_for(alert.id);
        if !taken.is_empty() {
            self.respond(alert.id, Response::Took(taken));
        }
        let Some(response) = self.responses.get(&alert.id) else { return outputs };
        if alert.response != *response {
            let told = Alert { response: response.clone(), ..alert };
            outputs.push(typed::alert(&told, PLANNER));
        }
        outputs
    }

    fn impose(&mut self, alert: &Alert, measure: Measure, now: Timestamp) -> [Outgoing; 2] {
        let what = format!(
            "{} {} for {}",
            measure.action,
            measure.target,
            duration::format(measure.expires.since(measure.created))
        );
        tracing::info!(alert = %alert.id, measure = %measure.id, what, "measure taken");
        let audit = self.audit(alert, what, format!("done: {}", measure.id), now);
        let record = MeasureRecord::Set(measure);
        let outgoing = typed::measure(&record, &alert.workload, &self.signer);
        self.state.measure(record);
        [outgoing, audit]
    }

    fn respond(&mut self, alert: AlertId, response: Response) {
        self.responses.insert(alert, response);
        if self.responses.len() > RESPONSES_MAX {
            self.responses.pop_first();
        }
    }

    fn audit(&mut self, alert: &Alert, what: String, result: String, now: Timestamp) -> Outgoing {
        self.audits += 1;
        let entry = AuditEntry {
            at: now,
            node: self.node.clone(),
            who: PLANNER.into(),
            what,
            object: alert.workload.to_string(),
            why: format!("alert {}: {}", alert.id, alert.title),
            result,
        };
        typed::audit(&entry, self.audits)
    }

    /// Ends the records of measures that the ladder no longer remembers.
    fn ends_of_forgotten(&mut self, now: Timestamp) -> Vec<Outgoing> {
        let forgotten: Vec<Measure> =
            self.state.forgotten(now).take(FORGOTTEN_MAX).cloned().collect();
        let mut ends = Vec::new();
        for measure in forgotten {
            // Without its workload the record's partition is unknown: it stays until its container is seen again.
            let Some(workload) = self.state.workload_of(&measure.target) else { continue };
            let end = MeasureRecord::Released {
                id: measure.id,
                workload: workload.clone(),
                cluster: self.settings.cluster.clone(),
                who: PLANNER.into(),
                why: "it ended long ago".into(),
                at: now,
            };
            ends.push(typed::measure(&end, &workload, &self.signer));
            self.state.measure(end);
        }
        ends
    }
}

#[cfg(test)]
mod tests;
