//! What an enforcer is told at its start.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_domain::verdict::Rules;

/// An enforcer's settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Cluster: another's measures are refused.
    pub cluster: String,
    /// Node.
    pub node: String,
    /// Boot id: what was said in boot time means nothing in another boot.
    pub boot: String,
    /// Directory of its durable state: `ledger.json`, `audit.jsonl`.
    pub state: PathBuf,
    /// Where the guards are pinned.
    pub pins: PathBuf,
    /// Where the cgroup v2 hierarchy is mounted.
    pub cgroup_mount: PathBuf,
    /// The guarded part of it.
    pub cgroup_root: PathBuf,
    /// Cgroups whose children are containers, whatever their names.
    pub cgroup_parents: Vec<PathBuf>,
    /// How long a new container is held back while nobody has named it.
    pub hold: Duration,
    /// Peers with a rule of their own.
    pub rules: Rules,
    /// Most measures that this node holds.
    pub measures_max: usize,
}
