//! One partition's way through the engine: what is skipped, what rebuilds, what is answered, what is written down.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_bus::typed::{self, Absorbed, BaselineSnapshot};
use bulkhead_bus::{Batch, Outgoing, Record};
use bulkhead_domain::audit::AuditEntry;
use bulkhead_domain::{Timestamp, WorkloadName};

use super::Settings;
use super::takeover::Restored;
use crate::engine::Engine;
use crate::output::Output;

/// Records without outputs after which the offset is committed before its time.
const AHEAD_MAX: u64 = 4096;

/// Where the loop stands in a partition.
#[derive(Debug)]
pub(super) struct Partition {
    number: u32,
    /// The next offset to read.
    position: u64,
    /// The next offset whose outputs are not in the log yet.
    committed: u64,
    /// By workload, the next offset that its snapshot has not absorbed.
    absorbed: BTreeMap<WorkloadName, u64>,
    /// By workload, the first offset that no snapshot has absorbed.
    unwritten: BTreeMap<WorkloadName, u64>,
    /// Where reading began, until the first batch.
    began: Option<u64>,
}

impl Partition {
    pub(super) fn new(number: u32, restored: Restored, committed: u64) -> Self {
        Self {
            number,
            position: restored.floor,
            committed,
            absorbed: restored.absorbed,
            unwritten: BTreeMap::new(),
            began: Some(restored.floor),
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether everything whose outputs are in the log was read.
    pub(super) fn is_rebuilt(&self) -> bool {
        self.position >= self.committed
    }

    /// Whether something was read since the last commit.
    pub(super) fn is_ahead(&self) -> bool {
        self.position > self.committed
    }

    /// Whether so much was read that the offset should not wait.
    pub(super) fn is_far_ahead(&self) -> bool {
        self.position > self.committed + AHEAD_MAX
    }

    /// What was read is committed.
    pub(super) fn committed(&mut self) {
        self.committed = self.position;
    }

    /// Feeds a batch to the engine; returns what must be written with the offset that follows it.
    pub(super) fn absorb(
        &mut self,
        batch: &Batch,
        engine: &mut Engine,
        settings: &Settings,
    ) -> Vec<Outgoing> {
        if let Some(from) = self.began.take()
            && batch.log_start > from
            && from > 0
        {
            tracing::warn!(
                partition = self.number,
                from,
                log_start = batch.log_start,
                "the log no longer holds what lies between: it was not learned"
            );
        }
        let mut outputs = Vec::new();
        let mut due = BTreeSet::new();
        let mut latest = Timestamp::default();
        for record in &batch.records {
            let written = record.position.offset < self.committed;
            match typed::read_observation(record, &settings.verifier) {
                Err(_) if written => {}
                Err(reason) => outputs.push(refuse(record, &reason.to_string(), settings)),
                Ok(observation) => {
                    let offset = record.position.offset;
                    let workload = &observation.workload;
                    if self.absorbed.get(workload).is_some_and(|next| offset < *next) {
                        continue;
                    }
                    self.unwritten.entry(workload.clone()).or_insert(offset);
                    latest = latest.max(observation.at);
                    for output in engine.handle(&observation) {
                        match output {
                            _ if written => {}
                            Output::SnapshotDue(workload) => {
                                due.insert(workload);
                            }
                            other => outputs.extend(publish(&other, offset, settings)),
                        }
                    }
                }
            }
        }
        self.position = batch.next;
        outputs.extend(self.snapshots(&due, latest, engine));
        outputs
    }

    /// Snapshots of these workloads, which then have absorbed all that was read.
    fn snapshots(
        &mut self,
        due: &BTreeSet<WorkloadName>,
        at: Timestamp,
        engine: &mut Engine,
    ) -> Vec<Outgoing> {
        let mut taken = Vec::new();
        for workload in due {
            if let Some(artifact) = engine.snapshot(workload) {
                self.unwritten.remove(workload);
                taken.push((workload.clone(), artifact));
            } else {
                tracing::error!(%workload, "cannot write its baseline down");
            }
        }
        let floor = self.unwritten.values().copied().min().unwrap_or(self.position);
        let absorbed = Absorbed { partition: self.number, next: self.position, floor };
        taken
            .into_iter()
            .map(|(workload, artifact)| {
                typed::baseline(&BaselineSnapshot { workload, absorbed, at, artifact })
            })
            .collect()
    }
}

/// A record that was not understood, or not trusted.
fn refuse(record: &Record, reason: &str, settings: &Settings) -> Outgoing {
    let position = record.position;
    tracing::warn!(
        partition = position.partition,
        offset = position.offset,
        reason,
        "refused a record"
    );
    typed::dead_letter(record, "detector", &settings.node, reason, (settings.clock)())
}

/// What others see of an answer.
fn publish(output: &Output, offset: u64, settings: &Settings) -> Option<Outgoing> {
    match output {
        Output::Alert(alert) => Some(typed::alert(alert, "detector")),
        Output::ModeChanged { workload, from, to, why, at } => {
            let entry = AuditEntry {
                at: *at,
                node: settings.node.clone(),
                who: "detector".into(),
                what: format!("mode {} (was {})", to.word(), from.word()),
                object: workload.to_string(),
                why: why.clone(),
                result: "done".into(),
            };
            Some(typed::audit(&entry, offset))
        }
        Output::SnapshotDue(_) => None,
    }
}
