//! The sequence view: new n-grams, and unlikely successions, of a container's calls.
//!
//! The score is the larger of STIDE's (ln(1 + new buckets) over 0.7, so that one step is a doubling) and the Markov
//! model's excess. A start-up, a reload, a rotation or a background save also makes calls that were never made, for a
//! window or two: so a strange sequence counts when it lasts ([`Locality`], after the locality frame count of Warrender et
//! al. 1999), or when another view speaks in the same window. Parts: one for each of the two, by its own excess.

use bulkhead_domain::Window;
use bulkhead_domain::score::View;
use bulkhead_domain::window::Arch;
use serde::{Deserialize, Serialize};

use crate::calibration::HeldOut;
use crate::detector::{Detector, Evidence, Part};
use crate::fold::Origin;
use crate::markov::Markov;
use crate::stide::Stide;

/// Natural logarithm of the factor that is one step of STIDE's score.
const STEP: f64 = 0.7;

/// Windows that a strange sequence must last to count alone.
pub const LASTS: usize = 3;

/// One window to learn from.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// Where it comes from.
    pub origin: Origin,
    /// The window.
    pub window: &'a Window,
    /// Counts for calibration; a start-up does not.
    pub held_out: bool,
}

/// Both models of the order of calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    stide: Stide,
    markov: Markov,
    arch: Option<Arch>,
    largest_held_out: u64,
}

impl Sequence {
    /// Fits what depends on all lessons.
    pub fn fit(&mut self) {
        self.markov.fit();
        self.largest_held_out = self.stide.held_out().map(|(_, n)| n).max().unwrap_or(0);
    }

    /// Held-out scores of the windows kept.
    pub fn held_out(&self) -> Vec<HeldOut> {
        let markov = self.markov.held_out();
        self.stide
            .held_out()
            .map(|(o, new)| HeldOut {
                score: stide_score(new)
                    .max(markov.get(&(o.replica, o.index)).copied().unwrap_or(0.0)),
                replica: o.replica,
                index: o.index,
                block: o.block,
            })
            .collect()
    }

    /// Buckets of a window that are new.
    pub fn new_buckets(&self, window: &Window) -> Vec<u16> {
        self.stide.new_buckets(&window.ngrams).collect()
    }

    /// Takes buckets in as normal, by a person's word.
    pub fn accept(&mut self, buckets: &[u16]) {
        self.stide.accept(buckets);
    }

    /// Takes that back.
    pub fn retract(&mut self, buckets: &[u16]) {
        self.stide.retract(buckets);
    }
}

impl Detector for Sequence {
    type Lesson<'a> = Lesson<'a>;
    type Sample<'a> = &'a Window;
    const VIEW: View = View::Sequence;

    fn learn(&mut self, lesson: &Lesson<'_>) {
        let window = lesson.window;
        if *self.arch.get_or_insert(window.arch) != window.arch {
            return;
        }
        self.stide.learn(lesson.origin, &window.ngrams, lesson.held_out);
        self.markov.learn(lesson.origin, &window.bigrams, &window.runs, lesson.held_out);
    }

    fn score(&self, window: &&Window) -> Option<Evidence> {
        if self.stide.known() == 0 || self.arch != Some(window.arch) {
            return None;
        }
        let new = self.stide.new_buckets(&window.ngrams).count() as u64;
        let mut evidence = Evidence { score: stide_score(new), parts: Vec::new() };
        if new > 0 {
            evidence.parts.push(Part {
                subject: "sequences of system calls never made before".into(),
                observed: format!("{new} of {} different sequences", window.ngrams.len()),
                expected: format!(
                    "at most {} new in a window; {} known",
                    self.largest_held_out,
                    self.stide.known()
                ),
                weight: evidence.score * evidence.score,
                act: None,
                peer: None,
            });
        }
        if let Some((excess, cost)) = self.markov.excess(&window.bigrams, &window.runs)
            && excess > 0.0
        {
            evidence.score = evidence.score.max(excess);
            let ceiling = self.markov.ceiling().expect("an excess is over a ceiling");
            evidence.parts.push(Part {
                subject: "order of system calls".into(),
                observed: format!("{cost:.2} nats a call"),
                expected: format!("up to {:.2}, usually {:.2}", ceiling.highest, ceiling.median),
                weight: excess * excess,
                act: None,
                peer: None,
            });
        }
        evidence.parts.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        Some(evidence)
    }
}

fn stide_score(new: u64) -> f64 {
    (new as f64).ln_1p() / STEP
}

/// What is left of a score when traffic outgrew all that is normal by `growth` (its logarithm): the more calls, the more
/// different paths are taken, errors of saturation among them (the growth of types with tokens, Heaps 1978).
pub fn under_load(score: f64, growth: f64) -> f64 {
    (score - growth.max(0.0) / STEP).max(0.0)
}

/// How strange the last windows of one container were, together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Locality {
    recent: Vec<f64>,
}

impl Locality {
    /// Notes one window's surprise and returns what lasts: the smallest of the last [`LASTS`], zero before there are as many.
    pub fn lasting(&mut self, surprise: f64) -> f64 {
        if self.recent.len() == LASTS {
            self.recent.remove(0);
        }
        self.recent.push(surprise);
        if self.recent.len() < LASTS {
            0.0
        } else {
            self.recent.iter().copied().fold(f64::INFINITY, f64::min)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(arch: Arch) -> Window {
        Window {
            start: bulkhead_domain::Timestamp(0),
            step_ms: 5000,
            feature_set: bulkhead_domain::feature::feature_set(5000),
            features: std::collections::BTreeMap::new(),
            arch,
            syscalls: std::collections::BTreeMap::new(),
            bigrams: Vec::new(),
            ngrams: vec![1, 2, 3],
            runs: Vec::new(),
            peers: Vec::new(),
            rest: [0; 5],
            loss: bulkhead_domain::window::Loss::default(),
        }
    }

    #[test]
    fn call_numbers_do_not_travel_between_architectures() {
        let mut sequence = Sequence::default();
        let learned = window(Arch::X86_64);
        let origin = Origin { replica: 0, index: 0, block: 0 };
        sequence.learn(&Lesson { origin, window: &learned, held_out: true });
        assert!(sequence.score(&&learned).is_some_and(|e| e.score < 1e-9));
        assert!(sequence.score(&&window(Arch::Aarch64)).is_none());
    }

    #[test]
    fn ten_times_the_calls_excuse_ten_times_the_new_sequences_and_no_more() {
        let growth = 10.0_f64.ln();
        assert!(under_load(stide_score(9), growth) < 1e-9);
        assert!((under_load(stide_score(99), growth) - stide_score(9)).abs() < 1e-9);
        assert!((under_load(3.0, -1.0) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_over_in_two_windows_does_not_last() {
        let mut locality = Locality::default();
        let lasting: Vec<f64> =
            [0.0, 9.0, 9.0, 0.0, 8.0, 9.0, 7.0].iter().map(|s| locality.lasting(*s)).collect();
        assert_eq!(lasting, vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0]);
    }
}
