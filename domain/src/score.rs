//! Scores: p-values against held-out normal, the threshold that meets a budget, and how sure it is.

use serde::{Deserialize, Serialize};

/// The three views of a workload, each a detector behind one trait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// A behaviour never or rarely seen.
    Novelty,
    /// Order of system calls.
    Sequence,
    /// Volume and shape of a window.
    Volume,
}

impl View {
    /// The word for this view.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Novelty => "novelty",
            Self::Sequence => "sequence",
            Self::Volume => "volume",
        }
    }
}

/// The two streams that have budgets of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Discrete behaviours, scored on arrival.
    Behaviours,
    /// Windows, scored when they close.
    Windows,
}

/// A combined score, higher is stranger: -ln p of the calibrated combination.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Score(pub f64);

impl Score {
    /// The probability, under the baseline, of evidence at least this strange.
    pub fn p_value(self) -> f64 {
        (-self.0).exp()
    }
}

/// The score beyond which evidence is an exceedance, and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// The score.
    pub score: Score,
    /// Beyond what the calibration data holds: fitted, not counted. Alerts above it are provisional.
    pub extrapolated: bool,
    /// 95 % interval of the score when extrapolated.
    pub interval: Option<(f64, f64)>,
    /// How many held-out blocks of time it rests on.
    pub blocks: u64,
}
