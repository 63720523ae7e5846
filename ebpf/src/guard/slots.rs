//! Which container a task or packet belongs to: the leaf cgroup, else its nearest ancestor that is one.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_skb_ancestor_cgroup_id,
        bpf_skb_cgroup_id,
    },
};
use bulkhead_abi::slot::{ANCESTOR_LEVELS_MAX, Slot};

use crate::maps::SLOTS;

/// The slot of a cgroup.
#[inline(always)]
pub fn of_cgroup(id: u64) -> Option<&'static Slot> {
    // SAFETY: an element that is removed meanwhile may be read as another's: a verdict of that instant, no corruption.
    unsafe { SLOTS.get(id) }
}

/// The slot of the running task; `None` on the host.
#[inline(always)]
pub fn of_current() -> Option<&'static Slot> {
    // SAFETY: no preconditions.
    let leaf = unsafe { bpf_get_current_cgroup_id() };
    if let Some(slot) = of_cgroup(leaf) {
        return Some(slot);
    }
    let mut level = ANCESTOR_LEVELS_MAX as i32;
    while level > 0 {
        // SAFETY: no preconditions; 0 above the leaf's own level.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id != 0 && id != leaf {
            if let Some(slot) = of_cgroup(id) {
                return Some(slot);
            }
        }
        level -= 1;
    }
    None
}

/// Id of the root of the cgroup v2 hierarchy: the first node of its file system.
const ROOT: u64 = 1;

/// Whether the socket behind a packet was made in the root cgroup, where the kernel's own are.
#[inline(always)]
pub fn is_roots(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context of the program.
    unsafe { bpf_skb_cgroup_id(skb) <= ROOT }
}

/// The slot of the socket behind a packet; `None` on the host or without one.
#[inline(always)]
pub fn of_packet(skb: *mut __sk_buff) -> Option<&'static Slot> {
    // SAFETY: the context of the program.
    let leaf = unsafe { bpf_skb_cgroup_id(skb) };
    if leaf == 0 {
        return None;
    }
    if let Some(slot) = of_cgroup(leaf) {
        return Some(slot);
    }
    let mut level = ANCESTOR_LEVELS_MAX as i32;
    while level > 0 {
        // SAFETY: as above; 0 above the leaf's own level.
        let id = unsafe { bpf_skb_ancestor_cgroup_id(skb, level) };
        if id != 0 && id != leaf {
            if let Some(slot) = of_cgroup(id) {
                return Some(slot);
            }
        }
        level -= 1;
    }
    None
}
