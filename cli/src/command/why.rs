//! `bulkhead why`: the step of the verdict that decides, and the measure behind it.

use bulkhead_api::protocol::{Reply, Request};
use bulkhead_domain::net::Peer;
use bulkhead_domain::text::printable;
use bulkhead_domain::view::WhyView;

use super::measures;
use crate::args::Global;
use crate::outcome::{Failure, Outcome};
use crate::{output, service};

/// Asks and tells.
pub fn run(global: &Global, container: String, peer: Peer) -> Result<Outcome, Failure> {
    let reply = service::ask(global, Request::Why { container, peer })?;
    let Reply::Why(why) = reply else { return Err(service::unexpected(&reply)) };
    output::show(global.output, &*why, || text(&why));
    Ok(Outcome::Done)
}

fn text(why: &WhyView) -> String {
    let mut text = format!(
        "{} between {} and {}\nstep       {}\n",
        if why.passes { "PASSES" } else { "DROPPED" },
        printable(&why.container.name, 80),
        why.peer,
        why.step
    );
    if let Some(measure) = &why.measure {
        text.push_str(&format!(
            "measure    {}  {}\ntarget     {}\nends       {} ({})\ndecided by {}\nreason     {}\n",
            measure.id,
            measure.action,
            measure.target,
            measure.expires,
            output::relative(measure.expires, output::now()),
            printable(&measures::decider(measure), 80),
            printable(&measure.reason, 200),
        ));
    }
    text.push_str(&printable(&why.sentence, 400));
    text.push('\n');
    text
}
