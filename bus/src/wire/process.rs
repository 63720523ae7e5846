//! The process behind a behaviour.

use bulkhead_domain::process::{Origin, Process};

use super::Unreadable;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProcessWire {
    #[prost(uint32, tag = "1")]
    pub(crate) pid: u32,
    #[prost(string, tag = "2")]
    pub(crate) executable: String,
    #[prost(string, tag = "3")]
    pub(crate) parent: String,
    #[prost(uint32, tag = "4")]
    pub(crate) uid: u32,
    /// 0 unknown, 1 started, 2 spawned, 3 entered; another one is read as unknown.
    #[prost(uint32, tag = "5")]
    pub(crate) origin: u32,
    #[prost(bool, tag = "6")]
    pub(crate) engine_exec: bool,
}

impl From<&Process> for ProcessWire {
    fn from(process: &Process) -> Self {
        Self {
            pid: process.pid,
            executable: process.executable.clone(),
            parent: process.parent.clone(),
            uid: process.uid,
            origin: match process.origin {
                Origin::Unknown => 0,
                Origin::Started => 1,
                Origin::Spawned => 2,
                Origin::Entered => 3,
            },
            engine_exec: process.engine_exec,
        }
    }
}

impl TryFrom<ProcessWire> for Process {
    type Error = Unreadable;

    fn try_from(wire: ProcessWire) -> Result<Self, Unreadable> {
        Ok(Self {
            pid: wire.pid,
            executable: wire.executable,
            parent: wire.parent,
            uid: wire.uid,
            origin: match wire.origin {
                1 => Origin::Started,
                2 => Origin::Spawned,
                3 => Origin::Entered,
                _ => Origin::Unknown,
            },
            engine_exec: wire.engine_exec,
        })
    }
}
