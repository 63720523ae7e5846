//! What an operator wants: decisions of people, in the same ordered log as the evidence.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::behaviour::Act;
use crate::budget::AlertBudget;
use crate::{AlertId, Mode};

/// The wish itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// Take what an alert was about into the baseline.
    AcceptAlert(AlertId),
    /// Take back an acceptance.
    RetractAlert(AlertId),
    /// Take one act into the baseline.
    AcceptAct(Act),
    /// No alert about this for a while.
    Mute {
        /// The alert whose leading evidence is muted.
        alert: AlertId,
        /// For how long; `None` until unmuted, zero ends a mute at once.
        duration: Option<Duration>,
    },
    /// Change the mode; learning may have an end.
    SetMode {
        /// New mode.
        mode: Mode,
        /// For learning: go on to `detect` after this long.
        learn_for: Option<Duration>,
        /// For learning: go on to `detect` at maturity.
        until_mature: bool,
    },
    /// Change the alert budget.
    SetBudget(AlertBudget),
    /// Forget the baseline.
    Reset,
}

/// A wish with who had it and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The wish.
    pub wish: Wish,
    /// User (from the peer's credentials, never from the request's text).
    pub who: String,
    /// Reason given.
    pub why: String,
}
