//! The whole loop on a real application: it learns, is attacked from inside, is protected, and nothing stays behind.
//!
//! Everything is real: containers under Podman, the product's own binary and its two processes, attacks that run in the
//! application. The demo only starts, watches and tells; what is flagged and done is the product's.

pub(crate) mod attend;
mod closing;
mod leftovers;
mod scene;
mod settings;
mod siege;
mod timeline;

use anyhow::bail;
use bulkhead_tests::requirement::Need;

use self::{attend::Attended, closing::Closing, timeline::Timeline};
use crate::setup::{self, Group};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Agree to the installation of what is missing beforehand.
    #[arg(long)]
    yes: bool,
    /// Run under the eyes of another process, and end with it.
    #[arg(long, hide = true)]
    attended: bool,
}

/// What the demo cannot do without.
pub(crate) const NEEDS: [Need; 3] = [Need::Root, Need::Bpf, Need::Cgroup2];

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::require("the demo", &NEEDS)?;
    if !arguments.attended {
        setup::prepare(&[Group::Ebpf, Group::Containers], arguments.yes)?;
        crate::build::product()?;
        return attend::run();
    }
    let attended = Attended::begin();
    let closing = play(&attended)?;
    print!("{}", closing.table());
    if let Some(broken) = closing.broken() {
        bail!("demo: {broken}");
    }
    println!(
        "demo: it learned, {} attacks were flagged and stopped, and nothing stayed behind",
        siege::ATTACKS.len()
    );
    Ok(())
}

/// Plays the demo from the first container to the last, and takes everything back.
pub(crate) fn play(attended: &Attended) -> anyhow::Result<Closing> {
    let timeline = Timeline::start();
    let mut closing = Closing::default();
    let played = siege::play(&timeline, attended, &mut closing);
    timeline.tell("end", "everything was taken down");
    let left = leftovers::left()?;
    closing.row(
        "nothing stays behind",
        left.is_empty(),
        &if left.is_empty() {
            "no container, namespace, interface, cgroup, map or pin".to_owned()
        } else {
            left.join(", ")
        },
    );
    if let Err(error) = played {
        closing.row("the demo ran to its end", false, &format!("{error:#}"));
    }
    Ok(closing)
}
