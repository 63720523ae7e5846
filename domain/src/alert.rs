//! The record of one incident, with the evidence in ranked shares.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::behaviour::Act;
use crate::container::ContainerKey;
use crate::event::EventId;
use crate::measure::{MeasureId, Proposal};
use crate::net::Peer;
use crate::process::Process;
use crate::score::{Score, Threshold, View};
use crate::workload::hash64;
use crate::{Mode, Timestamp, WorkloadName};

/// Identity of an alert: hash of the workload and its first evidence, so that a replayed log raises the same ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AlertId(pub u64);

impl AlertId {
    /// The id of the incident that began with this evidence.
    pub fn of(workload: &WorkloadName, first_evidence: EventId) -> Self {
        Self(hash64(format!("alert {workload} {first_evidence}").as_bytes()))
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a-{:016x}", self.0)
    }
}

/// A text that is not an alert's id.
#[derive(Debug, thiserror::Error)]
#[error("not an alert id: expected a- and up to 16 hex digits, as `bulkhead alerts list` shows")]
pub struct AlertIdError;

impl FromStr for AlertId {
    type Err = AlertIdError;

    fn from_str(text: &str) -> Result<Self, AlertIdError> {
        let hex = text.strip_prefix("a-").ok_or(AlertIdError)?;
        u64::from_str_radix(hex, 16).map(Self).map_err(|_| AlertIdError)
    }
}

impl From<AlertId> for String {
    fn from(id: AlertId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for AlertId {
    type Error = AlertIdError;

    fn try_from(text: String) -> Result<Self, AlertIdError> {
        text.parse()
    }
}

/// One part of the evidence. Shares of an alert sum to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// The view it belongs to.
    pub view: View,
    /// What it is about: an act in words, or a feature's name.
    pub subject: String,
    /// Observed, in words with its unit.
    pub observed: String,
    /// Expected range, in words with its unit.
    pub expected: String,
    /// This part of the evidence (-ln p), as a share of the whole.
    pub share: f64,
    /// The act, when it is one.
    pub act: Option<Act>,
    /// The peer most concerned, when there is one: what a deny would be about.
    pub peer: Option<Peer>,
}

/// What was done about an incident, or would have been.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Nothing: there is no measure that fits.
    None,
    /// In `detect`: the measure that would have been taken.
    Would(Proposal),
    /// In `enforce`: the planner took these.
    Took(Vec<MeasureId>),
    /// In `enforce`: a guardrail held it back, and why.
    HeldBack {
        /// The measure that was held back.
        proposal: Proposal,
        /// The guardrail and its bound.
        reason: String,
    },
}

/// What a person has said about an alert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Review {
    /// Nobody has looked.
    #[default]
    Open,
    /// Taken into the baseline.
    Accepted {
        /// Who accepted it.
        who: String,
        /// Why.
        why: String,
    },
    /// Silenced.
    Muted {
        /// Who muted it.
        who: String,
    },
}

/// What kind of alert it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertClass {
    /// A deviation from the baseline; counts against the budget.
    Deviation,
    /// An act that repetition never makes normal.
    Forbidden,
    /// Losses above the stated ratio: the scorer abstains.
    Blinded,
    /// An agent reports about itself.
    Health,
    /// Another image repository under a known workload's name.
    Identity,
}

/// One incident, updated as it grows: `revision` counts the updates, the latest one wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Identity.
    pub id: AlertId,
    /// Grows with each update of the same incident.
    pub revision: u32,
    /// Class.
    pub class: AlertClass,
    /// Workload.
    pub workload: WorkloadName,
    /// Container; `None` only for what concerns the whole node.
    pub container: Option<ContainerKey>,
    /// The container's own name, for people.
    pub container_name: String,
    /// Event time of the first evidence.
    pub first: Timestamp,
    /// Event time of the latest evidence.
    pub last: Timestamp,
    /// The record of the first evidence.
    pub evidence: EventId,
    /// Exceedances so far.
    pub exceedances: u64,
    /// Ten windows have passed without one.
    pub closed: bool,
    /// One sentence: what happened.
    pub title: String,
    /// Highest score so far.
    pub score: Score,
    /// The threshold it went over.
    pub threshold: Threshold,
    /// The threshold is extrapolated: acts like any other, and says so.
    pub provisional: bool,
    /// Ranked parts of the evidence, largest first.
    pub contributions: Vec<Contribution>,
    /// The nearest thing that is normal, in words; empty when nothing is near.
    pub nearest_normal: String,
    /// The process most concerned.
    pub process: Option<Process>,
    /// Loss ratio of the window, 0..1.
    pub loss_ratio: f64,
    /// Version of the baseline (records absorbed) it was held against.
    pub baseline_version: u64,
    /// Version of the models, as an artifact's hash or `live`.
    pub model_version: String,
    /// ATT&CK techniques.
    pub techniques: Vec<String>,
    /// Mode at the time.
    pub mode: Mode,
    /// The measure that fits, before any guardrail; `None` when there is none.
    pub proposal: Option<Proposal>,
    /// What was done.
    pub response: Response,
    /// What a person has said.
    pub review: Review,
}
