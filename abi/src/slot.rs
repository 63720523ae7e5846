//! The small slot that every container has: who it is, and what guards must know about it in one load.

/// Most containers that one node can hold; slots running out is a named degradation, never a wrong attribution.
pub const SLOTS_MAX: u32 = 1024;

/// How many ancestor levels a look-up walks from the leaf cgroup before it gives up.
pub const ANCESTOR_LEVELS_MAX: u32 = 8;

/// The slot index that means "no container": processes of the host.
pub const SLOT_NONE: u32 = 0;

// Bits 0 and 1 stay free: leases are found by the ids of the slot, not by flags that someone must keep true.

/// A new cgroup under a runtime's parent that no engine has named yet.
pub const FLAG_UNRESOLVED: u32 = 1 << 2;
/// The collector counts this container.
pub const FLAG_OBSERVED: u32 = 1 << 3;
/// A container of the host's network namespace: it has no interface of its own to guard.
pub const FLAG_HOST_NETWORK: u32 = 1 << 4;

/// Value of the pinned map `SLOTS`, keyed by cgroup id (`u64`).
///
/// A guard program inserts a new runtime cgroup as unresolved; afterwards user space writes it (the collector claims the
/// index and ids); every kernel program reads it. A cgroup id means nothing without its boot id, so the map never outlives a boot (bpffs does not).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Index into the per-container counters, 1..[`SLOTS_MAX`]; never [`SLOT_NONE`].
    pub index: u32,
    /// `FLAG_*`.
    pub flags: u32,
    /// First eight bytes of SHA-256 of the engine's container id: the scope of a container lease.
    pub container: u64,
    /// The workload's id (`domain::WorkloadId`): the scope of a workload lease.
    pub workload: u64,
    /// Boot time (ns) until which an unresolved container is held back; past it, it passes and an alert is due.
    pub unresolved_until_ns: u64,
}

const _: () = assert!(size_of::<Slot>() == 32);
