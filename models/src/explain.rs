//! From detectors' parts to ranked shares that sum to one.
//!
//! A view's share is its part of the evidence, -ln p; within a view it is split by the weights that its detector gives.

use bulkhead_domain::alert::Contribution;
use bulkhead_domain::score::View;
use serde::{Deserialize, Serialize};

use crate::detector::Part;

/// Contributions named; the rest is one.
const NAMED_MAX: usize = 8;

/// What one view brought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Brought {
    /// The view.
    pub view: View,
    /// Its -ln p.
    pub surprise: f64,
    /// Its parts.
    pub parts: Vec<Part>,
}

/// Ranked contributions, largest first, shares summing to one; empty when no view brought anything.
pub fn contributions(brought: &[Brought]) -> Vec<Contribution> {
    let mut all: Vec<(f64, Contribution)> = Vec::new();
    for view in brought {
        let weights: f64 = view.parts.iter().map(|p| p.weight).sum();
        if !(weights > 0.0 && view.surprise > 0.0) {
            continue;
        }
        for part in &view.parts {
            let evidence = view.surprise * part.weight / weights;
            all.push((
                evidence,
                Contribution {
                    view: view.view,
                    subject: part.subject.clone(),
                    observed: part.observed.clone(),
                    expected: part.expected.clone(),
                    share: 0.0,
                    act: part.act.clone(),
                    peer: part.peer,
                },
            ));
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total: f64 = all.iter().map(|(e, _)| e).sum();
    if total <= 0.0 {
        return Vec::new();
    }
    let rest: f64 = all.iter().skip(NAMED_MAX).map(|(e, _)| e).sum();
    let more = all.len().saturating_sub(NAMED_MAX);
    let mut ranked: Vec<Contribution> = all
        .into_iter()
        .take(NAMED_MAX)
        .map(|(e, c)| Contribution { share: e / total, ..c })
        .collect();
    if more > 0
        && let Some(last) = ranked.last()
    {
        let view = last.view;
        ranked.push(Contribution {
            view,
            subject: format!("{more} smaller parts"),
            observed: String::new(),
            expected: String::new(),
            share: rest / total,
            act: None,
            peer: None,
        });
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(subject: &str, weight: f64) -> Part {
        Part {
            subject: subject.into(),
            observed: String::new(),
            expected: String::new(),
            weight,
            act: None,
            peer: None,
        }
    }

    #[test]
    fn shares_follow_the_evidence_and_sum_to_one() {
        let brought = [
            Brought {
                view: View::Volume,
                surprise: 9.0,
                parts: vec![part("bytes", 2.0), part("ports", 1.0)],
            },
            Brought { view: View::Sequence, surprise: 1.0, parts: vec![part("calls", 5.0)] },
        ];
        let ranked = contributions(&brought);
        let shares: Vec<(&str, f64)> =
            ranked.iter().map(|c| (c.subject.as_str(), c.share)).collect();
        assert_eq!(shares, vec![("bytes", 0.6), ("ports", 0.3), ("calls", 0.1)]);
    }

    #[test]
    fn many_small_parts_become_one_and_still_sum_to_one() {
        let parts = (1..=30).map(|i| part(&i.to_string(), f64::from(i))).collect();
        let ranked = contributions(&[Brought { view: View::Volume, surprise: 3.0, parts }]);
        assert_eq!(ranked.len(), NAMED_MAX + 1);
        assert!((ranked.iter().map(|c| c.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn no_evidence_has_no_shares() {
        assert!(contributions(&[]).is_empty());
        assert!(
            contributions(&[Brought {
                view: View::Volume,
                surprise: 0.0,
                parts: vec![part("x", 1.0)]
            }])
            .is_empty()
        );
    }
}
