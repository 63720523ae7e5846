//! The views of a window as one calibrated score.
//!
//! Each view's -ln p is added up, as Fisher's method would; but the views are dependent, so the sum is not held against
//! chi-square: it is calibrated like any raw score, on the same held-out blocks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calibration::{Calibration, CalibrationParams, Calibrator, HeldOut};

/// Smallest scale of a view's tail, in its own steps: a short run may not promise a thinner one.
const VIEW_SCALE_FLOOR: f64 = 0.35;

/// Smallest scale of the sum's tail: -ln p of a calibrated view is exponential of scale 1.
const SUM_SCALE_FLOOR: f64 = 1.0;

/// Share of held-out scores that a tail is fitted on.
const TAIL_SHARE: f64 = 0.1;

/// Calibrated views of the windows of one workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ensemble {
    volume: Calibrator,
    sequence: Option<Calibrator>,
    /// The calibrated sum.
    pub sum: Calibrator,
}

/// -ln p of each view, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Surprise {
    /// Volume and shape.
    pub volume: f64,
    /// Sequence.
    pub sequence: f64,
}

impl Surprise {
    /// The sum, not yet calibrated.
    pub fn sum(self) -> f64 {
        self.volume + self.sequence
    }
}

impl Ensemble {
    /// Calibrates on held-out scores of the same windows; `None` while nothing is held out.
    pub fn fit(volume: &[HeldOut], sequence: &[HeldOut], quiet_windows: u64) -> Option<Self> {
        let of_view = settings(VIEW_SCALE_FLOOR, quiet_windows);
        let by_volume = Calibrator::fit(of_view, volume.to_vec())?;
        let by_sequence = Calibrator::fit(of_view, sequence.to_vec());
        let sequences: BTreeMap<(u32, u64), f64> =
            sequence.iter().map(|h| ((h.replica, h.index), h.score)).collect();
        let sums = volume.iter().map(|h| {
            let sequence = sequences.get(&(h.replica, h.index));
            let second = match (&by_sequence, sequence) {
                (Some(calibrator), Some(score)) => calibrator.surprise(*score),
                _ => 0.0,
            };
            HeldOut { score: by_volume.surprise(h.score) + second, ..*h }
        });
        let sum = Calibrator::fit(settings(SUM_SCALE_FLOOR, quiet_windows), sums.collect())?;
        Some(Self { volume: by_volume, sequence: by_sequence, sum })
    }

    /// -ln p of the volume view.
    pub fn volume(&self, score: f64) -> f64 {
        self.volume.surprise(score)
    }

    /// -ln p of the sequence view; zero when it is not calibrated.
    pub fn sequence(&self, score: f64) -> f64 {
        self.sequence.as_ref().map_or(0.0, |c| c.surprise(score))
    }

    /// Whether the sequence view scores.
    pub fn has_sequence(&self) -> bool {
        self.sequence.is_some()
    }
}

fn settings(scale_floor: f64, quiet_windows: u64) -> Calibration {
    CalibrationParams { scale_floor, tail_share: TAIL_SHARE, quiet_windows: quiet_windows.max(1) }
        .check()
        .expect("the floors and the share are constants within their ranges")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_out(score: impl Fn(u64) -> f64) -> Vec<HeldOut> {
        (0..400).map(|i| HeldOut { score: score(i), replica: 0, index: i, block: i / 4 }).collect()
    }

    #[test]
    fn two_views_that_say_the_same_do_not_count_twice() {
        // Fully dependent views: by Fisher's method the sum of a p of 1 % twice would be p = 1e-4 (1 - ln 1e-4) = 0.1 %.
        let same = |i: u64| (i * 7919 % 400) as f64 / 100.0;
        let ensemble = Ensemble::fit(&held_out(same), &held_out(same), 10).unwrap();
        let score = 3.965;
        let one = ensemble.volume(score);
        let p = (-ensemble.sum.surprise(one + ensemble.sequence(score))).exp();
        assert!(p > 0.005, "{p}");
    }

    #[test]
    fn without_held_out_windows_there_is_no_score() {
        assert!(Ensemble::fit(&[], &[], 10).is_none());
    }
}
