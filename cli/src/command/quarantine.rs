//! `bulkhead quarantine`.

use bulkhead_api::protocol::{MeasureKind, Request};

use super::{deny, done, measures};
use crate::args::{Global, Quarantine};
use crate::outcome::{Failure, Outcome};

/// Lists, adds or releases quarantines.
pub fn run(global: &Global, command: Quarantine) -> Result<Outcome, Failure> {
    match command {
        Quarantine::List => measures::list(global, Some(MeasureKind::Quarantine)),
        Quarantine::Add { target, terms } => done::send(
            global,
            Request::Quarantine { target: deny::selector(target), ttl: terms.ttl, why: terms.why },
            "From the moment that `bulkhead status` shows it, its processes go on without a network, for inspection. End it with `bulkhead quarantine release ID`.",
        ),
        Quarantine::Release(release) => {
            done::send(global, Request::Release { id: release.id, why: release.why }, "")
        }
    }
}
