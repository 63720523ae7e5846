//! What a write answers: it is in the log, and what to look at next.

use bulkhead_api::protocol::{Reply, Request};

use crate::args::Global;
use crate::outcome::{Failure, Outcome};
use crate::{output, service};

/// Sends a write and says what was done; `next` is what a person would look at.
pub fn send(global: &Global, request: Request, next: &str) -> Result<Outcome, Failure> {
    let reply = service::ask(global, request)?;
    let Reply::Done { what, .. } = &reply else { return Err(service::unexpected(&reply)) };
    output::show(global.output, &reply, || {
        let line = bulkhead_domain::text::printable(what, 400);
        if next.is_empty() { format!("{line}\n") } else { format!("{line}\n{next}\n") }
    });
    Ok(Outcome::Done)
}
