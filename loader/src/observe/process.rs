//! Execs, entries, forks and exits from user space.

use aya::{
    Btf, Ebpf,
    maps::{Array, MapData},
    programs::BtfTracePoint,
};
pub use bulkhead_abi::process::ProcessCounters;
use bulkhead_abi::process::{
    CgroupRecord, EXEC_CUT, EXEC_FIRST, EXEC_MEMFD, EXEC_SOCKET_STDIO, ExecRecord, ORIGIN_ENTERED,
    ORIGIN_SPAWNED, ORIGIN_STARTED, ProcessRecord,
};

use super::take_map;
use crate::error::ObserveError;

/// Programs, and the tracepoint that each is attached to.
const PROGRAMS: [(&str, &str); 6] = [
    ("cgroup_made", "cgroup_mkdir"),
    ("cgroup_gone", "cgroup_rmdir"),
    ("cgroup_attach", "cgroup_attach_task"),
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
];

/// How a process came to be in its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The container's own first process.
    Started,
    /// Forked by a process that was inside already.
    Spawned,
    /// Came from outside.
    Entered,
    /// It ran before the observers did.
    Unknown,
}

impl Origin {
    const fn from_raw(raw: u32) -> Self {
        match raw {
            ORIGIN_STARTED => Self::Started,
            ORIGIN_SPAWNED => Self::Spawned,
            ORIGIN_ENTERED => Self::Entered,
            _ => Self::Unknown,
        }
    }
}

/// A program was executed in a container.
#[expect(clippy::struct_excessive_bools, reason = "four independent facts of the kernel's record")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecEvent {
    /// Index of the container; 0 while no engine has named it: then go by `cgroup`.
    pub slot: u32,
    /// Its cgroup, as the slots' map knows it.
    pub cgroup: u64,
    /// Boot time, ns.
    pub time_ns: u64,
    /// Process id in the initial namespace.
    pub pid: u32,
    /// Parent's process id.
    pub parent: u32,
    /// Effective user id in the initial namespace.
    pub uid: u32,
    /// How the process came to be in its container.
    pub origin: Origin,
    /// Standard input, output or error is a socket.
    pub socket_stdio: bool,
    /// The file is an anonymous memory file.
    pub memfd: bool,
    /// First exec of a task that a runtime set up.
    pub first: bool,
    /// The path was longer than the record.
    pub cut: bool,
    /// Path as asked for: hostile bytes.
    pub path: Vec<u8>,
}

impl ExecEvent {
    pub(super) fn from_record(record: &ExecRecord) -> Option<Self> {
        Some(Self {
            slot: record.header.slot,
            cgroup: record.header.cgroup,
            time_ns: record.header.time_ns,
            pid: record.pid,
            parent: record.parent,
            uid: record.uid,
            origin: Origin::from_raw(record.origin),
            socket_stdio: record.flags & EXEC_SOCKET_STDIO != 0,
            memfd: record.flags & EXEC_MEMFD != 0,
            first: record.flags & EXEC_FIRST != 0,
            cut: record.flags & EXEC_CUT != 0,
            path: record.path.get(..record.path_bytes as usize)?.to_vec(),
        })
    }
}

/// A process came into a container from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessEvent {
    /// Index of the container; 0 while no engine has named it.
    pub slot: u32,
    /// Its cgroup.
    pub cgroup: u64,
    /// Boot time, ns.
    pub time_ns: u64,
    /// Process id in the initial namespace.
    pub pid: u32,
    /// Parent's process id.
    pub parent: u32,
    /// As its first process, or later.
    pub origin: Origin,
}

impl ProcessEvent {
    pub(super) fn from_record(record: &ProcessRecord) -> Self {
        Self {
            slot: record.header.slot,
            cgroup: record.header.cgroup,
            time_ns: record.header.time_ns,
            pid: record.pid,
            parent: record.parent,
            origin: Origin::from_raw(record.origin),
        }
    }
}

/// A cgroup directory was made or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupEvent {
    /// The directory's id.
    pub cgroup: u64,
    /// Boot time, ns.
    pub time_ns: u64,
    /// Path below the cgroup v2 mount; cut at 255 bytes.
    pub path: String,
}

impl CgroupEvent {
    pub(super) fn from_record(record: &CgroupRecord) -> Self {
        let end = record.path.iter().position(|byte| *byte == 0).unwrap_or(record.path.len());
        Self {
            cgroup: record.header.cgroup,
            time_ns: record.header.time_ns,
            path: String::from_utf8_lossy(&record.path[..end]).into_owned(),
        }
    }
}

/// A plain value of a map.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain(ProcessCounters);

// SAFETY: `repr(C)`, integers only: any bytes are a valid value.
unsafe impl aya::Pod for Plain {}

/// The maps of the process programs, while they are attached.
pub struct Processes {
    counters: Array<MapData, Plain>,
}

impl Processes {
    pub(super) fn attach(ebpf: &mut Ebpf, kernel: &Btf) -> Result<Self, ObserveError> {
        for (name, tracepoint) in PROGRAMS {
            let program: &mut BtfTracePoint = ebpf
                .program_mut(name)
                .ok_or(ObserveError::MissingProgram { program: name })?
                .try_into()
                .map_err(|source| ObserveError::Attach { program: name, source })?;
            program
                .load(tracepoint, kernel)
                .and_then(|()| program.attach())
                .map_err(|source| ObserveError::Attach { program: name, source })?;
        }
        Ok(Self { counters: take_map!(ebpf, "PROCESSES") })
    }

    /// Counters of a slot since the observers began; element 0 is of containers without a name.
    pub fn counters(&self, slot: u32) -> Result<ProcessCounters, ObserveError> {
        self.counters
            .get(&slot, 0)
            .map(|plain| plain.0)
            .map_err(|source| ObserveError::Map { map: "PROCESSES", source })
    }
}
