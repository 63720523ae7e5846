//! Leases, scopes and shapes: what the guards match a packet or call against, and what they count.
//!
//! A lease is one entry of a hash, keyed by who it concerns, a masked peer, and which of port and protocol are wild. A
//! *shape* is one (prefix length, wildcards) pair in use; a *scope* says which shapes any of its leases has, list by list.
//! So a verdict probes exactly the shapes that a container's scopes use: a union, never a longest match. Addresses are 16
//! bytes in network order, IPv4 in its mapped form; ports are in host order.

/// Most distinct pairs of prefix length and wildcards in use at once: one bit each in [`Scope::shapes`].
pub const SHAPES_MAX: u32 = 64;

/// Most leases of one node, derived entries included.
pub const LEASES_MAX: u32 = 16_384;

/// Most scopes with a lease.
pub const SCOPES_MAX: u32 = 4096;

/// Most cgroups in `SLOTS`: containers, and new ones that wait for their name.
pub const SLOT_ENTRIES_MAX: u32 = 2 * crate::slot::SLOTS_MAX;

/// Most interfaces with a wall of their own.
pub const INTERFACES_MAX: u32 = 1024;

/// Most registered parents of containers that no pattern names.
pub const PARENTS_MAX: u32 = 256;

/// Most measures with counters, or marked as disarmed.
pub const MEASURES_MAX: u32 = 8192;

/// How long a new container is held back while nobody has named it, unless configured otherwise (ns).
pub const HOLD_NS: u64 = 5_000_000_000;

/// Container scope of the self-test's pseudo-container: no engine's id hashes to a word of letters.
pub const CANARY: u64 = u64::from_be_bytes(*b"canary\0\0");

/// An expiry that never comes.
pub const NEVER: u64 = u64::MAX;

/// Whom a lease concerns. Numbered with gaps, never reused.
pub mod scope {
    /// One container, by the hash of its engine's id.
    pub const CONTAINER: u8 = 10;
    /// A workload, by its id.
    pub const WORKLOAD: u8 = 20;
    /// Every container of the node; the id is 0.
    pub const NODE: u8 = 30;
    /// Containers that nobody has named yet: the union of all scopes of the node; the id is 0.
    pub const UNRESOLVED: u8 = 40;
}

/// Lists of peers, as indices into [`Scope::shapes`]; the rest are for steps to come (feed, policy, restrict).
pub mod list {
    /// Peers that the node needs to live.
    pub const CRITICAL: u8 = 0;
    /// All that a quarantined container reaches.
    pub const QUARANTINE_ALLOW: u8 = 1;
    /// Denied by a person.
    pub const MANUAL: u8 = 2;
    /// Out of reach of automatic measures.
    pub const PROTECTED: u8 = 3;
    /// Denied by the planner.
    pub const AUTOMATIC: u8 = 4;
    /// How many lists there is room for.
    pub const COUNT: usize = 8;
}

/// Steps of a verdict, as `domain::verdict::VerdictStep` numbers them.
pub mod step {
    /// A node-critical peer: passes.
    pub const CRITICAL: u32 = 10;
    /// Quarantined.
    pub const QUARANTINE: u32 = 20;
    /// Denied by a person.
    pub const MANUAL: u32 = 30;
    /// A protected peer: passes.
    pub const PROTECTED: u32 = 40;
    /// Denied by the planner.
    pub const AUTOMATIC: u32 = 50;
    /// Nothing hit: passes.
    pub const DEFAULT: u32 = 100;
}

/// Any port.
pub const WILD_PORT: u8 = 1 << 0;
/// Any protocol.
pub const WILD_PROTOCOL: u8 = 1 << 1;

/// Key of the map `LEASES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseKey {
    /// Id of the scope.
    pub id: u64,
    /// Network address: its bytes in network order, bits beyond the prefix cleared.
    pub address: [u64; 2],
    /// Remote port in host order; 0 when wild.
    pub port: u16,
    /// IANA protocol number; 0 when wild.
    pub protocol: u8,
    /// Prefix length of the mapped address: 96 more than that of an IPv4 prefix.
    pub prefix: u8,
    /// `scope::*`.
    pub scope: u8,
    /// `list::*`.
    pub list: u8,
    /// `WILD_*`.
    pub wild: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<LeaseKey>() == 32);

/// Value of the map `LEASES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Boot time (ns) from which the lease is a miss; [`NEVER`] for lists.
    pub expires_ns: u64,
    /// The measure behind it; `u64::MAX` for lists; never 0.
    pub measure: u64,
}

const _: () = assert!(size_of::<Lease>() == 16);

/// One (prefix length, wildcards) pair in use: value of the array `SHAPES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Mask, its bytes in network order.
    pub mask: [u64; 2],
    /// All ones where the port counts, 0 where it is wild.
    pub port_mask: u16,
    /// All ones where the protocol counts, 0 where it is wild.
    pub protocol_mask: u8,
    /// Prefix length of the mapped address.
    pub prefix: u8,
    /// `WILD_*`.
    pub wild: u8,
    /// 1 while in use.
    pub live: u8,
    /// Zero.
    pub pad: [u8; 2],
}

const _: () = assert!(size_of::<Shape>() == 24);

/// Key of the map `SCOPES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeKey {
    /// Container scope or workload id.
    pub id: u64,
    /// `scope::CONTAINER` or `scope::WORKLOAD`.
    pub kind: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<ScopeKey>() == 16);

/// What is in force for one scope: value of `SCOPES`, and of the array `NODE` (0 the node, 1 unresolved containers).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Boot time (ns) until which the scope is quarantined; 0 for not at all.
    pub quarantine_until_ns: u64,
    /// The measure behind the quarantine.
    pub quarantine_measure: u64,
    /// Which shapes the leases of each list have: bit n for entry n of `SHAPES`.
    pub shapes: [u64; list::COUNT],
}

const _: () = assert!(size_of::<Scope>() == 80);

/// Entry of the array `NODE` for every container of the node.
pub const NODE_ALL: u32 = 0;
/// Entry of the array `NODE` for containers without a name.
pub const NODE_UNRESOLVED: u32 = 1;

/// Value of the one-entry array `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// 0 while nothing is in force: every hook passes after this one load.
    pub armed: u32,
    /// 1 when a quarantined interface may still resolve neighbours, because some peer is allowed.
    pub neighbours: u32,
    /// How long a new container is held back (ns).
    pub hold_ns: u64,
    /// Cgroup at which the guards are attached: what is made elsewhere is not theirs.
    pub root: u64,
}

const _: () = assert!(size_of::<Settings>() == 24);

/// What one measure has stopped: value of the map `HITS`, keyed by measure id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Packets dropped; a segmented send counts its segments.
    pub packets: u64,
    /// Bytes dropped, from the IP header on at sockets, from the link header on at interfaces.
    pub bytes: u64,
    /// Calls refused.
    pub calls: u64,
}

const _: () = assert!(size_of::<Hits>() == 24);

/// What the guards count for the whole node: value of the one-entry array `GUARD_COUNTERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardCounters {
    /// Packets and calls held back because their container had no name yet.
    pub held: u64,
    /// New cgroups marked as unresolved.
    pub marked: u64,
    /// New cgroups that could not be marked, because `SLOTS` was full.
    pub mark_failed: u64,
    /// Packets dropped because their headers hide the port from a scope with leases.
    pub opaque: u64,
}

const _: () = assert!(size_of::<GuardCounters>() == 32);

/// The container behind an interface of the host: value of the map `INTERFACES`, keyed by ifindex.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Cgroup of the container.
    pub cgroup: u64,
    /// Container scope.
    pub container: u64,
    /// Workload id.
    pub workload: u64,
}

const _: () = assert!(size_of::<Interface>() == 24);
