//! Puts acts into the ring: each once per epoch, within the container's quota, and every other one counted by cause.

use core::ptr::NonNull;

use bulkhead_abi::{
    network::{
        Actor, Flow, NETWORK_CREATOR, NETWORK_NO_PROCESS, NETWORK_PASSED, NetworkCounters,
        NetworkRecord,
    },
    ring::{Header, KIND_NETWORK},
};

use super::{
    counters::count,
    flow::{Peer, count_flow},
    place::Place,
    socket::{SOCKET_USED, Socket},
};
use crate::{atomic, ring};

/// An act to be reported.
pub(crate) struct Act {
    /// `act::*`.
    pub(crate) kind: u8,
    /// IANA protocol number.
    pub(crate) protocol: u8,
    /// `NETWORK_*` that the caller knows.
    pub(crate) flags: u16,
    /// Local port.
    pub(crate) local_port: u16,
    /// Peer as asked.
    pub(crate) peer: Peer,
}

/// Reports an act, unless its flow says that this epoch has it already.
#[inline(always)]
pub(crate) fn report(
    place: Place,
    counters: *mut NetworkCounters,
    flow: Option<NonNull<Flow>>,
    socket: Option<*mut Socket>,
    act: &Act,
    now: u64,
) {
    count!(counters, acts_generated, 1);
    if let Some(flow) = flow {
        count_flow!(flow, unreported, 1);
        if !first_in_epoch(flow, ring::epoch(now)) {
            count!(counters, acts_repeated, 1);
            return;
        }
    }
    if !ring::take(place.slot, now) {
        count!(counters, acts_lost_quota, 1);
        return;
    }
    let Some(mut entry) = ring::RING.reserve_untyped::<NetworkRecord>(0) else {
        count!(counters, acts_lost_ring, 1);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reserved memory is a whole record, and every field is written before it is submitted.
    unsafe {
        (*record).header =
            Header { kind: KIND_NETWORK, slot: place.slot, cgroup: place.cgroup, time_ns: now };
        (*record).count = match flow {
            Some(flow) => atomic::take(&raw mut (*flow.as_ptr()).unreported),
            None => 1,
        };
        (*record).peer = act.peer.bytes();
        (*record).peer_port = act.peer.port;
        (*record).local_port = act.local_port;
        (*record).act = act.kind;
        (*record).protocol = act.protocol;
        (*record).pad = 0;
        let (creator, flags) = describe(place, socket, &raw mut (*record).actor);
        (*record).creator = creator;
        (*record).flags = act.flags | flags;
    }
    entry.submit(0);
    count!(counters, acts_emitted, 1);
}

/// Writes who is behind a socket; returns who made it and the `NETWORK_*` that follow.
#[inline(always)]
pub(crate) fn describe(place: Place, socket: Option<*mut Socket>, actor: *mut Actor) -> (u32, u16) {
    let Some(socket) = socket else {
        // SAFETY: `actor` is the caller's, and alive.
        unsafe { *actor = Actor { tid: 0, pid: 0, uid: 0, pad: 0, comm: [0; 16] } };
        return (place.slot, NETWORK_NO_PROCESS);
    };
    let mut flags = 0;
    // SAFETY: `socket` points into a live socket storage, `actor` is the caller's.
    let creator = unsafe {
        *actor = (*socket).actor;
        if (*socket).actor.pid == 0 {
            flags |= NETWORK_NO_PROCESS;
        } else if (*socket).flags & SOCKET_USED == 0 {
            flags |= NETWORK_CREATOR;
        }
        (*socket).creator
    };
    if creator != place.slot {
        flags |= NETWORK_PASSED;
    }
    (creator, flags)
}

/// Whether nobody reported this flow's act in this epoch yet; the one who is told so reports it.
#[inline(always)]
fn first_in_epoch(flow: NonNull<Flow>, epoch: u64) -> bool {
    // SAFETY: `flow` points into a live map value.
    unsafe {
        let reported = &raw mut (*flow.as_ptr()).epoch;
        let before = reported.read_volatile();
        before != epoch && atomic::replace(reported, before, epoch)
    }
}
