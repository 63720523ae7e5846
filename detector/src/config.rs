//! What the detector is told before it starts: checked values only, the file format belongs to the command line.

use std::time::Duration;

use bulkhead_domain::Mode;
use bulkhead_domain::budget::AlertBudget;

/// When learning ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learning {
    /// Ends once the baseline is mature.
    pub until_mature: bool,
    /// Ends after this long whether mature or not, counted from the workload's first record.
    pub at_most: Option<Duration>,
    /// Never ends before this, so that calibration has something to stand on.
    pub at_least: Duration,
    /// The mode that follows.
    pub then: Mode,
}

/// Settings of the engine. The defaults suit a server that learns for days; a short run shortens `block` and loosens
/// `novelty_per_day`, and every view says which bound was reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Step of the windows, ms; windows of another feature set are refused.
    pub step_ms: u64,
    /// Alerts a day that are acceptable for all workloads together; shared evenly unless a workload has its own.
    pub budget: AlertBudget,
    /// The share of a budget that discrete behaviours get; windows get the rest. Within 0..1.
    pub behaviours_share: f64,
    /// Block of time: the unit of incidence and of held-out calibration.
    pub block: Duration,
    /// The bound on new behaviours a day under which a kind is mature; `None` takes it from the budget.
    pub novelty_per_day: Option<f64>,
    /// Different behaviours of one kind beyond which it becomes a distribution feature.
    pub kind_cap: usize,
    /// Whole blocks that calibration needs before learning may end at maturity.
    pub blocks_min: u64,
    /// When learning ends.
    pub learning: Learning,
    /// Loss ratio of a window above which its sequence is not scored and a `blinded` alert is raised.
    pub loss_ratio_max: f64,
    /// Windows without exceedance that close an incident.
    pub quiet_windows: u32,
    /// For how long after a container's start its own set-up is told from a deviation.
    pub start_up: Duration,
    /// For how long the callers of a container under an incident are expected to see errors.
    pub aftermath: Duration,
    /// Alerts kept for review, latest first out.
    pub alerts_kept: usize,
    /// Event time between two snapshots of a workload that changed.
    pub snapshot_every: Duration,
    /// Seed of whatever is drawn.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            step_ms: 5000,
            budget: AlertBudget::default(),
            behaviours_share: 0.5,
            block: Duration::from_secs(300),
            novelty_per_day: None,
            kind_cap: 512,
            blocks_min: 6,
            learning: Learning {
                until_mature: true,
                at_most: None,
                at_least: Duration::from_secs(60),
                then: Mode::Detect,
            },
            loss_ratio_max: 0.05,
            quiet_windows: 10,
            start_up: Duration::from_secs(15),
            aftermath: Duration::from_secs(600),
            alerts_kept: 1000,
            snapshot_every: Duration::from_secs(30),
            seed: 1,
        }
    }
}
