//! What a person is shown of the engine's state.

use bulkhead_domain::Mode;
use bulkhead_domain::score::Stream;
use bulkhead_domain::view::{BaselineView, EngineView, ThresholdView, WorkloadSummary};

use crate::config::Config;
use crate::fleet::Fleet;
use crate::learner::{budget_per_day, maturity};
use crate::scorer::{behaviours_threshold, detectors_on, windows_threshold};
use crate::workload::WorkloadState;

/// Every workload and the latest alerts.
pub(crate) fn engine<'a>(
    states: impl Iterator<Item = &'a WorkloadState> + Clone,
    config: &Config,
    fleet: &Fleet,
) -> EngineView {
    let mut alerts: Vec<_> =
        states.clone().flat_map(|s| s.alerts.iter().map(|k| k.alert.clone())).collect();
    alerts.sort_by(|a, b| b.last.cmp(&a.last).then(b.id.cmp(&a.id)));
    alerts.truncate(config.alerts_kept);
    EngineView {
        workloads: states
            .clone()
            .filter(|s| s.is_workload())
            .map(|s| summary(s, config, fleet))
            .collect(),
        alerts,
        records: states.clone().map(|s| s.version).sum(),
        duplicates: states.map(|s| s.duplicates).sum(),
    }
}

fn summary(state: &WorkloadState, config: &Config, fleet: &Fleet) -> WorkloadSummary {
    let (entries, review) = state.novelty.counts();
    let learning = state.mode == Mode::Learn;
    let days =
        state.scored_since.map_or(0.0, |since| state.last.since(since).as_secs_f64() / 86_400.0);
    WorkloadSummary {
        name: state.name.clone(),
        mode: state.mode,
        next_mode: learning.then_some(state.next),
        learn_until: state.learn_until.filter(|_| learning),
        maturity: maturity(state, config, fleet),
        budget: bulkhead_domain::budget::AlertBudget::per_day(budget_per_day(state, config, fleet))
            .unwrap_or_default(),
        alerts_per_day: if state.counted == 0 {
            0.0
        } else {
            state.counted as f64 / days.max(1.0 / 24.0)
        },
        open_alerts: state.alerts.iter().filter(|k| !k.alert.closed).count() as u64,
        containers: state.containers.values().filter(|c| c.running).count() as u64,
        entries,
        review,
        detectors_on: detectors_on(state),
        baseline_version: state.version,
        last: state.last,
    }
}

/// One workload's baseline in full.
pub(crate) fn baseline(state: &WorkloadState, config: &Config, fleet: &Fleet) -> BaselineView {
    let mut thresholds = Vec::new();
    if state.mode != Mode::Learn {
        thresholds.push(ThresholdView {
            stream: Stream::Behaviours,
            threshold: behaviours_threshold(state, config, fleet),
        });
        if let Some(threshold) = windows_threshold(state, config, fleet) {
            thresholds.push(ThresholdView { stream: Stream::Windows, threshold });
        }
    }
    let mut entries: Vec<_> = state.novelty.entries().cloned().collect();
    entries.sort_by(|a, b| (a.act.kind(), &a.act).cmp(&(b.act.kind(), &b.act)));
    BaselineView {
        workload: state.name.clone(),
        version: state.version,
        windows: state.volume.windows(),
        entries,
        maturity: maturity(state, config, fleet),
        thresholds,
    }
}
