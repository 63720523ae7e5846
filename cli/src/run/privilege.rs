//! What each process gives up before it reads a byte from outside, and the check that it is gone.
//!
//! Both set `no_new_privs`, empty their ambient and inheritable sets, and shrink the bounding set, so that nothing they
//! execute regains what they gave up. Called before any thread exists: credentials are per thread in the kernel.

use anyhow::{Context as _, ensure};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use super::account::Account;

/// All that the agent keeps: BPF programs and maps, links and interfaces, entering a container's network namespace and
/// pinning, reading `/proc/PID` and the engines' state of other users.
pub const AGENT_KEEPS: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// Makes this process the agent: still root by uid, but only with [`AGENT_KEEPS`]. The controller's group lets it reach
/// the bus socket without a capability to override file modes.
pub fn become_agent(controller_gid: Option<u32>) -> anyhow::Result<()> {
    let groups: Vec<nix::unistd::Gid> =
        [Some(0), controller_gid].into_iter().flatten().map(nix::unistd::Gid::from_raw).collect();
    nix::unistd::setgroups(&groups).context("cannot set the agent's groups")?;
    let kept = thread::capabilities(None)?.permitted & AGENT_KEEPS;
    confine(kept)?;
    seal()
}

/// Makes this process the controller: that user, these groups, no capability.
pub fn become_controller(account: Account, groups: &[u32]) -> anyhow::Result<()> {
    let groups: Vec<nix::unistd::Gid> =
        groups.iter().copied().map(nix::unistd::Gid::from_raw).collect();
    shrink_bounds(CapabilitySet::empty())?;
    nix::unistd::setgroups(&groups).context("cannot set the controller's groups")?;
    let gid = nix::unistd::Gid::from_raw(account.gid);
    nix::unistd::setresgid(gid, gid, gid).context("cannot take the controller's group")?;
    let uid = nix::unistd::Uid::from_raw(account.uid);
    nix::unistd::setresuid(uid, uid, uid).context("cannot take the controller's user")?;
    confine(CapabilitySet::empty())?;
    ensure!(
        nix::unistd::setresuid(0.into(), 0.into(), 0.into()).is_err(),
        "the controller could become root again"
    );
    seal()
}

/// Keeps only these capabilities, everywhere a capability can hide.
fn confine(kept: CapabilitySet) -> anyhow::Result<()> {
    // PR_CAP_AMBIENT is as old as 4.3; a kernel without it has no ambient set to clear.
    match thread::clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error).context("cannot clear ambient capabilities"),
    }
    // Shrinking bounds needs CAP_SETPCAP; whoever comes without it has shrunk them already.
    if thread::capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        shrink_bounds(kept)?;
    }
    thread::set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )
    .context("cannot drop capabilities")?;
    let left = thread::capabilities(None)?;
    ensure!(left.permitted == kept && left.effective == kept, "capabilities were not dropped");
    Ok(())
}

fn shrink_bounds(kept: CapabilitySet) -> anyhow::Result<()> {
    for capability in CapabilitySet::all().iter() {
        if kept.contains(capability) {
            continue;
        }
        match thread::remove_capability_from_bounding_set(capability) {
            // A kernel that does not know a capability has nothing to remove.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error).context("cannot shrink the bounding set"),
        }
    }
    Ok(())
}

/// No way back, and no life without the supervisor.
fn seal() -> anyhow::Result<()> {
    thread::set_no_new_privs(true).context("cannot set no_new_privs")?;
    // A change of credentials clears the death signal, so it comes last.
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .context("cannot ask for a signal at the supervisor's death")?;
    Ok(())
}
