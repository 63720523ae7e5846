//! Containers and their identity.

use bulkhead_domain::container::{Container, ContainerKey, Engine};
use bulkhead_domain::time::Timestamp;

use super::net::{address, address_bytes};
use super::{Unreadable, known, need, workload};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerKeyWire {
    #[prost(string, tag = "1")]
    pub(crate) node: String,
    #[prost(string, tag = "2")]
    pub(crate) boot: String,
    #[prost(string, tag = "3")]
    pub(crate) engine_id: String,
    #[prost(uint64, tag = "4")]
    pub(crate) cgroup: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerWire {
    #[prost(message, optional, tag = "1")]
    pub(crate) key: Option<ContainerKeyWire>,
    #[prost(string, tag = "2")]
    pub(crate) workload: String,
    /// 1 Docker, 2 Podman, 3 cgroup, 4 systemd.
    #[prost(uint32, tag = "3")]
    pub(crate) engine: u32,
    #[prost(string, tag = "4")]
    pub(crate) name: String,
    #[prost(string, tag = "5")]
    pub(crate) image: String,
    #[prost(string, tag = "6")]
    pub(crate) digest: String,
    #[prost(string, tag = "7")]
    pub(crate) cgroup_path: String,
    #[prost(uint32, tag = "8")]
    pub(crate) pid: u32,
    #[prost(uint64, tag = "9")]
    pub(crate) netns: u64,
    #[prost(bytes = "vec", repeated, tag = "10")]
    pub(crate) addresses: Vec<Vec<u8>>,
    #[prost(bool, tag = "11")]
    pub(crate) host_network: bool,
    #[prost(fixed64, tag = "12")]
    pub(crate) started_ns: u64,
}

impl From<&ContainerKey> for ContainerKeyWire {
    fn from(key: &ContainerKey) -> Self {
        Self {
            node: key.node.clone(),
            boot: key.boot.clone(),
            engine_id: key.engine_id.clone(),
            cgroup: key.cgroup,
        }
    }
}

impl From<ContainerKeyWire> for ContainerKey {
    fn from(wire: ContainerKeyWire) -> Self {
        Self { node: wire.node, boot: wire.boot, engine_id: wire.engine_id, cgroup: wire.cgroup }
    }
}

impl From<&Container> for ContainerWire {
    fn from(container: &Container) -> Self {
        Self {
            key: Some((&container.key).into()),
            workload: container.workload.to_string(),
            engine: match container.engine {
                Engine::Docker => 1,
                Engine::Podman => 2,
                Engine::Cgroup => 3,
                Engine::Systemd => 4,
            },
            name: container.name.clone(),
            image: container.image.clone(),
            digest: container.digest.clone(),
            cgroup_path: container.cgroup_path.clone(),
            pid: container.pid,
            netns: container.netns,
            addresses: container.addresses.iter().map(|a| address_bytes(*a)).collect(),
            host_network: container.host_network,
            started_ns: container.started.0,
        }
    }
}

impl TryFrom<ContainerWire> for Container {
    type Error = Unreadable;

    fn try_from(wire: ContainerWire) -> Result<Self, Unreadable> {
        let engine = match wire.engine {
            1 => Some(Engine::Docker),
            2 => Some(Engine::Podman),
            3 => Some(Engine::Cgroup),
            4 => Some(Engine::Systemd),
            _ => None,
        };
        Ok(Self {
            key: need("key", wire.key)?.into(),
            workload: workload(&wire.workload)?,
            engine: known("engine", wire.engine, engine)?,
            name: wire.name,
            image: wire.image,
            digest: wire.digest,
            cgroup_path: wire.cgroup_path,
            pid: wire.pid,
            netns: wire.netns,
            addresses: wire.addresses.iter().map(|a| address(a)).collect::<Result<_, _>>()?,
            host_network: wire.host_network,
            started: Timestamp(wire.started_ns),
        })
    }
}
