//! `bulkhead run`: the supervisor and the two processes it starts from this same binary.

pub mod account;
pub mod keys;
pub mod lock;
pub mod privilege;
pub mod restart;
pub mod seccomp;
pub mod stop;
pub mod supervise;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use bulkhead_api::credentials;

use crate::args::{Global, Process, Role, Run};
use crate::config::{Config, Paths};
use crate::outcome::{Failure, Outcome};
use account::Account;
use lock::Lock;

/// `BPF_FS_MAGIC` of the kernel's `linux/magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Every role, in the order in which evidence passes them.
const ROLES: [Role; 5] =
    [Role::Collector, Role::Detector, Role::Planner, Role::Enforcer, Role::Api];

/// Runs as supervisor, or as the process that the supervisor asked for.
pub fn run(global: &Global, args: &Run) -> Result<Outcome, Failure> {
    log_to_stderr();
    let config = Config::load(global, std::env::vars())?;
    let roles = if args.roles.is_empty() { ROLES.to_vec() } else { args.roles.clone() };
    match args.process {
        None => supervise(&config, &roles),
        Some(Process::Agent) => agent(&config, &roles),
        Some(Process::Controller) => controller(&config, &roles),
    }
}

/// Log lines as fields on standard error; `BULKHEAD_LOG` filters them.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BULKHEAD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

/// Prepares directories, takes the locks, and watches over the processes that these roles need.
fn supervise(config: &Config, roles: &[Role]) -> Result<Outcome, Failure> {
    let processes: Vec<Process> = [Process::Controller, Process::Agent]
        .into_iter()
        .filter(|p| roles.iter().any(|r| r.process() == *p))
        .collect();
    let root = account::current().uid == 0;
    if processes.contains(&Process::Agent) && !root {
        return Err(anyhow::anyhow!(
            "the agent needs root to load kernel programs: run it with sudo, or play other roles with --roles detector,planner,api"
        )
        .into());
    }
    let owner = controller_account(config)?;
    directories(&config.paths, owner, processes.contains(&Process::Agent))?;
    let _locks = locks(&config.paths, processes.contains(&Process::Agent))?;
    if processes.contains(&Process::Controller) {
        keys::prepare(&config.paths, owner, processes.contains(&Process::Agent))
            .context("cannot prepare the signing key")?;
    }
    let status = runtime()?.block_on(supervise::run(&processes))?;
    match u8::try_from(status) {
        Ok(0) => Ok(Outcome::Done),
        Ok(status) => Err(Failure::Reported(status)),
        Err(_) => Err(Failure::Reported(1)),
    }
}

/// The account that the controller runs as: its own when root can give it one, this process's otherwise.
fn controller_account(config: &Config) -> Result<Account, Failure> {
    if account::current().uid != 0 {
        return Ok(account::current());
    }
    account::resolve(&config.controller_user).map_err(|e| Failure::Usage(e.to_string()))
}

/// One thread: both processes wait for sockets and the kernel, and compute in short steps.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Makes what is missing: state and sockets for the controller's user, the agent's state for root alone.
fn directories(paths: &Paths, owner: Account, agent: bool) -> anyhow::Result<()> {
    make(&paths.state, 0o755, None)?;
    make(&paths.run, 0o755, Some(owner))?;
    make(&paths.controller_state(), 0o700, Some(owner))?;
    if agent {
        make(&paths.agent_state(), 0o700, None)?;
        pins(&paths.pins).with_context(|| {
            format!(
                "cannot pin under {}: mount a bpffs with `mount -t bpf bpf /sys/fs/bpf`, or name one with --pin-dir",
                paths.pins.display()
            )
        })?;
    }
    Ok(())
}

/// The pins' directory; a file system that cannot hold pins is refused before anything is loaded.
fn pins(path: &Path) -> anyhow::Result<()> {
    let parent = path.ancestors().find(|p| p.exists()).unwrap_or(path);
    let kind = rustix::fs::statfs(parent).context("cannot tell its file system")?.f_type;
    anyhow::ensure!(u64::try_from(kind) == Ok(BPF_FS_MAGIC), "it is on no bpffs");
    make(path, 0o700, None)
}

/// A directory with that mode and owner; one that is there keeps its content.
fn make(path: &Path, mode: u32, owner: Option<Account>) -> anyhow::Result<()> {
    let name = path.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .with_context(|| format!("cannot make directory {name}"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {name}"))?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))
            .with_context(|| format!("cannot give {name} to the controller's user"))?;
    }
    Ok(())
}

/// One daemon per state directory, pin directory and cgroup subtree.
fn locks(paths: &Paths, agent: bool) -> anyhow::Result<Vec<Lock>> {
    let mut locks = vec![lock::by_file("state directory", &paths.state)?];
    if agent {
        locks.push(lock::directory("pin directory", &paths.pins)?);
        if let Some(root) = &paths.cgroup_root {
            locks.push(lock::directory("cgroup subtree", root)?);
        }
    }
    Ok(locks)
}

/// The agent: gives up what it does not need, then observes and enforces.
fn agent(config: &Config, roles: &[Role]) -> Result<Outcome, Failure> {
    let group = controller_account(config).ok().map(|a| a.gid);
    privilege::become_agent(group)?;
    seccomp::confine_agent()?;
    runtime()?.block_on(crate::agent::run(config, roles))?;
    Ok(Outcome::Done)
}

/// The controller: becomes its own user, then keeps the log, judges, plans and answers.
fn controller(config: &Config, roles: &[Role]) -> Result<Outcome, Failure> {
    if account::current().uid == 0 {
        let account = controller_account(config)?;
        let groups: Vec<u32> = [Some(account.gid), credentials::group_id(&config.groups.read)]
            .into_iter()
            .flatten()
            .collect();
        privilege::become_controller(account, &groups)?;
    }
    runtime()?.block_on(crate::controller::run(config, roles))?;
    Ok(Outcome::Done)
}
