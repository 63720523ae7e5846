//! What an agent says about itself; the detector raises the alerts for it.

use serde::{Deserialize, Serialize};

use crate::container::ContainerKey;

/// A condition of the node or of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// The canary's packet got through a deny: the guards do not guard.
    CanaryPassed,
    /// The canary was refused again.
    CanaryRefused,
    /// A container stayed without a name past the bound and was let through.
    UnresolvedPassed,
    /// No slot was left for a container: it is not observed.
    SlotsExhausted,
    /// A measure could not be applied, in full or in part.
    MeasureFailed,
    /// A measure leaves a way open on this node (host network, no tcx, …).
    MeasureWeak,
    /// An engine cannot be reached; its containers keep their names.
    EngineLost,
    /// An engine answers again.
    EngineBack,
}

/// One report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Reporting node.
    pub node: String,
    /// What is the matter.
    pub condition: Condition,
    /// The container concerned, where it is one.
    pub container: Option<ContainerKey>,
    /// Cause and remedy, for a person.
    pub detail: String,
}
