//! Execs, forks, exits and entries into a container's cgroup.

use crate::ring::Header;

/// Longest path that a record carries; longer ones are cut and say so by [`EXEC_CUT`].
pub const PATH_BYTES: usize = 240;

/// The container's own first process.
pub const ORIGIN_STARTED: u32 = 1;
/// Forked by a process that was inside already.
pub const ORIGIN_SPAWNED: u32 = 2;
/// Came from outside.
pub const ORIGIN_ENTERED: u32 = 3;
/// It ran before the probes did.
pub const ORIGIN_UNKNOWN: u32 = 0;

/// Standard input, output or error is a socket.
pub const EXEC_SOCKET_STDIO: u32 = 1 << 0;
/// The file has no name in a file system: an anonymous memory file.
pub const EXEC_MEMFD: u32 = 1 << 1;
/// The path was longer than the record.
pub const EXEC_CUT: u32 = 1 << 2;
/// First exec of a task that a runtime set up: what came before was the runtime's.
pub const EXEC_FIRST: u32 = 1 << 3;

/// A program was executed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecRecord {
    /// `KIND_EXEC`.
    pub header: Header,
    /// Thread-group id.
    pub pid: u32,
    /// Parent's thread-group id.
    pub parent: u32,
    /// Effective user id.
    pub uid: u32,
    /// `ORIGIN_*`.
    pub origin: u32,
    /// `EXEC_*`.
    pub flags: u32,
    /// Bytes of `path` in use.
    pub path_bytes: u32,
    /// Path as it was asked for; user space resolves it by `/proc/PID/exe` while the process lives.
    pub path: [u8; PATH_BYTES],
}

const _: () = assert!(size_of::<ExecRecord>() == 24 + 24 + 240);

/// A process came into a container from outside. Forks and exits are only counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessRecord {
    /// `KIND_ATTACH`.
    pub header: Header,
    /// Thread-group id.
    pub pid: u32,
    /// Parent's thread-group id.
    pub parent: u32,
    /// `ORIGIN_*`.
    pub origin: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<ProcessRecord>() == 40);

/// Longest name of a cgroup directory.
pub const CGROUP_NAME_BYTES: usize = 128;

/// A cgroup directory was made or removed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CgroupRecord {
    /// `KIND_CGROUP_MADE` or `KIND_CGROUP_GONE`; its `cgroup` is the directory's own id.
    pub header: Header,
    /// The path below the cgroup v2 mount, ended by 0; longer ones are cut.
    pub path: [u8; CGROUP_NAME_BYTES * 2],
}

const _: () = assert!(size_of::<CgroupRecord>() == 24 + 256);

/// Per-container counters of processes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounters {
    /// Programs executed.
    pub execs: u64,
    /// Processes forked (threads are not counted).
    pub forks: u64,
    /// Processes ended.
    pub exits: u64,
    /// Acts (execs and calls) that happened.
    pub acts: u64,
    /// Acts that were put into the ring.
    pub emitted: u64,
    /// Acts counted only, because their epoch had them already.
    pub repeated: u64,
    /// Acts lost to the container's quota.
    pub lost_quota: u64,
    /// Acts lost to a full ring.
    pub lost_ring: u64,
}

const _: () = assert!(size_of::<ProcessCounters>() == 64);
