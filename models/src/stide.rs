//! STIDE over the kernel's window bitmap: which hashed 6-grams of calls a workload has never made.
//!
//! Forrest et al. (1996), Hofmeyr et al. (1998): a set of the n-grams of normal runs, and a count of those that are not in
//! it. What the kernel delivers live is a bitmap of 2^15 buckets per container and window, so the count is of different new
//! buckets, not of places in a trace, and a bucket may hide a collision: with b buckets known, a new n-gram goes unseen
//! with probability b/2^15. The locality frame is the window itself, and a run of windows (`sequence.rs`).
//!
//! Each bucket remembers the folds of blocks that showed it, so that a held-out count is exact: a bucket counts as new for
//! a fold that alone has shown it.

use serde::{Deserialize, Serialize};

use crate::fold::{Origin, Thinning, fold};

/// Windows kept for held-out counts.
const SAMPLES_MAX: usize = 512;

/// Buckets kept for them together: 80 KiB.
const ALONE_MAX: usize = 40_000;

const BUCKETS: usize = bulkhead_domain::window::NGRAM_BUCKETS as usize;

/// One window's buckets that only its own fold had shown when it was learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    origin: Origin,
    alone: Vec<u16>,
}

/// The set of buckets that are normal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Sparse", into = "Sparse")]
pub struct Stide {
    folds: Vec<u8>,
    kept: Vec<Kept>,
    thinning: Thinning,
}

/// The set as it is written down: only buckets that were seen.
#[derive(Serialize, Deserialize)]
struct Sparse {
    buckets: Vec<(u16, u8)>,
    kept: Vec<Kept>,
    thinning: Thinning,
}

impl From<Sparse> for Stide {
    fn from(sparse: Sparse) -> Self {
        let mut folds = vec![0; BUCKETS];
        for (bucket, bits) in sparse.buckets {
            if let Some(slot) = folds.get_mut(usize::from(bucket)) {
                *slot = bits;
            }
        }
        Self { folds, kept: sparse.kept, thinning: sparse.thinning }
    }
}

impl From<Stide> for Sparse {
    fn from(stide: Stide) -> Self {
        let buckets = stide
            .folds
            .iter()
            .enumerate()
            .filter(|(_, bits)| **bits != 0)
            .map(|(i, bits)| (i as u16, *bits));
        Self { buckets: buckets.collect(), kept: stide.kept, thinning: stide.thinning }
    }
}

impl Default for Stide {
    fn default() -> Self {
        Self { folds: vec![0; BUCKETS], kept: Vec::new(), thinning: Thinning::default() }
    }
}

impl Stide {
    /// Absorbs a window's buckets. One that is not `held_out` later (a start-up) widens the set and calibrates nothing.
    pub fn learn(&mut self, origin: Origin, buckets: &[u16], held_out: bool) {
        let bit = 1_u8 << fold(origin.block);
        let mut alone = Vec::new();
        for bucket in buckets {
            let Some(folds) = self.folds.get_mut(usize::from(*bucket)) else { continue };
            *folds |= bit;
            if *folds == bit {
                alone.push(*bucket);
            }
        }
        if held_out && self.thinning.keeps(origin.block) {
            self.kept.push(Kept { origin, alone });
            self.thinning.apply(&mut self.kept, SAMPLES_MAX, |k| k.origin.block);
            if self.kept.iter().map(|k| k.alone.len()).sum::<usize>() > ALONE_MAX {
                self.prune();
            }
        }
    }

    /// Forgets buckets that another fold has shown since, and the oldest windows if that is not enough.
    fn prune(&mut self) {
        let folds = &self.folds;
        for kept in &mut self.kept {
            let bit = 1_u8 << fold(kept.origin.block);
            kept.alone.retain(|b| folds[usize::from(*b)] == bit);
        }
        while self.kept.len() > 1
            && self.kept.iter().map(|k| k.alone.len()).sum::<usize>() > ALONE_MAX
        {
            self.kept.remove(0);
        }
    }

    /// Absorbs buckets by a person's word.
    pub fn accept(&mut self, buckets: &[u16]) {
        for bucket in buckets {
            if let Some(folds) = self.folds.get_mut(usize::from(*bucket)) {
                *folds |= ACCEPTED;
            }
        }
    }

    /// Takes back buckets that only a person's word had made normal.
    pub fn retract(&mut self, buckets: &[u16]) {
        for bucket in buckets {
            if let Some(folds) = self.folds.get_mut(usize::from(*bucket)) {
                *folds &= !ACCEPTED;
            }
        }
    }

    /// The buckets of a window that are not in the set.
    pub fn new_buckets<'a>(&'a self, buckets: &'a [u16]) -> impl Iterator<Item = u16> + 'a {
        buckets
            .iter()
            .copied()
            .filter(|b| self.folds.get(usize::from(*b)).is_none_or(|folds| *folds == 0))
    }

    /// For each window kept, how many of its buckets no other fold has shown.
    pub fn held_out(&self) -> impl Iterator<Item = (Origin, u64)> + '_ {
        self.kept.iter().map(|kept| {
            let bit = 1_u8 << fold(kept.origin.block);
            let alone = kept
                .alone
                .iter()
                .filter(|b| self.folds[usize::from(**b)] & !ACCEPTED == bit)
                .count();
            (kept.origin, alone as u64)
        })
    }

    /// Different buckets in the set.
    pub fn known(&self) -> u64 {
        self.folds.iter().filter(|bits| **bits != 0).count() as u64
    }
}

/// The bit of a bucket that a person accepted; the lower five are folds.
const ACCEPTED: u8 = 1 << 7;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn origin(block: u64) -> Origin {
        Origin { replica: 0, index: block, block }
    }

    #[test]
    fn counts_what_was_never_seen() {
        let mut stide = Stide::default();
        stide.learn(origin(0), &[1, 2, 3], true);
        assert_eq!(stide.new_buckets(&[2, 3, 9, 40]).collect::<Vec<_>>(), vec![9, 40]);
        assert_eq!(stide.known(), 3);
    }

    #[test]
    fn held_out_counts_equal_a_naive_recount() {
        let mut stide = Stide::default();
        let mut windows: Vec<(u64, Vec<u16>)> = Vec::new();
        let mut state = 3_u64;
        for block in 0..40 {
            let buckets: BTreeSet<u16> = (0..30)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    ((state >> 33) % 200) as u16
                })
                .collect();
            windows.push((block, buckets.into_iter().collect()));
        }
        for (block, buckets) in &windows {
            stide.learn(origin(*block), buckets, true);
        }
        let fast: BTreeMap<u64, u64> = stide.held_out().map(|(o, n)| (o.block, n)).collect();
        for (block, buckets) in &windows {
            let others: BTreeSet<u16> = windows
                .iter()
                .filter(|(b, _)| fold(*b) != fold(*block))
                .flat_map(|(_, w)| w.clone())
                .collect();
            let naive = buckets.iter().filter(|b| !others.contains(b)).count() as u64;
            assert_eq!(fast[block], naive, "block {block}");
        }
    }

    #[test]
    fn the_set_reads_back_from_what_is_written() {
        let mut stide = Stide::default();
        stide.learn(origin(1), &[7, 32_767], true);
        let back = Stide::from(Sparse::from(stide.clone()));
        assert_eq!(back, stide);
    }

    #[test]
    fn an_acceptance_does_not_unlearn_what_was_learned() {
        let mut stide = Stide::default();
        stide.learn(origin(1), &[7], true);
        stide.accept(&[7, 8]);
        stide.retract(&[7, 8]);
        assert_eq!(stide.new_buckets(&[7, 8]).collect::<Vec<_>>(), vec![8]);
    }
}
