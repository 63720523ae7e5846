//! What a workload has been seen to do: behaviours with counts and provenance.

use serde::{Deserialize, Serialize};

use crate::behaviour::{Act, BehaviourKind};
use crate::{AlertId, EventId, Timestamp};

/// Where an entry of the baseline comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// Seen while learning.
    Learned,
    /// An operator accepted it, because of this alert when there was one.
    Accepted {
        /// The alert that was accepted.
        alert: Option<AlertId>,
        /// Who accepted it.
        who: String,
    },
}

/// One behaviour in a baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaselineEntry {
    /// The act, without what varies between its occurrences.
    pub act: Act,
    /// Occurrences.
    pub count: u64,
    /// Incidence: (container x block of time) cells in which it was seen; what maturity is estimated from.
    pub cells: u64,
    /// Different containers that did it, counted up to 255.
    pub replicas: u8,
    /// First seen.
    pub first: Timestamp,
    /// Last seen.
    pub last: Timestamp,
    /// Record that showed it first: what `baseline blame` names.
    pub evidence: EventId,
    /// Executable that did it first.
    pub executable: String,
    /// Where it comes from.
    pub provenance: Provenance,
    /// Seen on one replica only or near an alert: waits for review, and is not counted as normal.
    pub review: bool,
}

/// How much of one kind is in the baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindMaturity {
    /// The kind.
    pub kind: BehaviourKind,
    /// Different behaviours seen.
    pub distinct: u64,
    /// Cells (container x block) observed.
    pub cells: u64,
    /// Expected new behaviours a day: estimate.
    pub new_per_day: f64,
    /// Upper 95 % bound of the same; infinite before the first cell, which JSON writes as `null`.
    #[serde(with = "crate::unbounded")]
    pub new_per_day_bound: f64,
    /// What the bound must come under: the novelty share of the budget.
    pub target_per_day: f64,
    /// Whether the bound is within the target.
    pub mature: bool,
    /// Seconds of learning still needed, by Good-Toulmin, up to twice the time seen.
    pub eta_secs: Option<u64>,
    /// The ETA lies beyond what can be extrapolated: "longer than" `eta_secs`.
    pub eta_is_lower_bound: bool,
}

/// How much of a workload is in its baseline, and what it still waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Maturity {
    /// Per kind of behaviour.
    pub kinds: Vec<KindMaturity>,
    /// Every kind is mature, and calibration has enough blocks.
    pub mature: bool,
    /// Seconds of learning still needed for the slowest kind.
    pub eta_secs: Option<u64>,
    /// The ETA is a lower bound.
    pub eta_is_lower_bound: bool,
    /// What learning still waits for, and which cycles it never saw, in sentences for a person.
    pub waits_for: Vec<String>,
}
