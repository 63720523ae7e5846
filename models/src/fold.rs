//! Which held-out part a block of time belongs to, and which blocks stay when there are too many.
//!
//! Folds are whole blocks: a window never vouches for its neighbour. Thinning drops whole stretches of blocks, so that
//! every fold keeps its share and time stays covered evenly.

use serde::{Deserialize, Serialize};

/// Held-out parts of cross-conformal calibration (Vovk 2015): each is scored by a model of the others.
pub const FOLDS: u64 = 5;

/// The fold of a block.
pub const fn fold(block: u64) -> u8 {
    (block % FOLDS) as u8
}

/// Where a window comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Number of the replica.
    pub replica: u32,
    /// Number of the window within the replica's life.
    pub index: u64,
    /// Block of time.
    pub block: u64,
}

/// Keeps at most `max` samples by dropping every other stretch of [`FOLDS`] blocks, as often as needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thinning {
    level: u32,
}

impl Thinning {
    /// Whether a sample of that block is kept.
    pub fn keeps(self, block: u64) -> bool {
        (block / FOLDS).is_multiple_of(1 << self.level)
    }

    /// Thins `samples` to `max`; the oldest go when a single stretch holds more than that.
    pub fn apply<T>(&mut self, samples: &mut Vec<T>, max: usize, block: impl Fn(&T) -> u64) {
        while samples.len() > max && self.level < 40 {
            self.level += 1;
            let kept = *self;
            samples.retain(|s| kept.keeps(block(s)));
            if samples.is_empty() {
                return;
            }
        }
        if samples.len() > max {
            samples.drain(..samples.len() - max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_whole_blocks_of_every_fold() {
        let mut thinning = Thinning::default();
        let mut samples: Vec<u64> = (0..4000).map(|i| i / 4).collect();
        thinning.apply(&mut samples, 600, |b| *b);
        assert!(samples.len() <= 600 && samples.len() > 250, "{}", samples.len());
        for f in 0..FOLDS as u8 {
            assert!(samples.iter().filter(|b| fold(**b) == f).count() > 30);
        }
        for block in 0..1000 {
            let n = samples.iter().filter(|b| **b == block).count();
            assert!(n == 0 || n == 4, "block {block} was cut to {n}");
        }
    }
}
