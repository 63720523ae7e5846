//! `bulkhead learn`.

use bulkhead_api::protocol::Request;

use super::done;
use crate::args::{Global, Learn};
use crate::outcome::{Failure, Outcome};

/// Sends the wish.
pub fn run(global: &Global, args: Learn) -> Result<Outcome, Failure> {
    let next = "Watch it with `bulkhead workloads`; what is never learned by repetition alerts all the same.";
    done::send(
        global,
        Request::Learn {
            workload: args.workload,
            learn_for: args.learn_for,
            until_mature: args.until_mature,
            reset: args.reset,
            why: args.why,
        },
        next,
    )
}
