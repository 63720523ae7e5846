//! The enforcer's side of the wiring.

use std::time::Duration;

use anyhow::Context as _;
use bulkhead_bus::{Bus, Verifier};
use bulkhead_collector::naming::facts;
use bulkhead_enforcer::Config as Enforcing;
use bulkhead_enforcer::run::{self, RunError, Standing};
use bulkhead_loader::guard::GuardError;
use tokio::task::JoinSet;

use super::Cgroups;
use crate::config::Config;
use crate::run::keys;

/// Installs the guards, with what the ledger remembers in force again, and starts the loop that applies measures.
pub(super) fn start<B: Bus>(
    config: &Config,
    cgroups: &Cgroups,
    bus: B,
    stop: impl Future<Output = ()> + Send + 'static,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let verifier = Verifier::load(&keys::public(&config.paths)).context(
        "the agent has no controller's public key: run the controller here, or copy its key",
    )?;
    let enforcing = Enforcing {
        cluster: config.cluster.clone(),
        node: config.node.clone(),
        boot: facts::boot_id().context("cannot read the boot id: is /proc mounted?")?,
        state: config.paths.agent_state(),
        pins: config.paths.pins.clone(),
        cgroup_mount: cgroups.mount.clone(),
        cgroup_root: cgroups.root.clone(),
        cgroup_parents: config.collector.cgroup_parents.iter().map(Into::into).collect(),
        hold: Duration::from_nanos(bulkhead_abi::guard::HOLD_NS),
        rules: config.rules.clone(),
        measures_max: config.measures_max as usize,
    };
    let standing = Standing::prepare(enforcing).map_err(explained)?;
    tasks.spawn(async move {
        run::run(standing, bus, verifier, stop).await.context("the enforcer stopped")
    });
    Ok(())
}

/// Where it was the kernel that refused, the person is told who says what is missing.
fn explained(error: RunError) -> anyhow::Error {
    use GuardError::{Field, Link, Load, Program};
    match error {
        RunError::Guard(Load { .. } | Program { .. } | Link { .. } | Field { .. }) => {
            anyhow::Error::new(error)
                .context("cannot guard with this kernel; `bulkhead doctor` says what is missing")
        }
        other => anyhow::Error::new(other).context("cannot start the guards"),
    }
}
