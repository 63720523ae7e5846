//! The table of flows: bounded per container, so that one container's scan never pushes out another's flows.

use core::ptr::NonNull;

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    btf_maps::{Array, HashMap},
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns},
    macros::btf_map,
};
use bulkhead_abi::{
    network::{
        DIRECTION_INBOUND, DIRECTION_OUTBOUND, FLOWS_MAX, FLOWS_PER_SLOT_MAX, Flow, FlowKey,
        NetworkCounters,
    },
    slot::SLOTS_MAX,
};

use super::counters::count;

/// Flows by key. Not an LRU: eviction would take the counts of a quiet container to serve a loud one. User space removes
/// flows that have been idle for long, and a container's when it ends.
#[btf_map]
static FLOWS: HashMap<FlowKey, Flow, { FLOWS_MAX as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Flows that user space has removed, by slot; only user space writes it. Live flows = made - removed.
#[btf_map]
static FLOWS_REMOVED: Array<u64, { SLOTS_MAX as usize }> = Array::new();

/// What a new flow starts from: kept here because the stack is small.
static EMPTY: Flow = Flow {
    packets_out: 0,
    bytes_out: 0,
    packets_in: 0,
    bytes_in: 0,
    attempts: 0,
    refused: 0,
    established: 0,
    reset: 0,
    retries: 0,
    first_ns: 0,
    last_ns: 0,
    epoch: 0,
    unreported: 0,
    routed: [0; 16],
    routed_port: 0,
    pad: 0,
    touched: 0,
};

/// The port of resolvers.
pub(crate) const RESOLVER_PORT: u16 = 53;
/// Docker's resolver inside containers' namespaces: 127.0.0.11.
const DOCKER_RESOLVER: u32 = 0x7f00_000b_u32.to_be();

/// A remote end: address in mapped form, port in host order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Address; big-endian words, as packets and contexts hold them.
    pub(crate) address: [u32; 4],
    /// Port.
    pub(crate) port: u16,
}

impl Peer {
    /// Nobody.
    pub(crate) const NONE: Self = Self { address: [0; 4], port: 0 };

    /// An IPv4 address, as in the packet, in its mapped form.
    #[inline(always)]
    pub(crate) const fn v4(address: u32, port: u16) -> Self {
        Self { address: [0, 0, 0xffff_u32.to_be(), address], port }
    }

    /// Whether the address is IPv4 in its mapped form.
    #[inline(always)]
    pub(crate) const fn is_v4(&self) -> bool {
        self.address[0] == 0 && self.address[1] == 0 && self.address[2] == 0xffff_u32.to_be()
    }

    /// Whether this is nobody.
    #[inline(always)]
    pub(crate) const fn is_none(&self) -> bool {
        (self.address[0] | self.address[1] | self.address[2] | self.address[3]) == 0
    }

    /// Whether this peer, as asked, is a resolver: port 53, or Docker's at any port (it is translated to another one).
    #[inline(always)]
    pub(crate) const fn is_resolver(&self) -> bool {
        self.port == RESOLVER_PORT || (self.is_v4() && self.address[3] == DOCKER_RESOLVER)
    }

    /// Address as the bytes of records.
    #[inline(always)]
    pub(crate) const fn bytes(&self) -> [u8; 16] {
        // SAFETY: four integers and sixteen bytes have the same size, and any bytes are valid.
        unsafe { core::mem::transmute(self.address) }
    }

    /// Same address and port.
    #[inline(always)]
    pub(crate) const fn is(&self, other: &Self) -> bool {
        self.address[3] == other.address[3]
            && self.address[2] == other.address[2]
            && self.address[1] == other.address[1]
            && self.address[0] == other.address[0]
            && self.port == other.port
    }
}

/// The key of a flow that the container opened.
#[inline(always)]
pub(crate) fn outbound(slot: u32, protocol: u8, peer: &Peer) -> FlowKey {
    FlowKey {
        slot,
        protocol,
        direction: DIRECTION_OUTBOUND,
        local_port: 0,
        peer: peer.bytes(),
        peer_port: peer.port,
        pad: [0; 6],
    }
}

/// The key of a flow that the peer opened.
#[inline(always)]
pub(crate) fn inbound(slot: u32, protocol: u8, peer: &Peer, local_port: u16) -> FlowKey {
    FlowKey {
        slot,
        protocol,
        direction: DIRECTION_INBOUND,
        local_port,
        peer: peer.bytes(),
        peer_port: 0,
        pad: [0; 6],
    }
}

/// The flow of that key, if there is one.
#[inline(always)]
pub(crate) fn find(key: &FlowKey) -> Option<NonNull<Flow>> {
    FLOWS.get_ptr_mut(key).and_then(NonNull::new)
}

/// The flow of that key, made if there is room for it; with whether this call made it.
#[inline(always)]
pub(crate) fn find_or_make(
    key: &FlowKey,
    counters: *mut NetworkCounters,
) -> Option<(NonNull<Flow>, bool)> {
    if let Some(flow) = find(key) {
        return Some((flow, false));
    }
    // SAFETY: `counters` points into a live array element.
    let made = unsafe { core::ptr::addr_of!((*counters).flows_made).read_volatile() };
    let removed = match FLOWS_REMOVED.get_ptr_mut(key.slot) {
        // SAFETY: points into a live array element.
        Some(removed) => unsafe { removed.read_volatile() },
        None => return None,
    };
    if made.wrapping_sub(removed) >= FLOWS_PER_SLOT_MAX {
        return None;
    }
    let inserted = FLOWS.insert(key, &EMPTY, BPF_NOEXIST.into()).is_ok();
    let flow = find(key)?;
    if inserted {
        count!(counters, flows_made, 1);
        // SAFETY: `flow` points into a live map value; only its maker writes this field.
        unsafe { (&raw mut (*flow.as_ptr()).first_ns).write_volatile(bpf_ktime_get_boot_ns()) };
    }
    Some((flow, inserted))
}

/// Adds to one field of a flow.
macro_rules! count_flow {
    ($flow:expr, $field:ident, $amount:expr) => {
        // SAFETY: the table gave the pointer, and map values live until the program ends.
        unsafe { $crate::atomic::add(::core::ptr::addr_of_mut!((*$flow.as_ptr()).$field), $amount) }
    };
}
pub(crate) use count_flow;

/// Timer ticks that one coarse tick has: 64 ms to 640 ms, by the kernel's `CONFIG_HZ`.
const COARSE_SHIFT: u32 = 6;

/// Notes when a flow was last used.
#[inline(always)]
pub(crate) fn touch(flow: NonNull<Flow>) {
    let flow = flow.as_ptr();
    // SAFETY: the table gave the pointer. A lost race leaves a time that is as true.
    unsafe {
        let tick = (bpf_jiffies64() >> COARSE_SHIFT) as u32;
        if (&raw const (*flow).touched).read_volatile() != tick {
            (&raw mut (*flow).touched).write_volatile(tick);
            (&raw mut (*flow).last_ns).write_volatile(bpf_ktime_get_boot_ns());
        }
    }
}

/// Notes where address translation sent a flow's packets.
#[inline(always)]
pub(crate) fn route(flow: NonNull<Flow>, peer: &Peer) {
    let flow = flow.as_ptr();
    // SAFETY: the table gave the pointer. A race of two destinations leaves one of them.
    unsafe {
        core::ptr::addr_of_mut!((*flow).routed).write_unaligned(peer.bytes());
        core::ptr::addr_of_mut!((*flow).routed_port).write_volatile(peer.port);
    }
}
