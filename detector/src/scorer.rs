//! Scoring: which evidence goes over its stream's threshold, and which is explained by better evidence.

use std::time::Duration;

use bulkhead_domain::alert::AlertClass;
use bulkhead_domain::behaviour::{Act, Behaviour, BehaviourKind, ForbiddenAct};
use bulkhead_domain::process::Process;
use bulkhead_domain::score::{Score, Threshold, View};
use bulkhead_domain::text::printable;
use bulkhead_domain::{ContainerKey, EventId, Timestamp, Window};
use bulkhead_models::Detector;
use bulkhead_models::detector::Part;
use bulkhead_models::explain::Brought;
use bulkhead_models::key::Key;
use bulkhead_models::novelty::Standing;
use bulkhead_models::sequence::under_load;
use bulkhead_models::shape::{FlowKey, Shape};
use bulkhead_models::volume::{Doubt, Sample};

use crate::config::Config;
use crate::fleet::Fleet;
use crate::incident::Exceedance;
use crate::learner::{block_of, budget_per_day, cells_per_day, novelty_target};
use crate::workload::{Acceptable, WorkloadState};

/// Score of what is never learned by repetition, nats: above any threshold.
const CERTAIN: f64 = 250.0;

/// Windows after a refusal in which retries and error paths are expected.
const RETRIES: u32 = 3;

/// One piece of evidence.
pub(crate) struct Evidence<'a> {
    pub key: &'a ContainerKey,
    pub at: Timestamp,
    pub id: EventId,
    pub step: Duration,
    /// The engine vouches for the process.
    pub vouched: bool,
    /// The container is setting itself up.
    pub start_up: bool,
}

/// The threshold of the behaviours' stream: one new behaviour exceeds it exactly when its kind is mature.
pub(crate) fn behaviours_threshold(
    state: &WorkloadState,
    config: &Config,
    fleet: &Fleet,
) -> Threshold {
    let allowed = novelty_target(state, config, fleet) / cells_per_day(state, config);
    Threshold {
        score: Score(-(allowed / (1.0 + allowed)).ln()),
        extrapolated: config.novelty_per_day.is_some(),
        interval: None,
        blocks: state.novelty.cells(),
    }
}

/// Windows a day of all running containers.
fn windows_per_day(state: &WorkloadState, config: &Config) -> f64 {
    86_400_000.0 / config.step_ms.max(1) as f64 * state.running() as f64
}

/// The threshold of the windows' stream; `None` before calibration.
pub(crate) fn windows_threshold(
    state: &WorkloadState,
    config: &Config,
    fleet: &Fleet,
) -> Option<Threshold> {
    let per_day = budget_per_day(state, config, fleet) * (1.0 - config.behaviours_share);
    Some(state.ensemble.as_ref()?.sum.threshold(per_day, windows_per_day(state, config)))
}

/// Scores a forbidden act: in every mode, until a person accepts it.
pub(crate) fn forbidden(
    state: &WorkloadState,
    fleet: &Fleet,
    evidence: &Evidence<'_>,
    behaviour: &Behaviour,
) -> Option<Exceedance> {
    let Act::Forbidden { act, object } = &behaviour.act else { return None };
    // What an operator's own debugger or shell does through the engine is the operator's doing, and audited there.
    let operators =
        matches!(act, ForbiddenAct::ShellOnSocket | ForbiddenAct::Ptrace | ForbiddenAct::MemfdExec);
    if evidence.vouched && operators {
        return None;
    }
    if state.novelty.accepted(&behaviour.act, &fleet.inventory)
        || (*act == ForbiddenAct::ShellOnSocket && fleet.shells_accepted.contains(object))
    {
        return None;
    }
    Some(Exceedance {
        class: AlertClass::Forbidden,
        score: Score(CERTAIN),
        threshold: Threshold { score: Score(0.0), extrapolated: false, interval: None, blocks: 0 },
        provisional: false,
        certain: Some(Part {
            subject: behaviour.act.to_string(),
            observed: by_whom(behaviour.process.as_ref()),
            expected: "never, unless a person accepts it".into(),
            weight: CERTAIN,
            act: Some(behaviour.act.clone()),
            peer: None,
        }),
        acts: Vec::new(),
        window: Vec::new(),
        process: behaviour.process.clone(),
        at: evidence.at,
        evidence: evidence.id,
        loss_ratio: 0.0,
        nearest: String::new(),
        acceptable: Acceptable { acts: vec![behaviour.act.clone()], ..Acceptable::default() },
    })
}

fn by_whom(process: Option<&Process>) -> String {
    process.map_or_else(
        || "by an unknown process".into(),
        |p| {
            format!(
                "by {} ({}), parent {}",
                printable(&p.executable, 80),
                p.origin.word(),
                if p.parent.is_empty() { "unknown".into() } else { printable(&p.parent, 80) }
            )
        },
    )
}

/// Whether better evidence explains a new behaviour.
///
/// The engine vouches for the process: executing, resolving a name, unusual calls and talking to itself are its errand;
/// connecting to a new peer is more than that. The peer is the resolver that neighbours ask: what is asked of it is scored
/// as a name. The container is setting itself up: its image's own programs, ports and
/// calls, which recur at each start; new peers and names are more than that. Or it is the callee's end of an act between
/// two observed containers: scored at the one that began it.
fn explained(fleet: &Fleet, evidence: &Evidence<'_>, act: &Act) -> bool {
    match act {
        Act::Exec { .. } | Act::Syscall { .. } => evidence.vouched || evidence.start_up,
        Act::Listen { .. } => evidence.start_up,
        Act::Dns { .. } => evidence.vouched,
        Act::Connect { peer, .. } => {
            fleet.resolvers.contains(peer) || (evidence.vouched && peer.address.is_loopback())
        }
        Act::Inbound { peer, .. } => {
            peer.address.is_loopback() || fleet.inventory.workload(peer.address).is_some()
        }
        Act::Forbidden { .. } => false,
    }
}

/// Scores a behaviour against the baseline.
pub(crate) fn behaviour(
    state: &mut WorkloadState,
    config: &Config,
    fleet: &Fleet,
    evidence: &Evidence<'_>,
    behaviour: &Behaviour,
) -> Option<Exceedance> {
    let standing = state.novelty.standing(&behaviour.act, &fleet.inventory);
    if standing == Standing::Normal || explained(fleet, evidence, &behaviour.act) {
        return None;
    }
    let block = block_of(evidence.at, config.block);
    let nearest = state.novelty.nearest(&behaviour.act);
    let threshold = behaviours_threshold(state, config, fleet);
    let container = state.container(evidence.key, evidence.at);
    if container.fresh_block != block {
        container.fresh_block = block;
        container.fresh = bulkhead_models::fresh::Fresh::default();
    }
    container.fresh.add(&behaviour.act);
    container.fresh_at = Some(evidence.at);
    let fresh = container.fresh.clone();
    let score = state.novelty.score(&fresh)?.score;
    if score < threshold.score.0 || score <= 0.0 {
        return None;
    }
    let kind = behaviour.act.kind();
    Some(Exceedance {
        class: AlertClass::Deviation,
        score: Score(score),
        threshold,
        provisional: threshold.extrapolated || state.novelty.is_open(kind),
        certain: None,
        acts: fresh.kind(kind).map_or_else(Vec::new, |few| match few.examples.len() {
            // The acts that led up to the threshold belong to the incident as well; later ones come one by one.
            n if n <= 8 => few.examples.clone(),
            _ => vec![behaviour.act.clone()],
        }),
        window: Vec::new(),
        process: behaviour.process.clone(),
        at: evidence.at,
        evidence: evidence.id,
        loss_ratio: 0.0,
        nearest,
        acceptable: Acceptable { acts: vec![behaviour.act.clone()], ..Acceptable::default() },
    })
}

/// What of a window cannot be judged, by evidence from elsewhere.
pub(crate) fn doubt(
    state: &mut WorkloadState,
    fleet: &Fleet,
    evidence: &Evidence<'_>,
    window: &Window,
    shape: &Shape,
) -> Doubt {
    let container = state.container(evidence.key, evidence.at);
    let refused =
        container.refused_at.is_some_and(|at| evidence.at.since(at) <= evidence.step * RETRIES);
    let troubled = shape.flows.iter().any(|flow| match &flow.key {
        FlowKey::Out(Key::ConnectWorkload(workload, ..)) => fleet.in_trouble(workload, evidence.at),
        _ => false,
    });
    Doubt {
        process: evidence.start_up
            || container.vouched.active(evidence.at, evidence.step * 2)
            || container.vouched.active(window.start, evidence.step),
        retries: refused || troubled,
    }
}

/// Scores a window. Above the loss ratio its sequences are not looked at; what the kernel counted still is, because a loss
/// only ever makes a count smaller.
pub(crate) fn window(
    state: &mut WorkloadState,
    config: &Config,
    fleet: &Fleet,
    evidence: &Evidence<'_>,
    window: &Window,
) -> Option<Exceedance> {
    let shape = Shape::of(window, &fleet.inventory);
    let doubt = doubt(state, fleet, evidence, window, &shape);
    let threshold = windows_threshold(state, config, fleet)?;
    let ensemble = state.ensemble.as_ref()?;
    let sample = Sample { shape: &shape, doubt };
    let volume = state.volume.score(&sample).unwrap_or_default();
    let loss_ratio = window.loss.ratio();
    let blind = doubt.process || doubt.retries || loss_ratio > config.loss_ratio_max;
    let sequence = if blind { None } else { state.sequence.score(&window) }.unwrap_or_default();
    let strange = under_load(sequence.score, state.volume.growth(&shape));
    let of_volume = if volume.score > 0.0 { ensemble.volume(volume.score) } else { 0.0 };
    let of_sequence = if strange > 0.0 { ensemble.sequence(strange) } else { 0.0 };
    let container = state.container(evidence.key, evidence.at);
    let lasting = container.locality.lasting(of_sequence);
    let corroborated =
        container.fresh_at.is_some_and(|at| evidence.at.since(at) <= evidence.step * 2);
    let of_sequence = if corroborated { of_sequence } else { lasting };
    let score = state.ensemble.as_ref()?.sum.surprise(of_volume + of_sequence);
    if score < threshold.score.0 || of_volume + of_sequence <= 0.0 {
        return None;
    }
    let excesses: Vec<_> =
        state.volume.excesses(&sample).into_iter().map(|e| (e.subject, e.value)).collect();
    let nearest =
        excesses.first().map(|(subject, _)| state.volume.nearest(subject)).unwrap_or_default();
    let buckets = if of_sequence > 0.0 { state.sequence.new_buckets(window) } else { Vec::new() };
    Some(Exceedance {
        class: AlertClass::Deviation,
        score: Score(score),
        threshold,
        provisional: threshold.extrapolated,
        certain: None,
        acts: Vec::new(),
        window: vec![
            Brought { view: View::Volume, surprise: of_volume, parts: volume.parts },
            Brought { view: View::Sequence, surprise: of_sequence, parts: sequence.parts },
        ],
        process: None,
        at: evidence.at,
        evidence: evidence.id,
        loss_ratio,
        nearest,
        acceptable: Acceptable { acts: Vec::new(), excesses, buckets, repository: None },
    })
}

/// Views that score by now.
pub(crate) fn detectors_on(state: &WorkloadState) -> Vec<View> {
    let mut on = Vec::new();
    if state.mode == bulkhead_domain::Mode::Learn {
        return on;
    }
    if state.novelty.cells() > 0
        && BehaviourKind::ALL.iter().any(|k| state.novelty.surprise(*k, 1) > 0.0)
    {
        on.push(View::Novelty);
    }
    if let Some(ensemble) = &state.ensemble {
        if ensemble.has_sequence() {
            on.push(View::Sequence);
        }
        on.push(View::Volume);
    }
    on
}
