//! Configuration: files, environment and flags become one checked [`Config`], or an error that names the key.
//!
//! Twins (`config/twin.rs`) are what a person writes: every key optional, unknown keys refused. They are merged key by key
//! (file, then `config.d/*.toml` by name, then `BULKHEAD_*`, then flags) and checked once into types that cannot be wrong.

mod source;
mod twin;

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_api::credentials::Groups;
use bulkhead_domain::Mode;
use bulkhead_domain::guardrail::Guardrails;
use bulkhead_domain::net::PeerMatch;
use bulkhead_domain::verdict::Rules;
use thiserror::Error;

use crate::args::Global;

/// Where the configuration is unless named.
pub const DEFAULT_FILE: &str = "/etc/bulkhead/config.toml";

/// What is wrong with a configuration: where, and what to change.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read configuration {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file does not say what it should.
    #[error("configuration {}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Line, key and cause.
        message: String,
    },
    /// A variable does not say what it should.
    #[error("environment variable {name}: {message}")]
    Env {
        /// The variable.
        name: String,
        /// Key and cause.
        message: String,
    },
    /// A value is out of bounds.
    #[error("configuration key `{key}`: {message}")]
    Value {
        /// Section and key.
        key: &'static str,
        /// Cause and remedy.
        message: String,
    },
}

/// Where things lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Durable state.
    pub state: PathBuf,
    /// Sockets.
    pub run: PathBuf,
    /// Pinned guards and leases, on a bpffs.
    pub pins: PathBuf,
    /// Root of the watched subtree; `None` is the whole cgroup v2 hierarchy, wherever it is mounted.
    pub cgroup_root: Option<PathBuf>,
}

impl Paths {
    /// State of the agent.
    pub fn agent_state(&self) -> PathBuf {
        self.state.join("agent")
    }

    /// State of the controller.
    pub fn controller_state(&self) -> PathBuf {
        self.state.join("controller")
    }

    /// Socket between agent and controller.
    pub fn bus_socket(&self) -> PathBuf {
        self.run.join("bus.sock")
    }

    /// Socket of the API.
    pub fn api_socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }
}

/// How containers are found and observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Step of a window.
    pub step: Duration,
    /// Sockets of Docker engines.
    pub docker: Vec<PathBuf>,
    /// Sockets of Podman services.
    pub podman: Vec<PathBuf>,
    /// Podman storage roots, for containers whose service does not run.
    pub podman_roots: Vec<PathBuf>,
    /// State directories of runc, for containers without an engine.
    pub runc_roots: Vec<PathBuf>,
    /// Cgroups whose children are containers without an engine, as paths below the cgroup v2 mount.
    pub cgroup_parents: Vec<String>,
    /// Systemd units that are workloads too, by name or with one `*`.
    pub units: Vec<String>,
    /// Somebody wrote down where Docker is, so that its absence is reported.
    pub docker_required: bool,
    /// The same for Podman.
    pub podman_required: bool,
    /// Most containers observed at once.
    pub containers_max: u32,
}

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Cluster.
    pub cluster: String,
    /// Node.
    pub node: String,
    /// Paths.
    pub paths: Paths,
    /// Collector.
    pub collector: Collector,
    /// How workloads are learned and scored.
    pub detection: bulkhead_detector::Config,
    /// Bounds on automatic measures.
    pub guardrails: Guardrails,
    /// Most measures that one node holds.
    pub measures_max: u32,
    /// Peers with a rule of their own.
    pub rules: Rules,
    /// The controller's user, by name, or by `uid` or `uid:gid`.
    pub controller_user: String,
    /// Groups of the API.
    pub groups: Groups,
    /// How long the log keeps observations.
    pub retention: Duration,
    /// How many bytes of observations the log keeps at most.
    pub retention_bytes: u64,
}

impl Config {
    /// Reads what the flags name, or the default file where it exists, and the environment.
    pub fn load(
        global: &Global,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let table = source::gather(global.config.as_deref(), environment)?;
        let twin = source::twin(table).map_err(|message| ConfigError::File {
            path: global.config.clone().unwrap_or_else(|| DEFAULT_FILE.into()),
            message,
        })?;
        check(twin, global)
    }
}

fn refuse(key: &'static str, message: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, message: message.into() }
}

/// From what was written to what it means.
fn check(twin: twin::File, global: &Global) -> Result<Config, ConfigError> {
    let path = |flag: &Option<PathBuf>, written: Option<PathBuf>, default: &str| {
        flag.clone().or(written).unwrap_or_else(|| default.into())
    };
    let cluster = twin.cluster.unwrap_or_else(|| "local".into());
    let node = twin.node.unwrap_or_else(hostname);
    for (key, value) in [("cluster", &cluster), ("node", &node)] {
        if value.is_empty()
            || value.len() > 253
            || value.chars().any(|c| c.is_control() || c == '/')
        {
            return Err(refuse(key, "write 1 to 253 characters without `/` or control characters"));
        }
    }
    let paths = Paths {
        state: path(&global.state, twin.paths.state, "/var/lib/bulkhead"),
        run: path(&global.run_dir, twin.paths.run, "/run/bulkhead"),
        pins: path(&global.pin_dir, twin.paths.pins, "/sys/fs/bpf/bulkhead"),
        cgroup_root: global.cgroup_root.clone().or(twin.paths.cgroup_root),
    };
    let collector = collector(twin.collector)?;
    Ok(Config {
        cluster,
        node,
        paths,
        detection: detection(twin.detection, collector.step)?,
        collector,
        measures_max: positive("enforcement.measures-max", twin.enforcement.measures_max, 1024)?,
        rules: Rules {
            node_critical: peers(twin.enforcement.node_critical),
            protected: peers(twin.guardrails.protected.clone()),
            quarantine_allow: peers(twin.enforcement.quarantine_allow),
        },
        guardrails: guardrails(twin.guardrails)?,
        controller_user: twin.controller.user.unwrap_or_else(|| "bulkhead".into()),
        groups: Groups {
            read: twin.api.read_group.unwrap_or_else(|| Groups::default().read),
            write: twin.api.write_group.unwrap_or_else(|| Groups::default().write),
        },
        retention: twin.bus.retention.map_or(Duration::from_secs(86_400), |d| d.0),
        retention_bytes: u64::from(positive("bus.retention-mib", twin.bus.retention_mib, 1024)?)
            << 20,
    })
}

fn collector(twin: twin::Collector) -> Result<Collector, ConfigError> {
    let step = twin.step.map_or(Duration::from_secs(5), |d| d.0);
    if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&step)
        || step.subsec_nanos() != 0
        || 60 % step.as_secs() != 0
    {
        return Err(refuse(
            "collector.step",
            "a step divides a minute: write 1s, 2s, 5s, 10s, 15s, 20s, 30s or 60s",
        ));
    }
    let list = |written: Option<Vec<PathBuf>>, default: &[&str]| {
        written.unwrap_or_else(|| default.iter().map(PathBuf::from).collect())
    };
    let containers_max = positive("collector.containers-max", twin.containers_max, 128)?;
    if containers_max >= bulkhead_abi::slot::SLOTS_MAX {
        return Err(refuse(
            "collector.containers-max",
            format!("at most {}", bulkhead_abi::slot::SLOTS_MAX - 1),
        ));
    }
    Ok(Collector {
        step,
        docker_required: twin.docker.as_ref().is_some_and(|list| !list.is_empty()),
        podman_required: twin.podman.as_ref().is_some_and(|list| !list.is_empty()),
        docker: list(twin.docker, &["/run/docker.sock"]),
        podman: list(twin.podman, &["/run/podman/podman.sock"]),
        podman_roots: list(twin.podman_roots, &["/var/lib/containers/storage"]),
        runc_roots: list(twin.runc_roots, &["/run/runc"]),
        cgroup_parents: twin.cgroup_parents.unwrap_or_default(),
        units: twin.units.unwrap_or_default(),
        containers_max,
    })
}

fn detection(
    twin: twin::Detection,
    step: Duration,
) -> Result<bulkhead_detector::Config, ConfigError> {
    let default = bulkhead_detector::Config::default();
    let then = twin.after_learning.unwrap_or(default.learning.then);
    if then == Mode::Learn {
        return Err(refuse("detection.after-learning", "write detect or enforce"));
    }
    let block = twin.block.map_or(default.block, |d| d.0);
    if block < step {
        return Err(refuse("detection.block", "a block of time is at least one step of a window"));
    }
    let novelty_per_day = twin.novelty_per_day.or(default.novelty_per_day);
    if novelty_per_day.is_some_and(|n| !(n.is_finite() && n > 0.0)) {
        return Err(refuse("detection.novelty-per-day", "write a positive number"));
    }
    let learning = bulkhead_detector::config::Learning {
        until_mature: twin.until_mature.unwrap_or(default.learning.until_mature),
        at_most: twin.learn_for.map(|d| d.0).or(default.learning.at_most),
        at_least: twin.learn_at_least.map_or(default.learning.at_least, |d| d.0),
        then,
    };
    if learning.at_most.is_some_and(|most| most < learning.at_least) {
        return Err(refuse("detection.learn-for", "it is shorter than detection.learn-at-least"));
    }
    Ok(bulkhead_detector::Config {
        step_ms: u64::try_from(step.as_millis()).expect("a step is at most a minute"),
        budget: twin.budget.map_or(default.budget, |b| b.0),
        behaviours_share: share(
            "detection.behaviours-share",
            twin.behaviours_share,
            default.behaviours_share,
        )?,
        block,
        novelty_per_day,
        kind_cap: positive("detection.kind-cap", twin.kind_cap, 512)? as usize,
        blocks_min: twin.blocks_min.unwrap_or(default.blocks_min),
        learning,
        loss_ratio_max: share(
            "detection.loss-ratio-max",
            twin.loss_ratio_max,
            default.loss_ratio_max,
        )?,
        quiet_windows: positive(
            "detection.quiet-windows",
            twin.quiet_windows,
            default.quiet_windows,
        )?,
        start_up: twin.start_up.map_or(default.start_up, |d| d.0),
        aftermath: twin.aftermath.map_or(default.aftermath, |d| d.0),
        snapshot_every: twin.snapshot_every.map_or(default.snapshot_every, |d| d.0),
        seed: twin.seed.unwrap_or(default.seed),
        ..default
    })
}

fn guardrails(twin: twin::Guardrails) -> Result<Guardrails, ConfigError> {
    let default = Guardrails::default();
    let ladder: Vec<Duration> = match twin.ttl_ladder {
        Some(written) => written.into_iter().map(|d| d.0).collect(),
        None => default.ttl_ladder,
    };
    if ladder.is_empty() || ladder.iter().any(Duration::is_zero) || !ladder.is_sorted() {
        return Err(refuse(
            "guardrails.ttl-ladder",
            "write at least one duration, each longer than none and not shorter than the one before",
        ));
    }
    let replicas_share_max = share(
        "guardrails.replicas-share-max",
        twin.replicas_share_max,
        default.replicas_share_max,
    )?;
    let manual_ttl = twin.manual_ttl.map_or(default.manual_ttl, |d| d.0);
    if manual_ttl.is_zero() || manual_ttl > bulkhead_api::protocol::MANUAL_TTL_MAX {
        return Err(refuse("guardrails.manual-ttl", "write a duration from 1ms to 366d"));
    }
    Ok(Guardrails {
        protected: peers(twin.protected),
        protect: twin.protect.unwrap_or_default(),
        measures_per_minute_max: twin
            .measures_per_minute_max
            .unwrap_or(default.measures_per_minute_max),
        replicas_share_max,
        ttl_ladder: ladder,
        manual_ttl,
        evidence_age_max: twin.evidence_age_max.map_or(default.evidence_age_max, |d| d.0),
    })
}

fn share(key: &'static str, written: Option<f64>, default: f64) -> Result<f64, ConfigError> {
    match written {
        Some(n) if !(0.0..=1.0).contains(&n) => Err(refuse(key, "write a number from 0 to 1")),
        Some(n) => Ok(n),
        None => Ok(default),
    }
}

fn positive(key: &'static str, written: Option<u32>, default: u32) -> Result<u32, ConfigError> {
    match written {
        Some(0) => Err(refuse(key, "write a positive number")),
        Some(n) => Ok(n),
        None => Ok(default),
    }
}

fn peers(written: Option<Vec<twin::PeerText>>) -> Vec<PeerMatch> {
    written.unwrap_or_default().into_iter().map(|p| p.0).collect()
}

/// The kernel's name for this machine.
fn hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".into() } else { name }
}

#[cfg(test)]
mod tests;
