//! `bulkhead deny`.

use bulkhead_api::protocol::{MeasureKind, Request, TargetSelector};

use super::{done, measures};
use crate::args::{Deny, Global, Target};
use crate::outcome::{Failure, Outcome};

/// Lists, adds or removes denies.
pub fn run(global: &Global, command: Deny) -> Result<Outcome, Failure> {
    match command {
        Deny::List => measures::list(global, Some(MeasureKind::Deny)),
        Deny::Add { target, peer, terms } => done::send(
            global,
            Request::Deny { target: selector(target), peer, ttl: terms.ttl, why: terms.why },
            "It holds from the moment that `bulkhead status` shows it, until then. End it with `bulkhead deny remove ID`.",
        ),
        Deny::Remove(release) => {
            done::send(global, Request::Release { id: release.id, why: release.why }, "")
        }
    }
}

/// The one of the two that was given; the parser made sure of one.
pub fn selector(target: Target) -> TargetSelector {
    match (target.container, target.workload) {
        (_, Some(workload)) => TargetSelector::Workload(workload),
        (container, None) => TargetSelector::Container(container.unwrap_or_default()),
    }
}
