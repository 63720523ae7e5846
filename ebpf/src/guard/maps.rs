//! The guards' maps: all pinned, so that measures outlive the daemon and end on time without it.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use bulkhead_abi::{
    guard::{
        GuardCounters, Hits, INTERFACES_MAX, Interface, LEASES_MAX, Lease, LeaseKey, MEASURES_MAX,
        PARENTS_MAX, SCOPES_MAX, SHAPES_MAX, SLOT_ENTRIES_MAX, Scope, ScopeKey, Settings, Shape,
    },
    slot::Slot,
};

/// `ABI_VERSION` of whoever made these maps.
#[map]
pub static ABI: Array<u32> = Array::pinned(1, 0);

/// Containers by cgroup id. Preallocated: a tracepoint inserts.
#[map]
pub static SLOTS: HashMap<u64, Slot> = HashMap::pinned(SLOT_ENTRIES_MAX, 0);

/// What denies, protects and allows. Only user space writes.
#[map]
pub static LEASES: HashMap<LeaseKey, Lease> = HashMap::pinned(LEASES_MAX, BPF_F_NO_PREALLOC);

/// Pairs of prefix length and wildcards in use.
#[map]
pub static SHAPES: Array<Shape> = Array::pinned(SHAPES_MAX, 0);

/// What is in force for containers and workloads.
#[map]
pub static SCOPES: HashMap<ScopeKey, Scope> = HashMap::pinned(SCOPES_MAX, BPF_F_NO_PREALLOC);

/// What is in force for the node, and for containers without a name.
#[map]
pub static NODE: Array<Scope> = Array::pinned(2, 0);

/// Settings, and whether anything is in force at all.
#[map]
pub static SETTINGS: Array<Settings> = Array::pinned(1, 0);

/// What measures have stopped.
#[map]
pub static HITS: HashMap<u64, Hits> = HashMap::pinned(MEASURES_MAX, BPF_F_NO_PREALLOC);

/// Measures that a person ended with every daemon dead, and when (boot ns): the daemon must not bring them back.
#[map]
pub static DISARMED: HashMap<u64, u64> = HashMap::pinned(MEASURES_MAX, BPF_F_NO_PREALLOC);

/// Cgroups whose children are containers, whatever their names.
#[map]
pub static PARENTS: HashMap<u64, u32> = HashMap::pinned(PARENTS_MAX, 0);

/// Containers behind the host's interfaces.
#[map]
pub static INTERFACES: HashMap<u32, Interface> = HashMap::pinned(INTERFACES_MAX, BPF_F_NO_PREALLOC);

/// Counters of the node.
#[map]
pub static GUARD_COUNTERS: Array<GuardCounters> = Array::pinned(1, 0);

/// Room for the name of a new cgroup; nothing in it outlives one program.
#[map]
pub static NAME: PerCpuArray<[u8; 256]> = PerCpuArray::with_max_entries(1, 0);
