//! What a plan depends on: a fold of the topics `inventory` and `measures`, bounded.
//!
//! Measures that have ended stay for as long as the ladder remembers; released ones leave at once.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bulkhead_domain::inventory::{InventoryRecord, LifeState};
use bulkhead_domain::measure::{Measure, MeasureRecord, Target};
use bulkhead_domain::{AlertId, Container, ContainerKey, MeasureId, Timestamp, WorkloadName};

use crate::ladder::FORGOTTEN_AFTER;

/// Most containers that are known at once; more than the nodes of any inventory that one planner serves.
pub const CONTAINERS_MAX: usize = 100_000;

/// Most measures remembered: automatic ones come at most some ten a minute, and the oldest ended ones leave first.
pub const MEASURES_MAX: usize = 100_000;

/// The fold.
#[derive(Clone, Debug, Default)]
pub struct State {
    containers: HashMap<(String, String), Container>,
    measures: BTreeMap<MeasureId, Measure>,
    refused: u64,
}

impl State {
    /// Takes in the latest word about a container.
    pub fn inventory(&mut self, record: InventoryRecord) {
        let key = &record.container.key;
        let at = (key.node.clone(), key.engine_id.clone());
        match record.state {
            LifeState::Running => {
                if self.containers.len() < CONTAINERS_MAX || self.containers.contains_key(&at) {
                    self.containers.insert(at, record.container);
                } else {
                    self.refused += 1;
                }
            }
            // An earlier life of a container says nothing about its present one.
            LifeState::Stopped => {
                if self.containers.get(&at).is_some_and(|c| c.key.cgroup == key.cgroup) {
                    self.containers.remove(&at);
                }
            }
        }
    }

    /// Takes in a measure or its end.
    pub fn measure(&mut self, record: MeasureRecord) {
        match record {
            MeasureRecord::Set(measure) => {
                self.measures.insert(measure.id, measure);
                if self.measures.len() > MEASURES_MAX
                    && let Some(oldest) =
                        self.measures.values().min_by_key(|m| m.expires).map(|m| m.id)
                {
                    self.measures.remove(&oldest);
                    self.refused += 1;
                }
            }
            MeasureRecord::Released { id, .. } => {
                self.measures.remove(&id);
            }
        }
    }

    /// Measures in force.
    pub fn in_force(&self, now: Timestamp) -> impl Iterator<Item = &Measure> {
        self.measures.values().filter(move |m| m.expires > now)
    }

    /// Measures in force or ended, which nobody released.
    pub fn history(&self) -> impl Iterator<Item = &Measure> {
        self.measures.values()
    }

    /// The automatic measures that an alert led to, by id.
    pub fn taken_for(&self, alert: AlertId) -> Vec<MeasureId> {
        use bulkhead_domain::measure::Decider;
        self.measures
            .values()
            .filter(|m| matches!(m.decider, Decider::Automatic { alert: because, .. } if because == alert))
            .map(|m| m.id)
            .collect()
    }

    /// Measures that the ladder no longer remembers: their records may end.
    pub fn forgotten(&self, now: Timestamp) -> impl Iterator<Item = &Measure> {
        self.measures.values().filter(move |m| is_forgotten(m, now))
    }

    /// Automatic measures decided within this time.
    pub fn decided_within(&self, span: Duration, now: Timestamp) -> u64 {
        let recent =
            self.measures.values().filter(|m| !m.is_manual() && now.since(m.created) < span);
        recent.count() as u64
    }

    /// Containers of a workload that run.
    pub fn replicas(&self, workload: &WorkloadName) -> impl Iterator<Item = &Container> {
        self.containers.values().filter(move |c| c.workload == *workload)
    }

    /// A container that runs, in its present life.
    pub fn container(&self, key: &ContainerKey) -> Option<&Container> {
        self.containers.get(&(key.node.clone(), key.engine_id.clone()))
    }

    /// The workload that a target belongs to, when it is known.
    pub fn workload_of(&self, target: &Target) -> Option<WorkloadName> {
        match target {
            Target::Workload(name) => Some(name.clone()),
            Target::Container(key) => self.container(key).map(|c| c.workload.clone()),
        }
    }

    /// What was not kept for lack of room.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

fn is_forgotten(measure: &Measure, now: Timestamp) -> bool {
    measure.expires <= now && now.since(measure.expires) >= FORGOTTEN_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{
        at, container, deny, measure, released, running, workload, workload_target,
    };

    #[test]
    fn a_container_counts_while_it_runs() {
        let mut state = State::default();
        state.inventory(running(container(1)));
        state.inventory(running(container(2)));
        assert_eq!(state.replicas(&workload()).count(), 2);
        state.inventory(InventoryRecord { state: LifeState::Stopped, ..running(container(1)) });
        assert_eq!(state.replicas(&workload()).count(), 1);
    }

    #[test]
    fn the_end_of_an_earlier_life_does_not_end_the_present_one() {
        let mut state = State::default();
        let (old, mut new) = (container(1), container(1));
        new.key.cgroup += 1;
        state.inventory(running(old.clone()));
        state.inventory(running(new));
        state.inventory(InventoryRecord { state: LifeState::Stopped, ..running(old) });
        assert_eq!(state.replicas(&workload()).count(), 1);
    }

    #[test]
    fn a_measure_is_in_force_until_it_ends_or_is_released() {
        let mut state = State::default();
        let (a, b) = (
            measure(1, workload_target(), deny(), at(0), at(100)),
            measure(2, workload_target(), deny(), at(0), at(200)),
        );
        state.measure(MeasureRecord::Set(a));
        state.measure(MeasureRecord::Set(b.clone()));
        assert_eq!(state.in_force(at(99)).count(), 2);
        assert_eq!(state.in_force(at(100)).count(), 1, "it ends at its time, not after it");
        assert_eq!(state.history().count(), 2);
        state.measure(released(&b));
        assert_eq!((state.in_force(at(99)).count(), state.history().count()), (1, 1));
    }

    #[test]
    fn only_what_ended_long_ago_is_forgotten() {
        let mut state = State::default();
        state.measure(MeasureRecord::Set(measure(1, workload_target(), deny(), at(0), at(100))));
        assert_eq!(state.forgotten(at(101)).count(), 0);
        assert_eq!(state.forgotten(at(100).plus(FORGOTTEN_AFTER)).count(), 1);
    }
}
