//! The tail of a score beyond what the data holds: peaks over a level, fitted by a generalised Pareto distribution.
//!
//! Pickands (1975), Balkema and de Haan (1974): excesses over a high level follow a GPD. Parameters by probability-
//! weighted moments (Hosking and Wallis 1987), which behave on small samples where maximum likelihood does not; the
//! shape is kept within 0..0.5, because a bounded tail (below 0) would promise that nothing stranger exists. Below
//! [`PEAKS_MIN`] excesses no shape can be told: the tail is exponential, and its scale at least the detector's floor.

use serde::{Deserialize, Serialize};

/// Excesses that a fit of the shape needs.
pub const PEAKS_MIN: usize = 20;

/// Largest shape: beyond it the variance of the tail is infinite and no level means anything.
const SHAPE_MAX: f64 = 0.5;

/// A fitted tail: P(X > level + y | X > level) = (1 + shape y / scale)^(-1/shape).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// The level that it begins at.
    pub level: f64,
    /// Scale, above zero.
    pub scale: f64,
    /// Shape, 0..0.5; 0 is exponential.
    pub shape: f64,
    /// Excesses it was fitted on.
    pub peaks: u64,
}

impl Tail {
    /// Fits the excesses over `level`; the scale never falls below `floor`.
    pub fn fit(level: f64, excesses: &[f64], floor: f64) -> Self {
        let n = excesses.len();
        let mean = excesses.iter().sum::<f64>() / n.max(1) as f64;
        if n < PEAKS_MIN {
            return Self { level, scale: mean.max(floor), shape: 0.0, peaks: n as u64 };
        }
        let mut sorted = excesses.to_vec();
        sorted.sort_by(f64::total_cmp);
        // a1 = E[X (1 - F(X))], with the plotting positions of Hosking and Wallis.
        let a1 = sorted
            .iter()
            .enumerate()
            .map(|(i, x)| x * (1.0 - (i as f64 + 0.65) / n as f64))
            .sum::<f64>()
            / n as f64;
        let spread = mean - 2.0 * a1;
        // Their k is our -shape.
        let shape = if spread > 1e-12 { (2.0 - mean / spread).clamp(0.0, SHAPE_MAX) } else { 0.0 };
        // With the shape moved into its range, the mean fixes the scale: E[excess] = scale / (1 - shape).
        let scale = (mean * (1.0 - shape)).max(floor);
        Self { level, scale, shape, peaks: n as u64 }
    }

    /// ln P(X > x | X > level), zero at or below the level.
    pub fn ln_survival(&self, x: f64) -> f64 {
        let y = (x - self.level).max(0.0) / self.scale;
        if self.shape < 1e-9 { -y } else { -(1.0 + self.shape * y).ln() / self.shape }
    }

    /// The x with P(X > x | X > level) = p.
    pub fn quantile(&self, p: f64) -> f64 {
        let p = p.clamp(1e-300, 1.0);
        let y = if self.shape < 1e-9 { -p.ln() } else { (p.powf(-self.shape) - 1.0) / self.shape };
        self.level + self.scale * y
    }

    /// Standard error of that quantile by the delta method, with the asymptotic covariance of Smith (1987).
    pub fn quantile_error(&self, p: f64) -> f64 {
        let p = p.clamp(1e-300, 1.0);
        let n = self.peaks.max(1) as f64;
        let log = -p.ln();
        let y = (self.quantile(p) - self.level) / self.scale;
        if self.peaks < PEAKS_MIN as u64 {
            return self.scale * y / n.sqrt();
        }
        let by_scale = y;
        let by_shape = if self.shape < 1e-3 {
            self.scale * log * log / 2.0
        } else {
            self.scale * (p.powf(-self.shape) * log / self.shape - y / self.shape)
        };
        let one = 1.0 + self.shape;
        let variance = 2.0 * self.scale * self.scale * one / n * by_scale * by_scale
            + one * one / n * by_shape * by_shape
            - 2.0 * self.scale * one / n * by_scale * by_shape;
        variance.max(0.0).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pareto(shape: f64, scale: f64, n: u32) -> Vec<f64> {
        (0..n)
            .map(|i| {
                let u = 1.0 - (f64::from(i) + 0.5) / f64::from(n);
                if shape == 0.0 { -scale * u.ln() } else { scale * (u.powf(-shape) - 1.0) / shape }
            })
            .collect()
    }

    #[test]
    fn finds_the_parameters_that_made_the_sample() {
        for (shape, scale) in [(0.0, 1.0), (0.2, 2.0), (0.35, 0.5)] {
            let tail = Tail::fit(3.0, &pareto(shape, scale, 4000), 0.01);
            assert!((tail.shape - shape).abs() < 0.05, "{tail:?}");
            assert!((tail.scale / scale - 1.0).abs() < 0.08, "{tail:?}");
        }
    }

    #[test]
    fn quantile_and_survival_are_inverse() {
        for shape in [0.0, 0.3] {
            let tail = Tail { level: 1.0, scale: 0.7, shape, peaks: 50 };
            for p in [0.5, 1e-3, 1e-9] {
                assert!((tail.ln_survival(tail.quantile(p)) - p.ln()).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_bounded_sample_still_gets_an_endless_tail() {
        let uniform: Vec<f64> = (0..1000).map(|i| f64::from(i) / 1000.0).collect();
        assert!(Tail::fit(0.0, &uniform, 0.01).shape.abs() < f64::EPSILON);
    }

    #[test]
    fn few_excesses_give_an_exponential_tail_and_never_below_the_floor() {
        let tail = Tail::fit(2.0, &[0.1, 0.2], 0.5);
        assert!((tail.scale - 0.5).abs() < 1e-12 && tail.shape.abs() < 1e-12);
        assert!((Tail::fit(2.0, &[], 0.5).scale - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_error_of_a_quantile_shrinks_with_the_data() {
        let few = Tail::fit(0.0, &pareto(0.1, 1.0, 40), 0.01);
        let many = Tail::fit(0.0, &pareto(0.1, 1.0, 4000), 0.01);
        assert!(few.quantile_error(1e-5) > 5.0 * many.quantile_error(1e-5));
    }
}
