//! The ring and its quota per container: a flood of one costs another none of its events.

use aya_ebpf::{
    btf_maps::{Array, RingBuf},
    macros::btf_map,
};
pub(crate) use bulkhead_abi::ring::{
    KIND_ATTACH, KIND_CALL, KIND_CGROUP_GONE, KIND_CGROUP_MADE, KIND_EXEC,
};
use bulkhead_abi::{
    ring::{EPOCH_NS, Quota, RECORDS_PER_EPOCH_MAX, RING_BYTES},
    slot::SLOTS_MAX,
};

use crate::atomic;

/// Discrete acts on their way to user space.
#[btf_map]
pub(crate) static RING: RingBuf<u64, RING_BYTES> = RingBuf::new();

/// What each container used of the ring in this epoch; element 0 is shared by those that have no name yet.
#[btf_map]
static QUOTAS: Array<Quota, { SLOTS_MAX as usize }> = Array::new();

/// The epoch of an instant of boot time; never 0.
#[inline(always)]
pub(crate) fn epoch(now: u64) -> u64 {
    now / EPOCH_NS + 1
}

/// Takes one record from the container's quota; `false` when it is used up.
#[inline(always)]
pub(crate) fn take(slot: u32, now: u64) -> bool {
    let Some(quota) = QUOTAS.get_ptr_mut(slot) else { return false };
    let epoch = epoch(now);
    // SAFETY: `quota` points into a live, 8-aligned array element.
    unsafe {
        let current = core::ptr::addr_of_mut!((*quota).epoch);
        let used = core::ptr::addr_of_mut!((*quota).used);
        let seen = current.read_volatile();
        // Whoever begins the epoch clears it; what others took in between is a few records more, and none is miscounted.
        if seen != epoch && atomic::replace(current, seen, epoch) {
            atomic::take(used);
        }
        atomic::add_and_fetch(used, 1) < u64::from(RECORDS_PER_EPOCH_MAX)
    }
}
