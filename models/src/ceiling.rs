//! How high one quantity went while all was normal, and what counts as one step beyond.

use serde::{Deserialize, Serialize};

/// The range of one quantity, in the space it is compared in (mostly logarithmic).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Median.
    pub median: f64,
    /// Largest value seen.
    pub highest: f64,
    /// Unit of excess: robust spread of the upper half, never below the quantity's floor.
    pub scale: f64,
    /// Samples.
    pub samples: u64,
}

impl Ceiling {
    /// The ceiling of some samples; `None` without any.
    ///
    /// The scale is the distance from the median to the largest, over the 2.3 = ln 10 to which ten or more exponential
    /// excesses reach; few samples widen it by `1 + 2/n`, as the tail of Student's t does the normal's.
    pub fn of(samples: &mut [f64], floor: f64) -> Option<Self> {
        let n = samples.len();
        if n == 0 {
            return None;
        }
        samples.sort_by(f64::total_cmp);
        let (median, highest) = (samples[n / 2], samples[n - 1]);
        let spread = (highest - median) / std::f64::consts::LN_10;
        let scale = spread.max(floor) * (1.0 + 2.0 / n as f64);
        Some(Self { median, highest, scale, samples: n as u64 })
    }

    /// Steps beyond the highest seen; zero at or below it.
    pub fn excess(&self, value: f64) -> f64 {
        ((value - self.highest) / self.scale).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_within_what_was_seen_is_an_excess() {
        let ceiling = Ceiling::of(&mut [3.0, 1.0, 2.0], 0.5).unwrap();
        assert!(
            ceiling.excess(3.0).abs() < f64::EPSILON && ceiling.excess(-1.0).abs() < f64::EPSILON
        );
        assert!(ceiling.excess(4.0) > 0.0);
    }

    #[test]
    fn constant_samples_still_leave_the_floor_as_tolerance() {
        let ceiling = Ceiling::of(&mut [5.0; 100], 0.5).unwrap();
        assert!((ceiling.excess(5.51) - 1.0).abs() < 0.01);
    }

    #[test]
    fn few_samples_tolerate_more_than_many() {
        let few = Ceiling::of(&mut [5.0; 2], 0.5).unwrap();
        let many = Ceiling::of(&mut [5.0; 200], 0.5).unwrap();
        assert!(few.excess(7.0) < many.excess(7.0));
        assert!(Ceiling::of(&mut [], 0.5).is_none());
    }
}
