//! What is done about one alert, and what holds it back.
//!
//! In this order, the first that applies: the mode is not `enforce` or nothing fits (no step at all); the same measure, or
//! a wider one, is in force already (nothing to add); the evidence is too old; the workload is marked `protect`; the peer
//! is protected, or needed by the node; too many measures this minute; too many replicas would be cut off; else impose.

use std::time::Duration;

use bulkhead_domain::duration;
use bulkhead_domain::guardrail::Guardrails;
use bulkhead_domain::measure::{Action, Decider, Measure, Proposal, Target};
use bulkhead_domain::net::PeerMatch;
use bulkhead_domain::plan::{Plan, Step};
use bulkhead_domain::text::printable;
use bulkhead_domain::{Alert, MeasureId, Mode, Timestamp, WorkloadName};

use crate::ladder;
use crate::state::State;

/// The span over which new measures are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// What bounds the planner.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The cluster that measures are decided for.
    pub cluster: String,
    /// Bounds on automatic measures.
    pub guardrails: Guardrails,
    /// Peers that the nodes need to live: the kernel lets them pass whatever a measure says, so none is decided.
    pub node_critical: Vec<PeerMatch>,
}

/// The steps for the latest revision of an alert, with what is known at this instant.
pub fn plan(alert: &Alert, state: &State, settings: &Settings, now: Timestamp) -> Plan {
    Plan { steps: step(alert, state, settings, now).into_iter().collect() }
}

fn step(alert: &Alert, state: &State, settings: &Settings, now: Timestamp) -> Option<Step> {
    let proposal = alert.proposal.as_ref()?;
    if alert.mode != Mode::Enforce || alert.closed || !is_undecided(alert) {
        return None;
    }
    if state.in_force(now).any(|m| covers(m, proposal, state)) {
        return None;
    }
    let rung = ladder::rung(proposal, state.history(), now);
    let id = MeasureId::automatic(alert.id, &proposal.target, &proposal.action, rung);
    if let Some(reason) = held_back(alert, proposal, state, settings, now) {
        return Some(Step::HoldBack { alert: alert.id, proposal: proposal.clone(), reason });
    }
    Some(Step::Impose(Measure {
        id,
        cluster: settings.cluster.clone(),
        target: proposal.target.clone(),
        action: proposal.action.clone(),
        decider: Decider::Automatic { alert: alert.id, rung },
        reason: printable(&alert.title, 200),
        created: now,
        expires: now.plus(ladder::ttl(&settings.guardrails.ttl_ladder, rung)),
    }))
}

/// A person who accepted or muted an alert has decided already.
fn is_undecided(alert: &Alert) -> bool {
    alert.review == bulkhead_domain::alert::Review::Open
}

/// Whether a measure already does at least what the proposal wants.
fn covers(measure: &Measure, proposal: &Proposal, state: &State) -> bool {
    let same = is_same_target(&measure.target, &proposal.target);
    let wider = match (&measure.target, &proposal.target) {
        (Target::Workload(name), Target::Container(key)) => {
            state.container(key).is_some_and(|c| c.workload == *name)
        }
        _ => false,
    };
    (same || wider) && does_at_least(&measure.action, &proposal.action)
}

/// The same workload, or the same container in whichever of its lives.
pub(crate) fn is_same_target(one: &Target, other: &Target) -> bool {
    match (one, other) {
        (Target::Container(a), Target::Container(b)) => {
            a.node == b.node && a.engine_id == b.engine_id
        }
        (a, b) => a == b,
    }
}

fn does_at_least(action: &Action, wanted: &Action) -> bool {
    match (action, wanted) {
        (Action::Quarantine, _) => true,
        (Action::Deny(_), Action::Quarantine) => false,
        (Action::Deny(wide), Action::Deny(narrow)) => contains(wide, narrow),
    }
}

/// Whether every peer under `narrow` is under `wide` too.
fn contains(wide: &PeerMatch, narrow: &PeerMatch) -> bool {
    wide.prefix.length() <= narrow.prefix.length()
        && wide.prefix.contains(narrow.prefix.address())
        && (wide.port.is_none() || wide.port == narrow.port)
        && (wide.protocol.is_none() || wide.protocol == narrow.protocol)
}

/// Whether some peer is under both.
fn overlap(one: &PeerMatch, other: &PeerMatch) -> bool {
    let prefixes = one.prefix.contains(other.prefix.address())
        && one.prefix.length() <= other.prefix.length()
        || other.prefix.contains(one.prefix.address())
            && other.prefix.length() <= one.prefix.length();
    let ports = one.port.is_none() || other.port.is_none() || one.port == other.port;
    let protocols =
        one.protocol.is_none() || other.protocol.is_none() || one.protocol == other.protocol;
    prefixes && ports && protocols
}

/// The guardrail that forbids it, with its bound, for a person.
fn held_back(
    alert: &Alert,
    proposal: &Proposal,
    state: &State,
    settings: &Settings,
    now: Timestamp,
) -> Option<String> {
    let rails = &settings.guardrails;
    let age = now.since(alert.last);
    if age > rails.evidence_age_max {
        return Some(format!(
            "the evidence is {} old, and evidence older than {} never acts (guardrails.evidence-age-max)",
            duration::format(age),
            duration::format(rails.evidence_age_max)
        ));
    }
    if let Some(entry) = protected_workload(&alert.workload, rails) {
        return Some(format!(
            "workload is marked `{}` (guardrails.protect)",
            printable(entry, 120)
        ));
    }
    if let Action::Deny(peer) = &proposal.action {
        if let Some(rule) = rails.protected.iter().find(|rule| overlap(rule, peer)) {
            return Some(format!("peer {rule} is protected (guardrails.protected)"));
        }
        if let Some(rule) = settings.node_critical.iter().find(|rule| overlap(rule, peer)) {
            return Some(format!("the node needs peer {rule} (enforcement.node-critical)"));
        }
    }
    let recent = state.decided_within(MINUTE, now);
    if recent >= u64::from(rails.measures_per_minute_max) {
        return Some(format!(
            "{recent} measures were taken within a minute, at most {} may be (guardrails.measures-per-minute-max)",
            rails.measures_per_minute_max
        ));
    }
    match proposal.action {
        Action::Quarantine => too_many_replicas(proposal, alert, state, rails, now),
        Action::Deny(_) => None,
    }
}

fn protected_workload<'r>(workload: &WorkloadName, rails: &'r Guardrails) -> Option<&'r String> {
    let (full, short) = (workload.to_string(), workload.short());
    rails.protect.iter().find(|entry| **entry == full || **entry == short)
}

/// How many replicas may be quarantined at once: the share of those that run, and always one.
fn replicas_max(running: usize, share: f64) -> usize {
    ((running as f64 * share).floor() as usize).max(1)
}

fn too_many_replicas(
    proposal: &Proposal,
    alert: &Alert,
    state: &State,
    rails: &Guardrails,
    now: Timestamp,
) -> Option<String> {
    let running: Vec<_> = state.replicas(&alert.workload).collect();
    let quarantines: Vec<&Measure> =
        state.in_force(now).filter(|m| m.action == Action::Quarantine).collect();
    let is_cut = |container: &&&bulkhead_domain::Container| {
        quarantines.iter().any(|m| bulkhead_domain::verdict::concerns(m, container))
    };
    let cut = running.iter().filter(is_cut).count();
    let more = match &proposal.target {
        Target::Container(_) => 1,
        Target::Workload(_) => running.len().saturating_sub(cut).max(1),
    };
    let most = replicas_max(running.len(), rails.replicas_share_max);
    (cut + more > most).then(|| {
        format!(
            "{cut} of {} replicas are quarantined, at most {most} may be (guardrails.replicas-share-max)",
            running.len()
        )
    })
}

#[cfg(test)]
mod tests;
