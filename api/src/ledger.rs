//! What the API knows: a fold of the topics `alerts`, `inventory` and `measures`, bounded.
//!
//! A pure value: records go in, questions are answered, and `now` is an argument.

use std::collections::{BTreeMap, HashMap};

use bulkhead_domain::alert::AlertId;
use bulkhead_domain::container::Container;
use bulkhead_domain::inventory::{InventoryRecord, LifeState};
use bulkhead_domain::measure::{Action, Measure, MeasureId, MeasureRecord, Target};
use bulkhead_domain::verdict;
use bulkhead_domain::view::{ContainerSummary, MeasureSummary};
use bulkhead_domain::{Alert, Timestamp, WorkloadName};

use crate::protocol::MeasureKind;

/// Most alerts kept; the oldest leave first, and stay in the log.
pub const ALERTS_MAX: usize = 10_000;

/// Most containers kept: far beyond what the slots of a node allow.
pub const CONTAINERS_MAX: usize = 100_000;

/// The fold.
#[derive(Debug, Default)]
pub struct Ledger {
    changes: u64,
    alerts: HashMap<AlertId, (u64, Alert)>,
    by_change: BTreeMap<u64, AlertId>,
    containers: HashMap<(String, String), (Timestamp, Container)>,
    measures: BTreeMap<MeasureId, Measure>,
    refused: u64,
}

impl Ledger {
    /// Takes in a revision of an alert; an older one than is known changes nothing.
    pub fn alert(&mut self, alert: Alert) {
        if let Some((change, known)) = self.alerts.get(&alert.id) {
            if known.revision > alert.revision {
                return;
            }
            self.by_change.remove(change);
        }
        self.changes += 1;
        self.by_change.insert(self.changes, alert.id);
        self.alerts.insert(alert.id, (self.changes, alert));
        while self.alerts.len() > ALERTS_MAX
            && let Some((_, oldest)) = self.by_change.pop_first()
        {
            self.alerts.remove(&oldest);
        }
    }

    /// Takes in the latest word about a container.
    pub fn inventory(&mut self, record: InventoryRecord) {
        let key = (record.container.key.node.clone(), record.container.key.engine_id.clone());
        match record.state {
            LifeState::Running if self.containers.len() < CONTAINERS_MAX => {
                self.containers.insert(key, (record.at, record.container));
            }
            LifeState::Running => self.refused += 1,
            // A stop of an older cgroup of the same container says nothing about its restart.
            LifeState::Stopped => {
                if self
                    .containers
                    .get(&key)
                    .is_some_and(|(_, c)| c.key.cgroup == record.container.key.cgroup)
                {
                    self.containers.remove(&key);
                }
            }
        }
    }

    /// Takes in a measure or its end.
    pub fn measure(&mut self, record: MeasureRecord) {
        match record {
            MeasureRecord::Set(measure) => {
                self.measures.insert(measure.id, measure);
            }
            MeasureRecord::Released { id, .. } => {
                self.measures.remove(&id);
            }
        }
    }

    /// Forgets measures that have ended by themselves.
    pub fn expire(&mut self, now: Timestamp) {
        self.measures.retain(|_, m| m.expires > now);
    }

    /// Grows with each alert that changes.
    pub fn cursor(&self) -> u64 {
        self.changes
    }

    /// Alerts, latest change first.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.by_change.values().rev().filter_map(|id| self.alerts.get(id)).map(|(_, a)| a)
    }

    /// Alerts that changed after the cursor, in order of change.
    pub fn alerts_after(&self, cursor: u64) -> impl Iterator<Item = &Alert> {
        self.by_change
            .range(cursor.saturating_add(1)..)
            .filter_map(|(_, id)| self.alerts.get(id))
            .map(|(_, a)| a)
    }

    /// Containers that run.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.values().map(|(_, c)| c)
    }

    /// Containers that run, by name, for a table.
    pub fn container_summaries(&self) -> Vec<ContainerSummary> {
        let mut list: Vec<ContainerSummary> = self
            .containers
            .values()
            .map(|(at, container)| ContainerSummary { container: container.clone(), at: *at })
            .collect();
        list.sort_by(|a, b| {
            (&a.container.name, &a.container.key).cmp(&(&b.container.name, &b.container.key))
        });
        list
    }

    /// Containers that were refused for lack of room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The measure of that id, when it is in force.
    pub fn measure_of(&self, id: MeasureId, now: Timestamp) -> Option<&Measure> {
        self.measures.get(&id).filter(|m| m.expires > now)
    }

    /// Measures in force.
    pub fn measures(&self, now: Timestamp) -> Vec<Measure> {
        self.measures.values().filter(|m| m.expires > now).cloned().collect()
    }

    /// Measures of one kind in force, with whom they concern.
    pub fn measure_summaries(
        &self,
        kind: Option<MeasureKind>,
        now: Timestamp,
    ) -> Vec<MeasureSummary> {
        let wanted = |m: &Measure| match kind {
            None => true,
            Some(MeasureKind::Deny) => matches!(m.action, Action::Deny(_)),
            Some(MeasureKind::Quarantine) => m.action == Action::Quarantine,
        };
        self.measures(now)
            .into_iter()
            .filter(wanted)
            .map(|measure| {
                let mut containers: Vec<String> = self
                    .containers()
                    .filter(|c| verdict::concerns(&measure, c))
                    .map(|c| c.name.clone())
                    .collect();
                containers.sort();
                MeasureSummary {
                    workload: self.workload_of(&measure),
                    containers,
                    measure,
                    hits: None,
                }
            })
            .collect()
    }

    /// The workload whose partition a measure lies in, when its container is known.
    pub fn workload_of(&self, measure: &Measure) -> Option<WorkloadName> {
        match &measure.target {
            Target::Workload(name) => Some(name.clone()),
            Target::Container(key) => self
                .containers
                .get(&(key.node.clone(), key.engine_id.clone()))
                .map(|(_, c)| c.workload.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
