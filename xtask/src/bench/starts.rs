//! Whether a container that starts under a deny, or restarts under a quarantine, gets a single packet out.
//!
//! Each container calls the denied peer as the very first thing it does, and again around the moment of its naming, by
//! TCP, ICMP and DNS; then it calls a peer that is free, so that silence cannot be mistaken for a refusal. What arrived is
//! counted by the peer's own packet filter. Everything runs as a person would have it: the agent, the controller, and the
//! measures from the command line.

mod runtime;
mod tally;
mod world;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bulkhead_tests::{requirement::Need, scratch::container_id};
use serde_json::{Value, json};

use self::{
    tally::{Tally, start_many},
    world::World,
};
use super::{Bound, Figure};
use crate::outcome::Refusal;

#[derive(clap::Args)]
pub(super) struct Options {
    /// Containers that runc starts in `starts`; the full check is of 10000.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    starts: u32,
    /// How long Podman, and then Docker, start containers in `starts`.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    engine_seconds: u64,
    /// Runtimes of `starts`.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "runc,podman,docker")]
    runtimes: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Runc,
    Podman,
    Docker,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Podman => "podman",
            Self::Docker => "docker",
        }
    }

    const fn need(self) -> Need {
        match self {
            Self::Runc => Need::Runc,
            Self::Podman => Need::Podman,
            Self::Docker => Need::Docker,
        }
    }
}

/// When there are enough of them.
#[derive(Clone, Copy)]
enum Goal {
    Count(u32),
    Until(Duration),
}

/// Of the starts by runc, or of an engine's time: one restart under quarantine for so many of them.
const STARTS_PER_RESTART: u32 = 10;

/// Starts of the full check.
const FULL: f64 = 10_000.0;

/// How long a container that restarted is left to try before it is stopped again.
const TRYING: Duration = Duration::from_millis(300);

/// What happened with one runtime.
struct Found {
    starts: Tally,
    denied_packets: u64,
    free_packets: u64,
    restarts: u32,
    quarantined_packets: u64,
}

pub(super) fn run(options: &Options, program: &Path) -> anyhow::Result<(Value, Vec<Figure>)> {
    let needs = [Need::Root, Need::Bpf, Need::Cgroup2, Need::Netns];
    let needs = needs.into_iter().chain(options.runtimes.iter().map(|kind| kind.need()));
    if let Some(cause) = needs.into_iter().find_map(Need::lacking) {
        bail!(Refusal::Machine(cause));
    }
    let mut details = serde_json::Map::new();
    let (mut started, mut answered) = (0, 0);
    let (mut denied, mut restarts, mut quarantined) = (0, 0, 0);
    for kind in &options.runtimes {
        let found = with(*kind, options, program).with_context(|| kind.name())?;
        tell(*kind, &found);
        started += u64::from(found.starts.started);
        answered += u64::from(found.starts.succeeded);
        denied += found.denied_packets;
        restarts += u64::from(found.restarts);
        quarantined += found.quarantined_packets;
        details.insert(kind.name().into(), found.json());
    }
    if started == 0 || restarts == 0 {
        bail!("no container was started");
    }
    let figure = |name, value, bound| Figure { name, value, bound };
    let figures = vec![
        figure(
            "packets at the denied peer, from all containers started under a deny",
            denied as f64,
            Bound::AtMost(0.0),
        ),
        figure(
            "of those containers whose call to a free peer was answered",
            answered as f64 / started as f64,
            Bound::AtLeast(0.99),
        ),
        figure(
            "packets from a quarantined container, through all of its restarts",
            quarantined as f64,
            Bound::AtMost(0.0),
        ),
    ];
    Ok((details.into(), figures))
}

fn with(kind: Kind, options: &Options, program: &Path) -> anyhow::Result<Found> {
    let world = World::make(kind, program)?;
    // Under no measure the peer can be reached, or nothing that arrives later would say something.
    world.reach_all()?;
    let measure = world.deny()?;
    let before = world.counts()?;
    let goal = match kind {
        Kind::Runc => Goal::Count(options.starts),
        Kind::Podman | Kind::Docker => Goal::Until(Duration::from_secs(options.engine_seconds)),
    };
    println!("bench: {} starts containers under a deny: {}", kind.name(), goal.in_words());
    let starts = start_many(&world, goal);
    let after = world.counts()?;
    if !world.in_force(&measure)? {
        bail!("the deny did not last as long as the starts");
    }
    let restarts = (starts.started / STARTS_PER_RESTART).clamp(5, 200);
    println!("bench: {} restarts a quarantined container {restarts} times", kind.name());
    let quarantined_packets = quarantined(&world, restarts)?;
    Ok(Found {
        starts,
        denied_packets: after.denied - before.denied,
        free_packets: after.free - before.free,
        restarts,
        quarantined_packets,
    })
}

/// Packets that a quarantined container got out while it was restarted so many times.
fn quarantined(world: &World, restarts: u32) -> anyhow::Result<u64> {
    let runtime = &world.runtime;
    let name = container_id();
    let mut container = runtime.keep(&name, &world.restless())?;
    // It reaches its peer, or its silence later says nothing.
    world.waits_for("the container to reach its peer", || Ok(world.counts()?.restless > 0))?;
    let id = world.quarantine(&name)?;
    let before = world.counts()?.restless;
    for _ in 0..restarts {
        runtime.again(&mut container, &world.restless())?;
        thread::sleep(TRYING);
    }
    let arrived = world.counts()?.restless - before;
    if !world.in_force(&id)? {
        bail!("the quarantine did not last as long as the restarts");
    }
    world.release(&id)?;
    // It tried all the time: once it may, it does.
    world.waits_for("the released container to reach its peer", || {
        Ok(world.counts()?.restless > before + arrived)
    })?;
    container.remove()?;
    Ok(arrived)
}

fn tell(kind: Kind, found: &Found) {
    let Tally { started, succeeded, seconds, first_failure, .. } = &found.starts;
    let rate = f64::from(*started) / seconds;
    println!(
        "bench: {}: {started} starts in {seconds:.0} s ({rate:.1} a second; 10,000 take {:.0} minutes), {} packets at \
         the denied peer; {succeeded} answered by the free one; {} restarts under quarantine, {} packets",
        kind.name(),
        FULL / rate / 60.0,
        found.denied_packets,
        found.restarts,
        found.quarantined_packets
    );
    if let Some(words) = first_failure {
        println!("bench: {}: the first that was not answered said: {words}", kind.name());
    }
}

impl Goal {
    fn reached(self, started: u32, since: Instant) -> bool {
        match self {
            Self::Count(count) => started >= count,
            Self::Until(time) => since.elapsed() >= time,
        }
    }

    fn in_words(self) -> String {
        match self {
            Self::Count(count) => format!("{count} of them"),
            Self::Until(time) => format!("for {} s", time.as_secs()),
        }
    }
}

impl Found {
    fn json(&self) -> Value {
        json!({
            "starts": self.starts.started,
            "seconds": self.starts.seconds,
            "answered_by_free_peer": self.starts.succeeded,
            "packets_at_free_peer": self.free_packets,
            "packets_at_denied_peer": self.denied_packets,
            "restarts_under_quarantine": self.restarts,
            "packets_from_quarantined": self.quarantined_packets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_by_count_or_by_time() {
        let now = Instant::now();
        assert!(!Goal::Count(2).reached(1, now));
        assert!(Goal::Count(2).reached(2, now));
        assert!(!Goal::Until(Duration::from_secs(3600)).reached(u32::MAX, now));
        assert!(Goal::Until(Duration::ZERO).reached(0, now));
    }
}
