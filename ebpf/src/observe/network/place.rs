//! Which container a call or packet belongs to.

use aya_ebpf::bindings::__sk_buff;

use super::socket::Socket;
use crate::slots;

/// A container, as the kernel side names it.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The cgroup that `SLOTS` has: the leaf or an ancestor.
    pub(crate) cgroup: u64,
    /// Index of its counters; 0 while no engine has named it.
    pub(crate) slot: u32,
}

/// The container of the running task; `None` on the host.
#[inline(always)]
pub(crate) fn of_current() -> Option<Place> {
    slots::of_current().map(|(cgroup, slot)| Place { cgroup, slot: slot.index })
}

/// The container of that cgroup, which must be the one that `SLOTS` has.
#[inline(always)]
pub(crate) fn of_cgroup(cgroup: u64) -> Option<Place> {
    slots::of_cgroup(cgroup).map(|slot| Place { cgroup, slot: slot.index })
}

/// The container of a packet: that of the process that used its socket, else of the one that made it.
///
/// Never the running task's: packets arrive in whatever context the interrupt found.
#[inline(always)]
pub(crate) fn of_packet(skb: *mut __sk_buff, socket: Option<*mut Socket>) -> Option<Place> {
    if let Some(socket) = socket {
        // SAFETY: points into a live socket storage.
        let owner = unsafe { (*socket).owner };
        if owner != 0
            && let Some(place) = of_cgroup(owner)
        {
            return Some(place);
        }
    }
    slots::of_packet(skb).map(|(cgroup, slot)| Place { cgroup, slot: slot.index })
}
