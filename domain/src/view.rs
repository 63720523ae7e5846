//! What a person is shown of the running service: snapshots of the detector's state, and lines for tables.
//!
//! Values only, made by the owner of the state (the detector, the controller's ledger) and carried by the API. They are
//! made on demand and never kept, so a view may hold copies of what the owner keeps.

use serde::{Deserialize, Serialize};

use crate::baseline::{BaselineEntry, Maturity};
use crate::budget::AlertBudget;
use crate::measure::Measure;
use crate::score::{Stream, Threshold, View};
use crate::verdict::VerdictStep;
use crate::{Alert, Container, Mode, Timestamp, WorkloadName};

/// One workload in a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSummary {
    /// Name.
    pub name: WorkloadName,
    /// Mode.
    pub mode: Mode,
    /// What follows learning: the mode it goes on to by itself.
    pub next_mode: Option<Mode>,
    /// When learning ends by the clock; `None` when it ends at maturity, or only by a person.
    pub learn_until: Option<Timestamp>,
    /// How much of what it does is in the baseline, and what it waits for.
    pub maturity: Maturity,
    /// Its alert budget.
    pub budget: AlertBudget,
    /// Alerts a day so far: alerts that count against the budget, over the time it was scored.
    pub alerts_per_day: f64,
    /// Alerts whose incident is not closed.
    pub open_alerts: u64,
    /// Containers that run.
    pub containers: u64,
    /// Entries of the baseline.
    pub entries: u64,
    /// Entries that wait for review.
    pub review: u64,
    /// Views that score by now; the others still wait for calibration.
    pub detectors_on: Vec<View>,
    /// Version of the baseline: records absorbed.
    pub baseline_version: u64,
    /// Event time of the latest record.
    pub last: Timestamp,
}

/// A stream's threshold in a baseline view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThresholdView {
    /// Which stream.
    pub stream: Stream,
    /// The threshold that meets its share of the budget.
    pub threshold: Threshold,
}

/// One workload's baseline in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineView {
    /// The workload.
    pub workload: WorkloadName,
    /// Version: records absorbed.
    pub version: u64,
    /// Windows learned from.
    pub windows: u64,
    /// Entries, by kind and act.
    pub entries: Vec<BaselineEntry>,
    /// Maturity by kind.
    pub maturity: Maturity,
    /// Thresholds by stream; empty before calibration.
    pub thresholds: Vec<ThresholdView>,
}

/// All that the detector shows at one moment, except baselines, which are asked for one by one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineView {
    /// Workloads by name.
    pub workloads: Vec<WorkloadSummary>,
    /// Alerts, latest revision of each, newest first, bounded.
    pub alerts: Vec<Alert>,
    /// Records absorbed since the start.
    pub records: u64,
    /// Records refused because their producer had published them before.
    pub duplicates: u64,
}

/// A container in a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSummary {
    /// The container.
    pub container: Container,
    /// When its latest word was seen.
    pub at: Timestamp,
}

/// What one measure has done so far, as the node's kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// Packets dropped.
    pub packets: u64,
    /// Bytes dropped.
    pub bytes: u64,
    /// Calls refused (connect, sendmsg).
    pub calls: u64,
}

/// A measure in a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasureSummary {
    /// The measure.
    pub measure: Measure,
    /// The workload it concerns, when that is known.
    pub workload: Option<WorkloadName>,
    /// Names of the containers it applies to now.
    pub containers: Vec<String>,
    /// What it has stopped; `None` where this process cannot read the kernel's counters.
    pub hits: Option<Hits>,
}

/// What becomes of a packet between a container and a peer, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhyView {
    /// The container asked about.
    pub container: Container,
    /// The peer asked about, in the words of the question.
    pub peer: String,
    /// The step of the verdict that decides.
    pub step: VerdictStep,
    /// Whether a packet passes.
    pub passes: bool,
    /// The measure or guardrail that decides; `None` for the default.
    pub measure: Option<Measure>,
    /// One sentence: why, and what to do to change it.
    pub sentence: String,
}
