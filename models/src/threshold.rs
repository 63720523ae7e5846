//! The score that meets an alert budget: counted where the held-out data holds enough incidents, extrapolated beyond.
//!
//! A budget counts incidents, not exceedances: exceedances of one container belong to one incident until a number of its
//! windows pass without one (runs declustering, Leadbetter et al. 1983; Smith and Weissman 1994). The peaks of the
//! held-out incidents over a level are fitted (`tail.rs`), and the threshold is where their rate meets the budget. An
//! extrapolated threshold carries a 95 % interval; while fewer than [`PEAKS_TRUSTED`] incidents stand behind it, its upper
//! 69 % limit (half a standard error) is used instead of its middle, so that a short run errs towards silence.

use bulkhead_domain::score::{Score, Threshold};

use crate::calibration::{Calibration, Calibrator, HeldOut};
use crate::tail::{PEAKS_MIN, Tail};

/// Incidents within the data from which on a threshold is counted instead of fitted.
const COUNTED_FROM: f64 = 12.0;

/// Fitted incidents from which on the middle of the estimate is used.
const PEAKS_TRUSTED: u64 = 50;

/// Standard errors added to the middle until then.
const CAUTION: f64 = 0.5;

impl Calibrator {
    /// The peaks of the incidents at that level, in order of container and time.
    pub fn incidents(&self, level: f64) -> Vec<f64> {
        incidents(self.settings.quiet_windows, &self.held_out, level)
    }

    /// The raw score over which `per_day` incidents a day are expected of `windows_per_day` windows.
    pub fn raw_threshold(&self, per_day: f64, windows_per_day: f64) -> RawThreshold {
        let wanted = per_day / windows_per_day * self.windows() as f64;
        if wanted >= COUNTED_FROM {
            return RawThreshold {
                score: self.counted(wanted),
                extrapolated: false,
                interval: None,
            };
        }
        let (tail, incidents) = self.incident_tail;
        let p = wanted / incidents.max(wanted);
        let middle = tail.quantile(p);
        let error = tail.quantile_error(p);
        let interval = (middle - 1.96 * error).max(tail.level)..(middle + 1.96 * error);
        let score = if tail.peaks < PEAKS_TRUSTED { middle + CAUTION * error } else { middle };
        RawThreshold { score, extrapolated: true, interval: Some((interval.start, interval.end)) }
    }

    /// The lowest level at which the data holds no more than `wanted` incidents.
    fn counted(&self, wanted: f64) -> f64 {
        let mut levels: Vec<f64> = self.held_out.iter().map(|h| h.score).collect();
        levels.sort_by(|a, b| b.total_cmp(a));
        levels.dedup();
        let mut best = self.largest();
        for level in levels {
            if self.incidents(level).len() as f64 > wanted {
                break;
            }
            best = level;
        }
        best
    }

    /// The threshold in calibrated units, -ln p.
    pub fn threshold(&self, per_day: f64, windows_per_day: f64) -> Threshold {
        let raw = self.raw_threshold(per_day, windows_per_day);
        Threshold {
            score: Score(self.surprise(raw.score)),
            extrapolated: raw.extrapolated,
            interval: raw.interval.map(|(low, high)| (self.surprise(low), self.surprise(high))),
            blocks: self.blocks(),
        }
    }
}

/// The peaks of the incidents at a level: exceedances with no more than `quiet_windows` between them are one.
fn incidents(quiet_windows: u64, held_out: &[HeldOut], level: f64) -> Vec<f64> {
    let mut peaks: Vec<f64> = Vec::new();
    let mut last: Option<(u32, u64)> = None;
    for h in held_out.iter().filter(|h| h.score > level) {
        match (last, peaks.last_mut()) {
            (Some((replica, index)), Some(peak))
                if replica == h.replica && h.index - index <= quiet_windows =>
            {
                *peak = peak.max(h.score);
            }
            _ => peaks.push(h.score),
        }
        last = Some((h.replica, h.index));
    }
    peaks
}

/// The tail of incident peaks, and how many incidents lie above its level: from the highest level that leaves enough of
/// them, else from the largest score.
pub(crate) fn incident_tail(
    settings: Calibration,
    held_out: &[HeldOut],
    largest: f64,
) -> (Tail, f64) {
    let windows = held_out.len() as f64;
    let mut levels: Vec<f64> = held_out.iter().map(|h| h.score).collect();
    levels.sort_by(|a, b| b.total_cmp(a));
    levels.dedup();
    let enough = (PEAKS_MIN * 2).max((windows * settings.tail_share / 4.0) as usize);
    // No level can have more incidents than windows above it; from there on, each level tried has a tenth more of them.
    let mut i = enough;
    while i < levels.len() / 2 {
        let level = levels[i];
        let peaks = incidents(settings.quiet_windows, held_out, level);
        if peaks.len() >= enough {
            let excesses: Vec<f64> = peaks.iter().map(|p| p - level).collect();
            return (Tail::fit(level, &excesses, settings.scale_floor), peaks.len() as f64);
        }
        i += i / 10 + 1;
    }
    let n = (windows + 1.0).ln();
    let scale = (largest / n).max(settings.scale_floor);
    // The largest of n exponential scores has mean ln n and deviation pi / sqrt 6 (Gumbel): as sure of the scale as a
    // mean of that many excesses. One incident at most is granted above the largest score that the data holds.
    let as_sure_as = (n * 6.0_f64.sqrt() / std::f64::consts::PI).powi(2).max(1.0);
    (Tail { level: largest, scale, shape: 0.0, peaks: as_sure_as as u64 }, 1.0)
}

/// A threshold in the units of the raw score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawThreshold {
    /// The score.
    pub score: f64,
    /// Fitted, not counted.
    pub extrapolated: bool,
    /// 95 % interval when extrapolated.
    pub interval: Option<(f64, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::CalibrationParams;

    const PER_DAY: f64 = 17_280.0;

    /// A seeded autocorrelated score: bursts of strangeness that fade over some windows.
    fn series(n: u64, seed: u64) -> Vec<HeldOut> {
        let mut state = seed;
        let mut draw = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        };
        let mut level: f64 = 0.0;
        (0..n)
            .map(|index| {
                level *= 0.7;
                if draw() < 0.02 {
                    level = level.max(-draw().ln());
                }
                HeldOut { score: level + 0.1 * draw(), replica: 0, index, block: index / 60 }
            })
            .collect()
    }

    fn calibrator(n: u64) -> Calibrator {
        let settings = CalibrationParams { scale_floor: 0.05, tail_share: 0.1, quiet_windows: 10 }
            .check()
            .unwrap();
        Calibrator::fit(settings, series(n, 1)).unwrap()
    }

    #[test]
    fn neighbouring_exceedances_are_one_incident() {
        let settings = CalibrationParams { scale_floor: 0.05, tail_share: 0.1, quiet_windows: 10 }
            .check()
            .unwrap();
        let held_out = [0, 1, 2, 12, 23, 40]
            .iter()
            .map(|i| HeldOut { score: 1.0 + *i as f64, replica: 0, index: *i, block: 0 })
            .chain(std::iter::once(HeldOut { score: 9.0, replica: 1, index: 41, block: 0 }))
            .collect();
        let calibrator = Calibrator::fit(settings, held_out).unwrap();
        assert_eq!(calibrator.incidents(0.5), vec![13.0, 24.0, 41.0, 9.0]);
    }

    #[test]
    fn the_rate_on_fresh_data_is_within_a_factor_of_two_of_the_budget() {
        let fit = calibrator(20_000);
        for per_day in [240.0, 24.0, 8.0] {
            let threshold = fit.raw_threshold(per_day, PER_DAY);
            let days = 60.0_f64.max(24.0 / per_day);
            let fresh = series((days * PER_DAY) as u64, 99);
            let peaks = incidents(fit.settings.quiet_windows, &fresh, threshold.score);
            let achieved = peaks.len() as f64 / days;
            assert!(
                achieved < per_day * 2.0 && achieved > per_day / 2.0,
                "asked {per_day}, got {achieved}, {threshold:?}"
            );
        }
    }

    #[test]
    fn a_budget_beyond_the_data_is_extrapolated_and_says_so() {
        let fit = calibrator(2_000);
        let loose = fit.threshold(500.0, PER_DAY);
        assert!(!loose.extrapolated && loose.interval.is_none());
        let strict = fit.threshold(0.1, PER_DAY);
        assert!(strict.extrapolated && strict.score.0 > loose.score.0);
        let (low, high) = strict.interval.unwrap();
        assert!(low < strict.score.0 && strict.score.0 <= high);
    }

    #[test]
    fn a_smaller_budget_never_lowers_the_threshold() {
        for n in [1, 10, 40, 400, 4000] {
            let fit = calibrator(n);
            let mut last = f64::NEG_INFINITY;
            for per_day in [1000.0, 100.0, 10.0, 1.0, 0.1] {
                let score = fit.raw_threshold(per_day, PER_DAY).score;
                assert!(score >= last - 1e-9, "n {n}, {per_day} a day: {score} < {last}");
                last = score;
            }
        }
    }

    #[test]
    fn thirty_six_quiet_windows_still_give_a_threshold_well_above_them() {
        let settings = CalibrationParams { scale_floor: 0.35, tail_share: 0.1, quiet_windows: 10 }
            .check()
            .unwrap();
        let held_out = (0..36)
            .map(|index| HeldOut { score: 0.0, replica: 0, index, block: index / 2 })
            .collect();
        let threshold = Calibrator::fit(settings, held_out).unwrap().raw_threshold(2.5, 34_560.0);
        assert!(threshold.extrapolated && threshold.score > 2.0, "{threshold:?}");
    }
}
