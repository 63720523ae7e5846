//! What a collector is told at its start.

use std::path::PathBuf;
use std::time::Duration;

use crate::naming::cgroup::Watch;
use crate::naming::engine::Source;

/// Records that wait for the bus at most: a minute of 100 busy containers.
pub const OUTBOX_MAX: usize = 8_192;

/// A collector's settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Cluster.
    pub cluster: String,
    /// Node.
    pub node: String,
    /// Directory of its durable state (its epoch).
    pub state: PathBuf,
    /// Where the cgroup v2 hierarchy is mounted.
    pub cgroup_mount: PathBuf,
    /// The part of it that is watched.
    pub cgroup_root: PathBuf,
    /// Engines.
    pub sources: Vec<Source>,
    /// State directories of bare runtimes.
    pub runc_roots: Vec<PathBuf>,
    /// Cgroups that are containers without an engine.
    pub watch: Watch,
    /// Step of a window.
    pub step: Duration,
    /// Containers observed at most.
    pub containers_max: u32,
}
