//! The verdict: first hit wins, leases are a union, an expired one is a miss and the search goes on.
//!
//! Order: node-critical peers, quarantine, manual leases, protected peers, automatic leases, default. The usual cases end
//! early: nothing in force on the node is one load; nothing in force for this container is three.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use bulkhead_abi::{
    guard::{
        Hits, LeaseKey, NODE_ALL, NODE_UNRESOLVED, SHAPES_MAX, Scope, ScopeKey, list, scope, step,
    },
    slot::{FLAG_UNRESOLVED, Slot},
};

use crate::maps::{GUARD_COUNTERS, HITS, LEASES, NODE, SCOPES, SETTINGS, SHAPES};

/// A remote end, as leases are matched against it.
pub struct Peer {
    /// Address, its bytes in network order, IPv4 mapped.
    pub address: [u64; 2],
    /// Port in host order; 0 where there is none.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// 1 when headers hide the port: any lease of the scope then hits.
    pub opaque: u8,
    /// Boot time of the question, ns.
    pub now: u64,
}

/// The bytes that a mapped IPv4 address has in the first half of its second word, and which those are.
const MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
const MAPPED_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

impl Peer {
    /// An IPv4 address, as it lies in memory, in its mapped form.
    #[inline(always)]
    pub fn mapped(address: u32) -> [u64; 2] {
        Self::joined([0, 0, 0xffff_u32.to_be(), address])
    }

    /// An address given word by word, as it lies in memory.
    #[inline(always)]
    pub fn joined(words: [u32; 4]) -> [u64; 2] {
        // The word that lies first in memory is the lower half on a little-endian machine, the upper one on another.
        let join = |first: u32, second: u32| {
            if cfg!(target_endian = "little") {
                (second as u64) << 32 | first as u64
            } else {
                (first as u64) << 32 | second as u64
            }
        };
        [join(words[0], words[1]), join(words[2], words[3])]
    }

    /// Port, protocol, scope and list in one number, for [`guard_probe`].
    #[inline(always)]
    fn question(&self, scope: u8, list: u8) -> u64 {
        (scope as u64) << 40 | (list as u64) << 32 | (self.protocol as u64) << 16 | self.port as u64
    }
}

/// Who asks.
pub struct Asker {
    /// Container scope.
    pub container: u64,
    /// Workload id.
    pub workload: u64,
    /// Nobody has named the container yet, and its time is not up: 1.
    pub held: u64,
}

impl Asker {
    /// The container of that slot, now.
    #[inline(always)]
    pub fn of(slot: &Slot, now: u64) -> Self {
        let held = slot.flags & FLAG_UNRESOLVED != 0 && slot.unresolved_until_ns > now;
        Self { container: slot.container, workload: slot.workload, held: held as u64 }
    }
}

/// What was decided, when it was not to let pass.
pub struct Refusal {
    /// The measure behind it.
    pub measure: u64,
    /// `step::*`.
    pub step: u32,
    /// 1 when the container was only held back for want of a name.
    pub held: u32,
}

/// Whether anything is in force on the node.
#[inline(always)]
pub fn armed() -> bool {
    SETTINGS.get(0).is_some_and(|s| s.armed != 0)
}

/// Boot time, ns.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Looks for a lease in force: the measure behind it, or 0.
///
/// A function of its own in the kernel's eyes (global, numbers in and out, 5.6), which the verifier walks once and not at
/// each of its calls. `question` is [`Peer::question`]; `upper` and `lower` are the address.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn guard_probe(id: u64, question: u64, shapes: u64, upper: u64, lower: u64) -> u64 {
    let v4 = upper == 0 && lower & MAPPED_MASK == MAPPED;
    let now = now();
    let mut index = 0;
    while index < SHAPES_MAX {
        let left = shapes >> index;
        if left == 0 {
            break;
        }
        let here = index;
        index += 1;
        if left & 1 == 0 {
            continue;
        }
        let Some(shape) = SHAPES.get(here) else { continue };
        // A prefix of IPv6 that is wider than the mapped range does not hold IPv4.
        if v4 && shape.prefix < 96 {
            continue;
        }
        let key = LeaseKey {
            id,
            address: [upper & shape.mask[0], lower & shape.mask[1]],
            port: question as u16 & shape.port_mask,
            protocol: (question >> 16) as u8 & shape.protocol_mask,
            prefix: shape.prefix,
            scope: (question >> 40) as u8,
            list: (question >> 32) as u8,
            wild: shape.wild,
            pad: 0,
        };
        // SAFETY: not preallocated: elements are replaced whole, and freed after a grace period.
        if let Some(lease) = unsafe { LEASES.get(&key) }
            && lease.expires_ns > now
        {
            return lease.measure;
        }
    }
    0
}

/// Asks for one list of one scope.
#[inline(always)]
fn probe(id: u64, scope: u8, list: u8, shapes: u64, peer: &Peer) -> u64 {
    guard_probe(id, peer.question(scope, list), shapes, peer.address[0], peer.address[1])
}

/// What is in force for a container or workload.
#[inline(always)]
fn scope_of(kind: u8, id: u64) -> Option<&'static Scope> {
    // SAFETY: as in `guard_probe`.
    unsafe { SCOPES.get(ScopeKey { id, kind: kind as u32, pad: 0 }) }
}

/// The shapes of one list of a scope that may be absent.
#[inline(always)]
fn shapes(scope: Option<&Scope>, list: u8) -> u64 {
    match scope {
        Some(scope) => scope.shapes[list as usize],
        None => 0,
    }
}

/// The measure that quarantines a scope now, or 0.
#[inline(always)]
fn quarantine(scope: Option<&Scope>, now: u64) -> u64 {
    match scope {
        Some(scope) if scope.quarantine_until_ns > now => scope.quarantine_measure,
        _ => 0,
    }
}

/// Whether to refuse: 1, and `refusal` says why; else 0.
#[inline(never)]
pub fn refuse(asker: &Asker, peer: &Peer, refusal: &mut Refusal) -> u64 {
    let node = NODE.get(NODE_ALL);
    let container = scope_of(scope::CONTAINER, asker.container);
    let workload = scope_of(scope::WORKLOAD, asker.workload);
    let unresolved = if asker.held != 0 { NODE.get(NODE_UNRESOLVED) } else { None };

    let mut cut = quarantine(container, peer.now);
    if cut == 0 {
        cut = quarantine(workload, peer.now);
    }
    if cut == 0 {
        cut = quarantine(node, peer.now);
    }
    if cut == 0 {
        cut = quarantine(unresolved, peer.now);
        if cut != 0 {
            refusal.held = 1;
        }
    }
    let manual = shapes(container, list::MANUAL)
        | shapes(workload, list::MANUAL)
        | shapes(node, list::MANUAL)
        | shapes(unresolved, list::MANUAL);
    let automatic = shapes(container, list::AUTOMATIC)
        | shapes(workload, list::AUTOMATIC)
        | shapes(node, list::AUTOMATIC)
        | shapes(unresolved, list::AUTOMATIC);
    if cut == 0 && manual | automatic == 0 {
        return 0;
    }

    if on_list(list::CRITICAL, shapes(node, list::CRITICAL), peer) {
        return 0;
    }
    if cut != 0 {
        if on_list(list::QUARANTINE_ALLOW, shapes(node, list::QUARANTINE_ALLOW), peer) {
            return 0;
        }
        refusal.measure = cut;
        refusal.step = step::QUARANTINE;
        return 1;
    }
    if peer.opaque != 0 {
        if let Some(counters) = GUARD_COUNTERS.get_ptr_mut(0) {
            // SAFETY: a live element of an array map, added to atomically.
            unsafe { add(core::ptr::addr_of_mut!((*counters).opaque), 1) };
        }
        refusal.step = step::AUTOMATIC;
        return 1;
    }
    if manual != 0
        && leased(asker, list::MANUAL, container, workload, node, unresolved, peer, refusal)
    {
        refusal.step = step::MANUAL;
        return 1;
    }
    if automatic == 0 || on_list(list::PROTECTED, shapes(node, list::PROTECTED), peer) {
        return 0;
    }
    if leased(asker, list::AUTOMATIC, container, workload, node, unresolved, peer, refusal) {
        refusal.step = step::AUTOMATIC;
        return 1;
    }
    0
}

/// Whether a peer is on one of the node's own lists.
#[inline(always)]
fn on_list(list: u8, shapes: u64, peer: &Peer) -> bool {
    shapes != 0 && probe(0, scope::NODE, list, shapes, peer) != 0
}

/// Whether any scope of the asker has a lease on the peer.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "inlined; a struct of map pointers would not survive the verifier"
)]
fn leased(
    asker: &Asker,
    list: u8,
    container: Option<&Scope>,
    workload: Option<&Scope>,
    node: Option<&Scope>,
    unresolved: Option<&Scope>,
    peer: &Peer,
    refusal: &mut Refusal,
) -> bool {
    let mut measure = 0;
    let wanted = shapes(container, list);
    if wanted != 0 {
        measure = probe(asker.container, scope::CONTAINER, list, wanted, peer);
    }
    let wanted = shapes(workload, list);
    if measure == 0 && wanted != 0 {
        measure = probe(asker.workload, scope::WORKLOAD, list, wanted, peer);
    }
    let wanted = shapes(node, list);
    if measure == 0 && wanted != 0 {
        measure = probe(0, scope::NODE, list, wanted, peer);
    }
    let wanted = shapes(unresolved, list);
    if measure == 0 && wanted != 0 {
        measure = probe(0, scope::UNRESOLVED, list, wanted, peer);
        if measure != 0 {
            refusal.held = 1;
        }
    }
    refusal.measure = measure;
    measure != 0
}

/// Adds atomically: these programs disable migration, not preemption.
///
/// # Safety
///
/// `counter` points into a live map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, by: u64) {
    // SAFETY: aligned and live, by the caller's word. Assembly, because the target declares no compare-and-swap and with
    // it `core` leaves out every atomic operation, though the machine has had this one from the start.
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) by, options(nostack));
    }
}

/// Counts a refusal: for its measure, or for the node when the container was only held back.
#[inline(always)]
pub fn count(refusal: &Refusal, packets: u64, bytes: u64, calls: u64) {
    if refusal.held != 0 {
        if let Some(counters) = GUARD_COUNTERS.get_ptr_mut(0) {
            // SAFETY: a live element of an array map.
            unsafe { add(core::ptr::addr_of_mut!((*counters).held), packets + calls) };
        }
        return;
    }
    let hits: Option<*mut Hits> = HITS.get_ptr_mut(refusal.measure);
    if let Some(hits) = hits {
        // SAFETY: a live element, freed only after a grace period.
        unsafe {
            add(core::ptr::addr_of_mut!((*hits).packets), packets);
            add(core::ptr::addr_of_mut!((*hits).bytes), bytes);
            add(core::ptr::addr_of_mut!((*hits).calls), calls);
        }
    }
}

/// A refusal to be filled in.
#[inline(always)]
pub fn blank() -> Refusal {
    Refusal { measure: 0, step: step::DEFAULT, held: 0 }
}
