//! What the loop does about an incident, for how long, and to whom.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::container::ContainerKey;
use crate::net::PeerMatch;
use crate::workload::hash64;
use crate::{AlertId, Timestamp, WorkloadName};

/// Identity of a measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MeasureId(pub u64);

impl MeasureId {
    /// The id of an automatic measure: the same alert and action always have the same one, so a redelivery is harmless.
    pub fn automatic(alert: AlertId, target: &Target, action: &Action, rung: u8) -> Self {
        Self(hash64(format!("measure {alert} {target} {action} {rung}").as_bytes()))
    }

    /// The id of a manual measure, from a nonce that the API draws.
    pub fn manual(nonce: u128) -> Self {
        Self(hash64(&nonce.to_be_bytes()))
    }
}

impl fmt::Display for MeasureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m-{:016x}", self.0)
    }
}

/// A text that is not a measure's id.
#[derive(Debug, thiserror::Error)]
#[error("not a measure id: expected m- and up to 16 hex digits, as `bulkhead status` shows")]
pub struct MeasureIdError;

impl FromStr for MeasureId {
    type Err = MeasureIdError;

    fn from_str(text: &str) -> Result<Self, MeasureIdError> {
        let hex = text.strip_prefix("m-").ok_or(MeasureIdError)?;
        u64::from_str_radix(hex, 16).map(Self).map_err(|_| MeasureIdError)
    }
}

impl From<MeasureId> for String {
    fn from(id: MeasureId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for MeasureId {
    type Error = MeasureIdError;

    fn try_from(text: String) -> Result<Self, MeasureIdError> {
        text.parse()
    }
}

/// To whom a measure applies.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// One container, through its restarts.
    Container(ContainerKey),
    /// Every replica of a workload, those started later included.
    Workload(WorkloadName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(key) => {
                write!(f, "container {}", crate::text::printable(&key.engine_id, 80))
            }
            Self::Workload(name) => write!(f, "workload {name}"),
        }
    }
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// No packet to or from these peers.
    Deny(PeerMatch),
    /// No network at all; the process stays for inspection.
    Quarantine,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deny(peer) => write!(f, "deny {peer}"),
            Self::Quarantine => f.write_str("quarantine"),
        }
    }
}

/// A measure that would fit an incident, before policy and guardrails.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proposal {
    /// To whom.
    pub target: Target,
    /// What.
    pub action: Action,
}

/// Who decided on a measure; manual ones come first in the order of verdicts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decider {
    /// A person, by the API.
    Manual {
        /// User (from the peer's credentials).
        who: String,
    },
    /// The planner, because of an alert.
    Automatic {
        /// The alert.
        alert: AlertId,
        /// Step of the TTL ladder, from 0.
        rung: u8,
    },
}

/// A signed decision with an end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Measure {
    /// Identity.
    pub id: MeasureId,
    /// Cluster it was decided for; agents refuse another's.
    pub cluster: String,
    /// To whom.
    pub target: Target,
    /// What.
    pub action: Action,
    /// Who decided.
    pub decider: Decider,
    /// Why, for a person.
    pub reason: String,
    /// When it was decided.
    pub created: Timestamp,
    /// When it ends: the kernel checks this, with every daemon dead.
    pub expires: Timestamp,
}

impl Measure {
    /// How much of it is left.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        self.expires.since(now)
    }

    /// Whether a person decided it.
    pub fn is_manual(&self) -> bool {
        matches!(self.decider, Decider::Manual { .. })
    }
}

/// The record on the topic `measures`: a measure, or its tombstone on release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeasureRecord {
    /// In force from now on.
    Set(Measure),
    /// Ended before its time.
    Released {
        /// Which measure.
        id: MeasureId,
        /// The workload whose partition it lies in.
        workload: WorkloadName,
        /// Cluster.
        cluster: String,
        /// Who ended it.
        who: String,
        /// Why.
        why: String,
        /// When.
        at: Timestamp,
    },
}
