//! The agent: observes containers and applies measures, on a bus that the controller serves.
//!
//! Guards come first: they make the map that the observers share, and a measure from before this start is in force again
//! before the first record is published. Either role may be played alone.

mod collector;
mod enforcer;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bulkhead_bus::socket::Client;
use bulkhead_loader::cgroup;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::Role;
use crate::config::Config;
use crate::run::stop::Stop;

/// Where the cgroup v2 hierarchy is, and which part of it is ours.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    /// Its mount, found, not assumed.
    pub(crate) mount: PathBuf,
    /// The watched and guarded part.
    pub(crate) root: PathBuf,
}

/// Runs until told to stop, or until a role fails.
pub async fn run(config: &Config, roles: &[Role]) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let cgroups = cgroups(config.paths.cgroup_root.as_deref())?;
    let bus = Client::new(config.paths.bus_socket());
    let (stopping, told) = watch::channel(());
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    if roles.contains(&Role::Enforcer) {
        enforcer::start(config, &cgroups, bus.clone(), stopped(told.clone()), &mut tasks)?;
    }
    if roles.contains(&Role::Collector) {
        collector::start(config, &cgroups, bus.clone(), stopped(told.clone()), &mut tasks)?;
    }
    drop(told);
    tracing::info!(cgroups = %cgroups.root.display(), "agent runs");
    let failed = tokio::select! {
        () = stop.wished() => None,
        Some(ended) = tasks.join_next() => Some(ended),
    };
    // Each role takes this as its wish to stop, and writes down what it has.
    drop(stopping);
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Err(error)) = ended {
            tracing::warn!(error = format!("{error:#}"), "a role did not stop cleanly");
        }
    }
    match failed {
        None => Ok(()),
        Some(ended) => ended.context("a loop of the agent broke down")?,
    }
}

/// Done once the sender is gone.
async fn stopped(mut told: watch::Receiver<()>) {
    while told.changed().await.is_ok() {}
}

fn cgroups(root: Option<&Path>) -> anyhow::Result<Cgroups> {
    let mount = cgroup::root()?;
    let root = match root {
        None => mount.clone(),
        Some(root) => root
            .canonicalize()
            .with_context(|| format!("cannot find the cgroup {}", root.display()))?,
    };
    anyhow::ensure!(
        root.starts_with(&mount),
        "{} is no cgroup of the hierarchy at {}: name one below it with --cgroup-root",
        root.display(),
        mount.display()
    );
    Ok(Cgroups { mount, root })
}
