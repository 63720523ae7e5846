//! From a raw score to a p-value: conformal where held-out data holds it, a fitted tail beyond.
//!
//! The scores come from whole blocks of time that the scoring model had not learned from, because neighbouring windows
//! resemble each other and a random window's neighbours would vouch for it. Within the data the p-value is conformal,
//! (1 + #{held-out scores >= s}) / (n + 1) (Vovk, Gammerman and Shafer 2005); it cannot go below 1/(n+1), and from the
//! level of the tail on the tail's survival replaces it. Both are one-sided and never increasing.

use serde::{Deserialize, Serialize};

use crate::tail::{PEAKS_MIN, Tail};

/// One held-out score, in the order of its container's time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Score by a model that had not learned from this block.
    pub score: f64,
    /// Number of the container.
    pub replica: u32,
    /// Number of the window within its container's life.
    pub index: u64,
    /// Block of time.
    pub block: u64,
}

/// Unchecked settings of a calibration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationParams {
    /// Smallest scale of the tail, in units of the score: what a small sample may not undercut.
    pub scale_floor: f64,
    /// Share of the held-out scores that the tail is fitted on.
    pub tail_share: f64,
    /// Windows without exceedance that end an incident.
    pub quiet_windows: u64,
}

/// Checked settings of a calibration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub(crate) scale_floor: f64,
    pub(crate) tail_share: f64,
    pub(crate) quiet_windows: u64,
}

/// Settings that no calibration can work with.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// Scale.
    #[error("the tail's smallest scale must be positive and finite, not {0}")]
    Scale(f64),
    /// Share.
    #[error("the tail's share must lie between 0 and 0.5, not {0}")]
    Share(f64),
    /// Gap.
    #[error("an incident needs at least one quiet window to end")]
    Quiet,
}

impl CalibrationParams {
    /// Checks the settings.
    pub fn check(self) -> Result<Calibration, CalibrationError> {
        if !(self.scale_floor.is_finite() && self.scale_floor > 0.0) {
            return Err(CalibrationError::Scale(self.scale_floor));
        }
        if !(self.tail_share > 0.0 && self.tail_share <= 0.5) {
            return Err(CalibrationError::Share(self.tail_share));
        }
        if self.quiet_windows == 0 {
            return Err(CalibrationError::Quiet);
        }
        Ok(Calibration {
            scale_floor: self.scale_floor,
            tail_share: self.tail_share,
            quiet_windows: self.quiet_windows,
        })
    }
}

/// Held-out scores and the tail beyond them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibrator {
    pub(crate) settings: Calibration,
    /// In order of container and time, for counting incidents.
    pub(crate) held_out: Vec<HeldOut>,
    /// Ascending.
    sorted: Vec<f64>,
    tail: Tail,
    /// Conformal p-value just above the tail's level.
    tail_p: f64,
    blocks: u64,
    /// Tail of incident peaks, and how many incidents lie above its level: what thresholds beyond the data rest on.
    pub(crate) incident_tail: (Tail, f64),
}

impl Calibrator {
    /// Calibrates on held-out scores; `None` when there are none.
    pub fn fit(settings: Calibration, mut held_out: Vec<HeldOut>) -> Option<Self> {
        held_out.retain(|h| h.score.is_finite());
        if held_out.is_empty() {
            return None;
        }
        held_out.sort_by_key(|h| (h.replica, h.index));
        let mut sorted: Vec<f64> = held_out.iter().map(|h| h.score).collect();
        sorted.sort_by(f64::total_cmp);
        let mut blocks: Vec<u64> = held_out.iter().map(|h| h.block).collect();
        blocks.sort_unstable();
        blocks.dedup();
        let n = sorted.len();
        let wanted = ((n as f64 * settings.tail_share) as usize).max(PEAKS_MIN);
        // With too few scores for a shape, the tail begins at the largest one: nothing is read into the middle.
        let level = if wanted * 2 <= n { sorted[n - wanted] } else { sorted[n - 1] };
        let excesses: Vec<f64> = sorted.iter().filter(|s| **s > level).map(|s| s - level).collect();
        let tail = if excesses.len() >= PEAKS_MIN {
            Tail::fit(level, &excesses, settings.scale_floor)
        } else {
            let largest = sorted[n - 1];
            // The largest of n exponential scores lies about scale x ln n above zero.
            let scale = (largest / (n as f64 + 1.0).ln()).max(settings.scale_floor);
            Tail { level: largest, scale, shape: 0.0, peaks: 0 }
        };
        let tail_p =
            (1.0 + sorted.iter().filter(|s| **s > tail.level).count() as f64) / (n as f64 + 1.0);
        let incident_tail = crate::threshold::incident_tail(settings, &held_out, sorted[n - 1]);
        Some(Self {
            settings,
            held_out,
            sorted,
            tail,
            tail_p,
            blocks: blocks.len() as u64,
            incident_tail,
        })
    }

    /// -ln p of a score.
    pub fn surprise(&self, score: f64) -> f64 {
        if score > self.tail.level {
            return -(self.tail_p.ln() + self.tail.ln_survival(score));
        }
        let below = self.sorted.partition_point(|s| *s < score);
        let n = self.sorted.len() as f64;
        -((1.0 + self.sorted.len() as f64 - below as f64) / (n + 1.0)).ln()
    }

    /// Held-out windows.
    pub fn windows(&self) -> u64 {
        self.sorted.len() as u64
    }

    /// Held-out blocks.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Largest held-out score.
    pub fn largest(&self) -> f64 {
        self.sorted.last().copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Calibration {
        CalibrationParams { scale_floor: 0.1, tail_share: 0.1, quiet_windows: 10 }.check().unwrap()
    }

    fn held_out(scores: impl Iterator<Item = f64>) -> Vec<HeldOut> {
        scores
            .enumerate()
            .map(|(i, score)| HeldOut { score, replica: 0, index: i as u64, block: i as u64 / 10 })
            .collect()
    }

    #[test]
    fn refuses_settings_that_mean_nothing() {
        let params = CalibrationParams { scale_floor: 0.1, tail_share: 0.1, quiet_windows: 10 };
        assert!(CalibrationParams { scale_floor: 0.0, ..params }.check().is_err());
        assert!(CalibrationParams { scale_floor: f64::NAN, ..params }.check().is_err());
        assert!(CalibrationParams { tail_share: 0.6, ..params }.check().is_err());
        assert_eq!(
            CalibrationParams { quiet_windows: 0, ..params }.check(),
            Err(CalibrationError::Quiet)
        );
    }

    #[test]
    fn within_the_data_the_p_value_is_the_naive_conformal_one() {
        let scores: Vec<f64> = (0..500).map(|i| f64::from(i * 7919 % 500) / 10.0).collect();
        let calibrator = Calibrator::fit(settings(), held_out(scores.iter().copied())).unwrap();
        for s in [0.0, 3.3, 20.0, 39.9] {
            let naive = (1 + scores.iter().filter(|x| **x >= s).count()) as f64 / 501.0;
            assert!((calibrator.surprise(s) + naive.ln()).abs() < 1e-12, "{s}");
        }
    }

    #[test]
    fn the_surprise_never_falls_as_the_score_grows() {
        for n in [1_u32, 5, 36, 500] {
            let scores = (0..n).map(|i| f64::from(i * 31 % n).sqrt());
            let calibrator = Calibrator::fit(settings(), held_out(scores)).unwrap();
            let mut last = -1.0;
            for i in 0..400 {
                let surprise = calibrator.surprise(f64::from(i) * 0.1);
                assert!(surprise >= last - 1e-12 && surprise.is_finite(), "n {n} at {i}");
                last = surprise;
            }
        }
    }

    #[test]
    fn quiet_data_promises_no_more_than_its_length_at_its_largest_score() {
        let calibrator = Calibrator::fit(settings(), held_out((0..36).map(|_| 0.0))).unwrap();
        assert!(calibrator.surprise(0.0) < 1e-9, "what always happens says nothing");
        assert!(calibrator.surprise(1.0) > 5.0);
    }

    #[test]
    fn nothing_held_out_calibrates_nothing() {
        assert!(Calibrator::fit(settings(), Vec::new()).is_none());
        assert!(Calibrator::fit(settings(), held_out(std::iter::once(f64::NAN))).is_none());
    }
}
