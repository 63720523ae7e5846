//! One container of one node: a cgroup v2 directory with metadata.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::workload::{WorkloadName, hash64};

/// The engine that named a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Docker Engine, over its socket.
    Docker,
    /// Podman, over its socket or its storage.
    Podman,
    /// No engine: a cgroup under a watched parent.
    Cgroup,
    /// No engine: a systemd unit.
    Systemd,
}

/// Identity of a container: a cgroup id means nothing without its boot id, and is reused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerKey {
    /// Node name.
    pub node: String,
    /// `/proc/sys/kernel/random/boot_id` of the node.
    pub boot: String,
    /// The engine's own id (64 hex digits), or the cgroup's path where there is no engine.
    pub engine_id: String,
    /// Id (inode) of the cgroup v2 directory.
    pub cgroup: u64,
}

impl ContainerKey {
    /// The scope of a container lease in kernel maps: survives a restart into a new cgroup.
    pub fn lease_scope(&self) -> u64 {
        container_scope(&self.engine_id)
    }

    /// The first twelve characters of the engine's id, as engines show it; whole paths stay whole.
    pub fn short(&self) -> &str {
        if self.engine_id.starts_with('/') {
            &self.engine_id
        } else {
            self.engine_id.get(..12).unwrap_or(&self.engine_id)
        }
    }
}

/// The scope of a container lease for an engine's id.
pub fn container_scope(engine_id: &str) -> u64 {
    hash64(engine_id.as_bytes())
}

/// A container and what is known about it. Labels and names were chosen by whoever may start containers: hostile text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Identity.
    pub key: ContainerKey,
    /// What its replicas have in common.
    pub workload: WorkloadName,
    /// The engine that named it.
    pub engine: Engine,
    /// The container's own name, for people; never part of an identity.
    pub name: String,
    /// Image repository without tag or digest; empty where there is no image.
    pub image: String,
    /// Image digest: the *version* of the workload.
    pub digest: String,
    /// Cgroup path below the cgroup v2 mount.
    pub cgroup_path: String,
    /// First process, in the node's pid namespace; 0 when unknown.
    pub pid: u32,
    /// Inode of its network namespace; 0 when unknown.
    pub netns: u64,
    /// Its addresses, for attributing east-west peers to workloads.
    pub addresses: Vec<std::net::IpAddr>,
    /// Shares the host's network namespace: no interface of its own to guard.
    pub host_network: bool,
    /// When the engine started it.
    pub started: Timestamp,
}
