//! What operators want of a workload: decisions of people, in the order of the log.

use bulkhead_domain::alert::{Alert, Review};
use bulkhead_domain::intent::{Intent, Wish};
use bulkhead_domain::{AlertId, EventId, Mode, Timestamp};
use bulkhead_models::novelty::Novelty;
use bulkhead_models::sequence::Sequence;
use bulkhead_models::volume::Volume;

use crate::config::Config;
use crate::fleet::Fleet;
use crate::learner;
use crate::output::Output;
use crate::workload::WorkloadState;

/// Applies a wish; what it changes is answered.
pub(crate) fn apply(
    state: &mut WorkloadState,
    config: &Config,
    fleet: &Fleet,
    intent: &Intent,
    at: Timestamp,
    id: EventId,
) -> Vec<Output> {
    match &intent.wish {
        Wish::AcceptAlert(alert) => accept(state, fleet, intent, *alert, at, id),
        Wish::RetractAlert(alert) => retract(state, *alert),
        Wish::AcceptAct(act) => {
            state.novelty.accept(act, &intent.who, None, at, id, &fleet.inventory);
            settle(state);
            Vec::new()
        }
        Wish::Mute { alert, duration } => {
            let Some(kept) = state.alerts.iter().find(|k| k.alert.id == *alert) else {
                return Vec::new();
            };
            let subject = kept.alert.contributions.first().map(|top| top.subject.clone());
            if duration.is_some_and(|d| d.is_zero()) {
                if let Some(subject) = subject {
                    state.muted.remove(&subject);
                }
                return review(state, *alert, Review::Open, false);
            }
            if let Some(subject) = subject {
                state.muted.insert(subject, duration.map(|d| at.plus(d)));
            }
            review(state, *alert, Review::Muted { who: intent.who.clone() }, true)
        }
        Wish::SetMode { mode, learn_for, until_mature } => {
            if *mode == Mode::Learn {
                state.begun = at;
                state.learn_until = learn_for.map(|d| at.plus(d));
                state.until_mature = *until_mature;
                state.next = config.learning.then;
            } else if state.mode == Mode::Learn {
                learner::finish(state, config, at);
            }
            set_mode(state, *mode, format!("{} asked for it: {}", intent.who, intent.why), at)
        }
        Wish::SetBudget(budget) => {
            state.budget = Some(*budget);
            Vec::new()
        }
        Wish::Reset => {
            state.novelty = Novelty::new(config.kind_cap);
            state.volume = Volume::default();
            state.sequence = Sequence::default();
            state.ensemble = None;
            state.model_version = "none".into();
            state.muted.clear();
            state.begun = at;
            state.learn_until = config.learning.at_most.map(|d| at.plus(d));
            state.until_mature = config.learning.until_mature;
            state.scored_since = None;
            set_mode(
                state,
                Mode::Learn,
                format!("{} reset the baseline: {}", intent.who, intent.why),
                at,
            )
        }
    }
}

/// Changes the mode, and says so when it did change.
pub(crate) fn set_mode(
    state: &mut WorkloadState,
    to: Mode,
    why: String,
    at: Timestamp,
) -> Vec<Output> {
    let from = std::mem::replace(&mut state.mode, to);
    if from == to {
        return Vec::new();
    }
    vec![Output::ModeChanged { workload: state.name.clone(), from, to, why, at }]
}

fn settle(state: &mut WorkloadState) {
    if state.mode != Mode::Learn {
        state.novelty.settle();
    }
}

fn accept(
    state: &mut WorkloadState,
    fleet: &Fleet,
    intent: &Intent,
    alert: AlertId,
    at: Timestamp,
    id: EventId,
) -> Vec<Output> {
    let Some(kept) = state.alerts.iter().find(|k| k.alert.id == alert).cloned() else {
        return Vec::new();
    };
    for act in &kept.acceptable.acts {
        state.novelty.accept(act, &intent.who, Some(alert), at, id, &fleet.inventory);
    }
    state.volume.accept(&kept.acceptable.excesses, Some(alert));
    state.sequence.accept(&kept.acceptable.buckets);
    state.repositories.extend(kept.acceptable.repository);
    settle(state);
    review(
        state,
        alert,
        Review::Accepted { who: intent.who.clone(), why: intent.why.clone() },
        true,
    )
}

fn retract(state: &mut WorkloadState, alert: AlertId) -> Vec<Output> {
    let Some(kept) = state.alerts.iter().find(|k| k.alert.id == alert).cloned() else {
        return Vec::new();
    };
    state.novelty.retract(alert);
    state.volume.retract(alert);
    state.sequence.retract(&kept.acceptable.buckets);
    if let Some(repository) = &kept.acceptable.repository {
        state.repositories.remove(repository);
    }
    if let Some(top) = kept.alert.contributions.first() {
        state.muted.remove(&top.subject);
    }
    settle(state);
    review(state, alert, Review::Open, false)
}

/// Notes what a person said of an alert, and closes its incident where that settles it.
fn review(state: &mut WorkloadState, alert: AlertId, review: Review, closes: bool) -> Vec<Output> {
    for container in state.containers.values_mut() {
        if container.incident.as_ref().is_some_and(|i| i.alert.id == alert) && closes {
            container.incident = None;
        }
        if container.blinded.as_ref().is_some_and(|i| i.alert.id == alert) && closes {
            container.blinded = None;
        }
    }
    let Some(kept) = state.alerts.iter_mut().find(|k| k.alert.id == alert) else {
        return Vec::new();
    };
    kept.alert.review = review;
    kept.alert.closed |= closes;
    kept.alert.revision += 1;
    let told: Alert = kept.alert.clone();
    vec![Output::Alert(Box::new(told))]
}
