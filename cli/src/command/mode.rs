//! `bulkhead mode`.

use bulkhead_api::protocol::Request;
use bulkhead_domain::Mode;

use super::done;
use crate::args::Global;
use crate::outcome::{Failure, Outcome};

/// Sends the wish.
pub fn run(global: &Global, workload: String, mode: Mode, why: String) -> Result<Outcome, Failure> {
    let next = match mode {
        Mode::Learn => "Nothing is blocked automatically while it learns.",
        Mode::Detect => "Alerts will say what would be done: `bulkhead alerts tail`.",
        Mode::Enforce => {
            "The planner's measures are applied now: `bulkhead status` shows them, `bulkhead disarm` ends them."
        }
    };
    done::send(global, Request::SetMode { workload, mode, why }, next)
}
