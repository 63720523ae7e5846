//! Which container: the leaf cgroup, else the nearest ancestor that `SLOTS` has.

use aya_ebpf::{
    bindings::__sk_buff,
    btf_maps::HashMap,
    helpers::generated::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_skb_ancestor_cgroup_id,
        bpf_skb_cgroup_id,
    },
    macros::btf_map,
};
use bulkhead_abi::slot::{ANCESTOR_LEVELS_MAX, SLOTS_MAX, Slot};

/// Shared with the guard's object by its pin; see `bulkhead_abi::slot`.
#[btf_map]
static SLOTS: HashMap<u64, Slot, { 2 * SLOTS_MAX as usize }> = HashMap::new();

/// The slot of exactly that cgroup.
#[inline(always)]
pub(crate) fn of_cgroup(id: u64) -> Option<Slot> {
    // SAFETY: the value is copied out at once; user space replaces whole values.
    unsafe { SLOTS.get(id) }.copied()
}

/// The container of the running task: the cgroup that `SLOTS` has, and its slot; `None` on the host.
#[inline(always)]
pub(crate) fn of_current() -> Option<(u64, Slot)> {
    // SAFETY: no arguments.
    let leaf = unsafe { bpf_get_current_cgroup_id() };
    // SAFETY: any level is allowed; one deeper than the task's gives 0.
    nearest(leaf, |level| unsafe { bpf_get_current_ancestor_cgroup_id(level) })
}

/// The container of a packet's socket.
#[inline(always)]
pub(crate) fn of_packet(skb: *mut __sk_buff) -> Option<(u64, Slot)> {
    // SAFETY: `skb` is the program's context.
    let leaf = unsafe { bpf_skb_cgroup_id(skb) };
    // SAFETY: the same; one deeper than the socket's gives 0.
    nearest(leaf, |level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) })
}

/// The deepest of the leaf and its ancestors that has a slot.
#[inline(always)]
fn nearest(leaf: u64, ancestor: impl Fn(i32) -> u64) -> Option<(u64, Slot)> {
    if let Some(slot) = of_cgroup(leaf) {
        return Some((leaf, slot));
    }
    let mut level = ANCESTOR_LEVELS_MAX as i32;
    while level > 0 {
        let id = ancestor(level);
        if id != 0
            && id != leaf
            && let Some(slot) = of_cgroup(id)
        {
            return Some((id, slot));
        }
        level -= 1;
    }
    None
}
