//! Whom the engine vouches for: processes that its own exec event accounts for, and what they start.
//!
//! Evidence, not names. The collector matches an entered process with the engine's exec event and its user, and follows
//! its descendants by process id; it says so in `engine_exec`. Nothing here guesses from an executable's path: a server
//! whose own binary an operator once ran would vouch for the shell that an intruder starts from it.

use std::time::Duration;

use bulkhead_domain::Timestamp;
use bulkhead_domain::process::Process;
use serde::{Deserialize, Serialize};

/// When vouched processes of one container last acted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Vouched {
    last: Option<Timestamp>,
}

impl Vouched {
    /// Whether the process is vouched for; remembers when it is.
    pub(crate) fn judge(&mut self, process: &Process, at: Timestamp) -> bool {
        if process.engine_exec {
            self.last = Some(at);
        }
        process.engine_exec
    }

    /// Whether a vouched process was at work within `span` before that time.
    pub(crate) fn active(&self, at: Timestamp, span: Duration) -> bool {
        self.last.is_some_and(|last| at.since(last) <= span)
    }
}
