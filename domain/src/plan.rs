//! The planner's answer: data that can be printed, diffed and tested; an executor acts on it.

use serde::{Deserialize, Serialize};

use crate::alert::AlertId;
use crate::measure::{Measure, MeasureId, Proposal};

/// One step of a plan; each has its undo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Put this measure in force; undone by releasing it.
    Impose(Measure),
    /// End this one; undone by imposing it again.
    Release(MeasureId),
    /// A guardrail holds this one back.
    HoldBack {
        /// The alert that would have led to it.
        alert: AlertId,
        /// The measure.
        proposal: Proposal,
        /// The guardrail and its bound.
        reason: String,
    },
}

/// Steps in the order in which they are to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}
