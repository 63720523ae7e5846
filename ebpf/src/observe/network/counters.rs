//! Counters per container, all by atomic adds: cgroup programs disable only migration, so a softirq may run in between.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use bulkhead_abi::{network::NetworkCounters, slot::SLOTS_MAX};

/// Network counters by slot index; user space reads them and never writes.
#[btf_map]
static NETWORK: Array<NetworkCounters, { SLOTS_MAX as usize }> = Array::new();

/// The counters of a slot; `None` for an index beyond the table's size, which user space may have made smaller.
#[inline(always)]
pub(crate) fn of(slot: u32) -> Option<*mut NetworkCounters> {
    NETWORK.get_ptr_mut(slot)
}

/// Adds to one field of a container's counters.
macro_rules! count {
    ($counters:expr, $field:ident, $amount:expr) => {
        // SAFETY: `of` gave the pointer, so it points into a live array element.
        unsafe { $crate::atomic::add(::core::ptr::addr_of_mut!((*$counters).$field), $amount) }
    };
}
pub(crate) use count;
