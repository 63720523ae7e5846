//! How likely the calls of a window follow one another: an interpolated bigram model over call numbers.
//!
//! Witten and Bell (1991): P(b|a) = (c(a,b) + T(a) P(b)) / (c(a) + T(a)) with T(a) different successors of a, and P(b)
//! interpolated with the uniform in the same way (Chen and Goodman 1999, eq. 14). It learns from the window's bigram
//! counts and from sampled runs, which is all that the kernel delivers; both are scored in mean -ln P per call. A block is
//! absorbed only once it is over, so that its own windows are scored by what came before it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ceiling::Ceiling;
use crate::fold::Origin;

/// Pairs kept; rarer ones beyond are left out.
const PAIRS_MAX: usize = 8192;

/// Call numbers that the uniform part is spread over.
const VOCABULARY: f64 = 512.0;

/// Blocks that must have been absorbed before a window's likelihood counts as held out.
const BLOCKS_MIN: u64 = 3;

/// Windows whose held-out likelihood is kept.
const SAMPLES_MAX: usize = 512;

/// Calls from which on a mean over a window says something.
const CALLS_MIN: u64 = 20;

/// Smallest scale of the mean -ln P, nats per call.
const FLOOR: f64 = 0.5;

/// The model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Markov {
    pairs: BTreeMap<(u16, u16), u64>,
    after: BTreeMap<u16, (u64, u64)>,
    calls: BTreeMap<u16, u64>,
    total: u64,
    pending: BTreeMap<(u16, u16), u64>,
    block: u64,
    blocks: u64,
    held_out: Vec<(Origin, f64)>,
    ceiling: Option<Ceiling>,
}

impl Markov {
    /// Absorbs a window; its likelihood under the blocks before it is kept for calibration.
    pub fn learn(
        &mut self,
        origin: Origin,
        bigrams: &[((u16, u16), u64)],
        runs: &[Vec<u16>],
        held_out: bool,
    ) {
        if origin.block != self.block {
            self.absorb();
            self.block = origin.block;
        }
        if held_out
            && self.blocks >= BLOCKS_MIN
            && let Some(cost) = self.cost(bigrams, runs)
        {
            if self.held_out.len() >= SAMPLES_MAX {
                self.held_out.drain(..SAMPLES_MAX / 2);
            }
            self.held_out.push((origin, cost));
        }
        let pairs = runs.iter().flat_map(|run| run.windows(2).map(|w| ((w[0], w[1]), 1)));
        for (pair, n) in bigrams.iter().copied().chain(pairs) {
            if self.pending.len() < PAIRS_MAX || self.pending.contains_key(&pair) {
                *self.pending.entry(pair).or_default() += n;
            }
        }
    }

    fn absorb(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        for ((a, b), n) in std::mem::take(&mut self.pending) {
            if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(&(a, b)) {
                continue;
            }
            let pair = self.pairs.entry((a, b)).or_default();
            let (count, kinds) = self.after.entry(a).or_default();
            *kinds += u64::from(*pair == 0);
            *count += n;
            *pair += n;
            *self.calls.entry(b).or_default() += n;
            self.total += n;
        }
        self.blocks += 1;
    }

    /// Fits the ceiling over held-out windows.
    pub fn fit(&mut self) {
        self.absorb();
        let mut costs: Vec<f64> = self.held_out.iter().map(|(_, c)| *c).collect();
        self.ceiling = Ceiling::of(&mut costs, FLOOR);
    }

    /// P(b|a).
    pub fn probability(&self, a: u16, b: u16) -> f64 {
        let kinds = self.calls.len() as f64;
        let seen = self.calls.get(&b).copied().unwrap_or(0) as f64;
        let single = (seen + kinds.max(1.0) / VOCABULARY) / (self.total as f64 + kinds.max(1.0));
        let (count, successors) = self.after.get(&a).copied().unwrap_or((0, 0));
        let pair = self.pairs.get(&(a, b)).copied().unwrap_or(0) as f64;
        let weight = (successors as f64).max(1.0);
        (pair + weight * single) / (count as f64 + weight)
    }

    /// Mean -ln P per call: the larger of the window's bigrams and its strangest run. `None` without either.
    fn cost(&self, bigrams: &[((u16, u16), u64)], runs: &[Vec<u16>]) -> Option<f64> {
        let total: u64 = bigrams.iter().map(|(_, n)| n).sum();
        let mean = bigrams
            .iter()
            .map(|((a, b), n)| -self.probability(*a, *b).ln() * *n as f64)
            .sum::<f64>();
        let window = (total >= CALLS_MIN).then(|| mean / total as f64);
        let strangest = runs
            .iter()
            .filter(|run| run.len() >= 16)
            .map(|run| {
                run.windows(2).map(|w| -self.probability(w[0], w[1]).ln()).sum::<f64>()
                    / (run.len() - 1) as f64
            })
            .fold(None, |most: Option<f64>, cost| Some(most.map_or(cost, |m| m.max(cost))));
        match (window, strangest) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        }
    }

    /// Excess over the ceiling in its steps, with the cost itself; `None` before there is a ceiling.
    pub fn excess(&self, bigrams: &[((u16, u16), u64)], runs: &[Vec<u16>]) -> Option<(f64, f64)> {
        let cost = self.cost(bigrams, runs)?;
        Some((self.ceiling?.excess(cost), cost))
    }

    /// The ceiling of held-out windows.
    pub fn ceiling(&self) -> Option<Ceiling> {
        self.ceiling
    }

    /// Held-out excesses over the ceiling of the other windows, by replica and index.
    pub fn held_out(&self) -> BTreeMap<(u32, u64), f64> {
        let mut sorted: Vec<f64> = self.held_out.iter().map(|(_, c)| *c).collect();
        sorted.sort_by(f64::total_cmp);
        let second = sorted.len().checked_sub(2).and_then(|i| sorted.get(i)).copied();
        self.held_out
            .iter()
            .map(|(o, cost)| {
                // Only the largest can lie above all others.
                let excess = match (self.ceiling, second) {
                    (Some(c), Some(second)) => ((cost - second) / c.scale).max(0.0),
                    _ => 0.0,
                };
                ((o.replica, o.index), excess)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loop_of(calls: &[u16], n: u64) -> Vec<((u16, u16), u64)> {
        calls.iter().zip(calls.iter().cycle().skip(1)).map(|(a, b)| ((*a, *b), n)).collect()
    }

    fn learned() -> Markov {
        let mut markov = Markov::default();
        for block in 0..12 {
            let origin = Origin { replica: 0, index: block, block };
            markov.learn(origin, &loop_of(&[0, 1, 2, 3], 50 + block), &[], true);
        }
        markov.fit();
        markov
    }

    #[test]
    fn probabilities_of_successors_sum_to_one() {
        let markov = learned();
        for a in [0, 3, 77] {
            let sum: f64 = (0..512).map(|b| markov.probability(a, b)).sum();
            assert!((sum - 1.0).abs() < 0.01, "{a}: {sum}");
        }
    }

    #[test]
    fn a_usual_loop_is_normal_and_a_shell_is_not() {
        let markov = learned();
        assert!(markov.excess(&loop_of(&[0, 1, 2, 3], 9000), &[]).unwrap().0 < 0.1);
        assert!(markov.excess(&loop_of(&[41, 42, 33, 59, 61], 5), &[]).unwrap().0 > 3.0);
    }

    #[test]
    fn one_strange_run_shows_in_a_busy_window() {
        let markov = learned();
        let strange: Vec<u16> = (0..64).map(|i| 100 + i % 13).collect();
        assert!(markov.excess(&loop_of(&[0, 1, 2, 3], 9000), &[strange]).unwrap().0 > 3.0);
    }

    #[test]
    fn a_block_is_scored_by_what_came_before_it() {
        let mut markov = Markov::default();
        for block in 0..4 {
            markov.learn(
                Origin { replica: 0, index: block, block },
                &loop_of(&[0, 1], 10),
                &[],
                true,
            );
        }
        markov.learn(Origin { replica: 0, index: 4, block: 4 }, &loop_of(&[7, 8], 10), &[], true);
        markov.learn(Origin { replica: 0, index: 5, block: 4 }, &loop_of(&[7, 8], 10), &[], true);
        let costs: Vec<f64> = markov.held_out.iter().map(|(_, c)| *c).collect();
        assert!(
            (costs[1] - costs[2]).abs() < 1e-12,
            "the second window of a block learned from the first: {costs:?}"
        );
    }
}
