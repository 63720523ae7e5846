//! The one ring that carries discrete acts to user space: its record kinds, and the quota that keeps one container's
//! flood from costing another its events.

/// Length of an epoch (ns): an act is reported once an epoch and counted the rest of the time, and quotas begin anew.
pub const EPOCH_NS: u64 = 5_000_000_000;

/// Records that one container may put into the ring in one epoch; past it they are counted as lost by `quota`.
pub const RECORDS_PER_EPOCH_MAX: u32 = 4096;

/// Size of the ring in bytes: a power of two and a multiple of the page.
pub const RING_BYTES: usize = 8 << 20;

/// [`crate::process::ExecRecord`].
pub const KIND_EXEC: u32 = 10;
/// [`crate::process::ProcessRecord`]: a task entered a container's cgroup.
pub const KIND_ATTACH: u32 = 11;
/// [`crate::process::CgroupRecord`]: a cgroup directory was made.
pub const KIND_CGROUP_MADE: u32 = 14;
/// [`crate::process::CgroupRecord`]: a cgroup directory was removed.
pub const KIND_CGROUP_GONE: u32 = 15;
/// [`crate::network::NetworkRecord`].
pub const KIND_NETWORK: u32 = 20;
/// [`crate::syscall::CallRecord`].
pub const KIND_CALL: u32 = 25;
/// [`crate::dns::DnsRecord`].
pub const KIND_DNS: u32 = 30;

/// How every record begins.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `KIND_*`.
    pub kind: u32,
    /// Index of the container; 0 while no engine has named it.
    pub slot: u32,
    /// Cgroup, as `SLOTS` has it; else the task's own.
    pub cgroup: u64,
    /// Boot time (ns).
    pub time_ns: u64,
}

const _: () = assert!(size_of::<Header>() == 24);

/// What a container has used of the ring; one element per slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Epoch that `used` belongs to.
    pub epoch: u64,
    /// Records in that epoch.
    pub used: u64,
}

const _: () = assert!(size_of::<Quota>() == 16);
