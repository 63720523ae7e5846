//! What the command line asks the service, and what it answers: JSON, one length-prefixed frame each.
//!
//! Requests carry what the person typed about *which* workload, container or alert is meant, and the service resolves it,
//! because only it knows the names. Who asks is never in a request: the kernel tells (see [`crate::credentials`]).

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_domain::behaviour::Act;
use bulkhead_domain::measure::MeasureId;
use bulkhead_domain::net::{Peer, PeerMatch};
use bulkhead_domain::view::{
    BaselineView, ContainerSummary, MeasureSummary, WhyView, WorkloadSummary,
};
use bulkhead_domain::{Alert, Mode, Timestamp, WorkloadName};
use serde::{Deserialize, Serialize};

/// Major version of the protocol; the service refuses another.
pub const PROTOCOL: u32 = 1;

/// One call: the protocol's version and the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// [`PROTOCOL`] of the caller.
    pub protocol: u32,
    /// The request.
    pub request: Request,
}

/// To whom a manual measure applies, in the words of the person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetSelector {
    /// A container's name, or the beginning of its id.
    Container(String),
    /// A workload's short or full name.
    Workload(String),
}

/// Which kind of manual measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeasureKind {
    /// Denied peers.
    Deny,
    /// Whole containers.
    Quarantine,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How the service is.
    Status,
    /// Every workload, or those that match.
    Workloads {
        /// Short or full name; `None` is all.
        workload: Option<String>,
    },
    /// Containers that run.
    Containers,
    /// Learn (again).
    Learn {
        /// Short or full name.
        workload: String,
        /// Go on after this long.
        learn_for: Option<Duration>,
        /// Go on at maturity.
        until_mature: bool,
        /// Forget the baseline first.
        reset: bool,
        /// Reason given.
        why: String,
    },
    /// Change the mode.
    SetMode {
        /// Short or full name.
        workload: String,
        /// New mode.
        mode: Mode,
        /// Reason given.
        why: String,
    },
    /// One baseline.
    Baseline {
        /// Short or full name.
        workload: String,
    },
    /// Take one act, as `baseline show` writes it, into the baseline.
    AcceptAct {
        /// Short or full name.
        workload: String,
        /// The act.
        act: Act,
        /// Reason given.
        why: String,
    },
    /// Alerts, newest first.
    Alerts {
        /// Only this workload's.
        workload: Option<String>,
        /// Only those whose incident is open and that nobody reviewed.
        open: bool,
        /// At most so many.
        limit: usize,
    },
    /// One alert.
    Alert {
        /// Its id, or an unambiguous beginning.
        id: String,
    },
    /// Alerts that changed after a cursor; waits for one when there is none yet.
    AlertsAfter {
        /// From an earlier answer; `None` is "from now on".
        cursor: Option<u64>,
        /// How long to wait, at most [`TAIL_WAIT_MAX`].
        wait: Duration,
    },
    /// Say something about an alert.
    Review {
        /// Its id, or an unambiguous beginning.
        id: String,
        /// What.
        review: ReviewAction,
        /// Reason given.
        why: String,
    },
    /// Measures in force.
    Measures {
        /// Which kind; `None` is both.
        kind: Option<MeasureKind>,
    },
    /// Impose a manual deny.
    Deny {
        /// To whom.
        target: TargetSelector,
        /// Which peers.
        peer: PeerMatch,
        /// For how long; `None` is the configured default.
        ttl: Option<Duration>,
        /// Reason given.
        why: String,
    },
    /// Impose a manual quarantine.
    Quarantine {
        /// To whom.
        target: TargetSelector,
        /// For how long; `None` is the configured default.
        ttl: Option<Duration>,
        /// Reason given.
        why: String,
    },
    /// End a measure before its time.
    Release {
        /// Its id.
        id: MeasureId,
        /// Reason given.
        why: String,
    },
    /// What becomes of a packet between a container and a peer.
    Why {
        /// A container's name, or the beginning of its id.
        container: String,
        /// The peer.
        peer: Peer,
    },
}

impl Request {
    /// Whether it changes anything: such requests need the operator group.
    pub fn is_write(&self) -> bool {
        match self {
            Self::Status
            | Self::Workloads { .. }
            | Self::Containers
            | Self::Baseline { .. }
            | Self::Alerts { .. }
            | Self::Alert { .. }
            | Self::AlertsAfter { .. }
            | Self::Measures { .. }
            | Self::Why { .. } => false,
            Self::Learn { .. }
            | Self::SetMode { .. }
            | Self::AcceptAct { .. }
            | Self::Review { .. }
            | Self::Deny { .. }
            | Self::Quarantine { .. }
            | Self::Release { .. } => true,
        }
    }
}

/// The longest wait of [`Request::AlertsAfter`]; a caller asks again.
pub const TAIL_WAIT_MAX: Duration = Duration::from_secs(30);

/// The longest time a manual measure may last: a measure always ends.
pub const MANUAL_TTL_MAX: Duration = Duration::from_secs(366 * 86_400);

/// What a person says about an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReviewAction {
    /// Into the baseline.
    Accept,
    /// Take an acceptance back.
    Retract,
    /// No alert about this for a while; `None` until unmuted.
    Mute(Option<Duration>),
    /// End a mute.
    Unmute,
}

/// How the service is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Version of the binary that serves.
    pub version: String,
    /// Cluster.
    pub cluster: String,
    /// Node.
    pub node: String,
    /// Since when the controller runs.
    pub started: Timestamp,
    /// Its clock.
    pub now: Timestamp,
    /// Workloads by mode.
    pub workloads_by_mode: BTreeMap<String, u64>,
    /// Containers that run.
    pub containers: u64,
    /// Alerts whose incident is open.
    pub open_alerts: u64,
    /// Measures in force.
    pub measures: u64,
    /// When the latest observation of an agent was seen; `None` before the first.
    pub last_observation: Option<Timestamp>,
    /// Records that the detector has absorbed since the controller started.
    pub records: u64,
    /// Records that it refused because their producer had published them before.
    pub duplicates: u64,
    /// Why the log takes no writes; `None` while it does.
    pub log_error: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(ServiceStatus),
    /// To [`Request::Workloads`].
    Workloads(Vec<WorkloadSummary>),
    /// To [`Request::Containers`].
    Containers(Vec<ContainerSummary>),
    /// To [`Request::Baseline`].
    Baseline(BaselineView),
    /// To [`Request::Alerts`] and [`Request::AlertsAfter`].
    Alerts {
        /// The alerts.
        alerts: Vec<Alert>,
        /// To ask for what comes after.
        cursor: u64,
    },
    /// To [`Request::Alert`].
    Alert(Box<Alert>),
    /// To [`Request::Measures`].
    Measures(Vec<MeasureSummary>),
    /// To [`Request::Why`].
    Why(Box<WhyView>),
    /// A write is in the log: it holds from now on, and outlives the service.
    Done {
        /// What was done, in words.
        what: String,
        /// The workload concerned.
        workload: WorkloadName,
        /// The measure concerned.
        measure: Option<MeasureId>,
    },
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The peer's credentials do not allow it.
    Forbidden,
    /// What was named is not known.
    Unknown,
    /// What was named could be several.
    Ambiguous,
    /// It makes no sense, or is out of bounds.
    Invalid,
    /// The service cannot do it now.
    Unavailable,
}

/// A refusal: what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct Refusal {
    /// The kind.
    pub kind: RefusalKind,
    /// Thing and cause.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Refusal {
    /// A refusal of that kind.
    pub fn new(kind: RefusalKind, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, message: message.into(), remedy: remedy.into() }
    }
}

/// What comes back for a [`Call`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Done.
    Ok(Reply),
    /// Refused.
    Refused(Refusal),
}
