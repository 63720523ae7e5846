//! Learning: what goes into a baseline, and when it is enough.

use std::time::Duration;

use bulkhead_domain::baseline::Maturity;
use bulkhead_domain::behaviour::{Act, Behaviour, BehaviourKind};
use bulkhead_domain::window::Direction;
use bulkhead_domain::{ContainerKey, EventId, Mode, Timestamp, Window, duration};
use bulkhead_models::Detector;
use bulkhead_models::ensemble::Ensemble;
use bulkhead_models::fold::Origin;
use bulkhead_models::maturity::{Pace, cycles_unseen, kind};
use bulkhead_models::novelty::Sighting;
use bulkhead_models::shape::Shape;
use bulkhead_models::{sequence, volume};

use crate::config::Config;
use crate::fleet::Fleet;
use crate::workload::WorkloadState;

/// Kinds that learning waits for: forbidden acts are never learned.
const LEARNED: [BehaviourKind; 6] = [
    BehaviourKind::Exec,
    BehaviourKind::Connect,
    BehaviourKind::Listen,
    BehaviourKind::Inbound,
    BehaviourKind::Dns,
    BehaviourKind::Syscall,
];

/// The block of time that an instant lies in.
pub(crate) fn block_of(at: Timestamp, block: Duration) -> u64 {
    at.0 / u64::try_from(block.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Where a lesson comes from.
pub(crate) struct Lesson<'a> {
    pub key: &'a ContainerKey,
    pub at: Timestamp,
    pub evidence: EventId,
    /// The container is setting itself up.
    pub start_up: bool,
    /// An incident is near: what is new waits for review.
    pub suspect: bool,
}

/// Takes a behaviour into the baseline.
pub(crate) fn behaviour(
    state: &mut WorkloadState,
    config: &Config,
    fleet: &Fleet,
    lesson: &Lesson<'_>,
    behaviour: &Behaviour,
) {
    let replica = state.container(lesson.key, lesson.at).replica;
    let block = block_of(lesson.at, config.block);
    state.novelty.observe_cell(replica, block);
    state.novelty.learn(&Sighting {
        act: &behaviour.act,
        count: behaviour.count,
        replica,
        block,
        at: lesson.at,
        evidence: lesson.evidence,
        executable: behaviour.process.as_ref().map_or("", |p| p.executable.as_str()),
        start_up: lesson.start_up,
        suspect: lesson.suspect,
        inventory: &fleet.inventory,
    });
}

/// Takes a window into the baseline: its numbers, its sequences, and its peers as behaviours, because a connection that was
/// open before the probes were is seen nowhere else.
pub(crate) fn window(
    state: &mut WorkloadState,
    config: &Config,
    fleet: &Fleet,
    lesson: &Lesson<'_>,
    window: &Window,
    calibrates: bool,
) {
    let container = state.container(lesson.key, lesson.at);
    let block = block_of(window.start, config.block);
    let origin = Origin { replica: container.replica, index: container.windows, block };
    state.novelty.observe_cell(origin.replica, block);
    for traffic in &window.peers {
        let act = match traffic.direction {
            Direction::Outbound => Act::Connect { peer: traffic.peer, name: None, refused: false },
            Direction::Inbound => Act::Inbound { peer: traffic.peer, port: traffic.local_port },
        };
        state.novelty.learn(&Sighting {
            act: &act,
            count: traffic.connections,
            replica: origin.replica,
            block,
            at: lesson.at,
            evidence: lesson.evidence,
            executable: "",
            start_up: lesson.start_up,
            suspect: lesson.suspect,
            inventory: &fleet.inventory,
        });
    }
    if lesson.suspect {
        return;
    }
    if !lesson.start_up {
        state.volume.learn(&volume::Lesson { origin, shape: Shape::of(window, &fleet.inventory) });
    }
    state.sequence.learn(&sequence::Lesson { origin, window, held_out: calibrates });
}

/// What the novelty share of the budget allows a day, or the looser bound that was set for a short run.
pub(crate) fn novelty_target(state: &WorkloadState, config: &Config, fleet: &Fleet) -> f64 {
    config
        .novelty_per_day
        .unwrap_or_else(|| budget_per_day(state, config, fleet) * config.behaviours_share)
}

/// Alerts a day that this workload may raise when nothing is wrong.
pub(crate) fn budget_per_day(state: &WorkloadState, config: &Config, fleet: &Fleet) -> f64 {
    state.budget.map_or_else(
        || config.budget.alerts_per_day() / fleet.workloads.max(1) as f64,
        bulkhead_domain::budget::AlertBudget::alerts_per_day,
    )
}

/// Cells a day at the present number of containers.
pub(crate) fn cells_per_day(state: &WorkloadState, config: &Config) -> f64 {
    86_400.0 / config.block.as_secs_f64().max(1e-3) * state.running() as f64
}

/// How much of the workload is in its baseline.
pub(crate) fn maturity(state: &WorkloadState, config: &Config, fleet: &Fleet) -> Maturity {
    let cells_per_day = cells_per_day(state, config);
    let elapsed_secs = state.novelty.cells() as f64 / cells_per_day * 86_400.0;
    let pace = Pace {
        cells_per_day,
        elapsed_secs,
        target_per_day: novelty_target(state, config, fleet),
        cap: config.kind_cap,
    };
    let kinds: Vec<_> =
        LEARNED.iter().map(|k| kind(*k, &state.novelty.incidence(*k), pace)).collect();
    let blocks = state.volume.blocks();
    let calibrated = state.ensemble.is_some() || blocks >= config.blocks_min;
    let mature = calibrated && kinds.iter().all(|k| k.mature);
    let mut waits_for = Vec::new();
    for k in kinds.iter().filter(|k| !k.mature) {
        let eta = match (k.eta_secs, k.eta_is_lower_bound) {
            (Some(secs), false) => {
                format!("about {} more", duration::format(Duration::from_secs(secs)))
            }
            (Some(secs), true) => {
                format!("longer than {} more", duration::format(Duration::from_secs(secs)))
            }
            (None, _) => "no estimate yet".to_owned(),
        };
        waits_for.push(format!(
            "{}: up to {:.1} new behaviours a day, {:.1} allowed; {eta}",
            k.kind.word(),
            k.new_per_day_bound,
            k.target_per_day
        ));
    }
    if !calibrated {
        waits_for.push(format!(
            "calibration: {blocks} of {} blocks of {}",
            config.blocks_min,
            duration::format(config.block)
        ));
    }
    if state.refused_windows > 0 {
        waits_for.push(format!(
            "{} windows were refused: their feature set is another one",
            state.refused_windows
        ));
    }
    if mature {
        if config.novelty_per_day.is_some() {
            waits_for.push(format!(
                "the bound was set for a short run: {:.0} new behaviours a day, in blocks of {}",
                pace.target_per_day,
                duration::format(config.block)
            ));
        }
        if state.novelty.replicas() == 1 {
            waits_for.push(
                "one replica: nothing to compare its behaviours with, so none waits for review"
                    .into(),
            );
        }
    }
    waits_for.extend(cycles_unseen(elapsed_secs));
    let slowest = kinds
        .iter()
        .filter(|k| !k.mature)
        .max_by_key(|k| (k.eta_is_lower_bound, k.eta_secs.unwrap_or(u64::MAX)));
    let blocks_eta = (!calibrated).then(|| (config.blocks_min - blocks) * config.block.as_secs());
    let eta_secs = match (slowest.and_then(|k| k.eta_secs), blocks_eta) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    };
    Maturity {
        mature,
        eta_secs,
        eta_is_lower_bound: slowest.is_some_and(|k| k.eta_is_lower_bound),
        kinds,
        waits_for,
    }
}

/// Whether learning ends now, and why.
pub(crate) fn ends(
    state: &mut WorkloadState,
    config: &Config,
    fleet: &Fleet,
    at: Timestamp,
) -> Option<String> {
    if state.mode != Mode::Learn {
        return None;
    }
    if state.learn_until.is_some_and(|until| until <= at) {
        return Some("the time set for learning is over".into());
    }
    let block = block_of(at, config.block);
    if !state.until_mature
        || at.since(state.begun) < config.learning.at_least
        || state.judged_block == block
    {
        return None;
    }
    state.judged_block = block;
    maturity(state, config, fleet).mature.then(|| "the baseline is mature".into())
}

/// Fits and calibrates what was learned.
pub(crate) fn finish(state: &mut WorkloadState, config: &Config, at: Timestamp) {
    state.novelty.review_lonely();
    state.novelty.settle();
    state.volume.fit();
    state.sequence.fit();
    state.ensemble = Ensemble::fit(
        &state.volume.held_out(),
        &state.sequence.held_out(),
        u64::from(config.quiet_windows),
    );
    state.model_version = format!("live-{}", state.version);
    state.scored_since.get_or_insert(at);
}
