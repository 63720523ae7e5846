//! Making and binding sockets: who is behind a socket that the packets later belong to, and which ports are open.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use bulkhead_abi::network::{NETWORK_EPHEMERAL, act};

use super::{
    counters::{self, count},
    flow::{self, Peer, count_flow},
    place,
    report::{Act, report},
    socket::{self, SOCKET_BOUND, SOCKET_EPHEMERAL, SOCKET_USED},
};

/// `SOCK_STREAM` and `SOCK_DGRAM`: the types that have ports.
const STREAM_OR_DATAGRAM: core::ops::RangeInclusive<u32> = 1..=2;

/// A process makes a socket of an internet family.
#[cgroup_sock(sock_create)]
pub fn observe_create(ctx: SockContext) -> i32 {
    let _ = create(ctx.sock);
    1
}

/// Bind over IPv4, before it happens: which port was asked for.
#[cgroup_sock_addr(bind4)]
pub fn observe_bind4(ctx: SockAddrContext) -> i32 {
    let _ = bind(ctx.sock_addr);
    1
}

/// Bind over IPv6, before it happens.
#[cgroup_sock_addr(bind6)]
pub fn observe_bind6(ctx: SockAddrContext) -> i32 {
    let _ = bind(ctx.sock_addr);
    1
}

/// Bind over IPv4, once it has succeeded: which port it became.
#[cgroup_sock(post_bind4)]
pub fn observe_post_bind4(ctx: SockContext) -> i32 {
    let _ = bound(ctx.sock);
    1
}

/// Bind over IPv6, once it has succeeded.
#[cgroup_sock(post_bind6)]
pub fn observe_post_bind6(ctx: SockContext) -> i32 {
    let _ = bound(ctx.sock);
    1
}

#[inline(always)]
fn create(sk: *mut bpf_sock) -> Option<()> {
    let place = place::of_current()?;
    let socket = socket::find_or_make(sk)?;
    // SAFETY: points into a live socket storage.
    unsafe {
        (*socket).owner = place.cgroup;
        (*socket).creator = place.slot;
        socket::write_current(core::ptr::addr_of_mut!((*socket).actor));
    }
    Some(())
}

#[inline(always)]
fn bind(ctx: *mut bpf_sock_addr) -> Option<()> {
    let place = place::of_current()?;
    // SAFETY: the context of the program.
    let (sk, port) = unsafe { ((*ctx).__bindgen_anon_1.sk, (*ctx).user_port) };
    let socket = socket::find_or_make(sk)?;
    // SAFETY: points into a live socket storage.
    unsafe {
        (*socket).owner = place.cgroup;
        (*socket).flags |= SOCKET_USED | if port == 0 { SOCKET_EPHEMERAL } else { SOCKET_BOUND };
        socket::write_current(core::ptr::addr_of_mut!((*socket).actor));
    }
    Some(())
}

#[inline(always)]
fn bound(sk: *mut bpf_sock) -> Option<()> {
    let place = place::of_current()?;
    // SAFETY: the context of the program.
    let (kind, protocol, port) =
        unsafe { ((*sk).type_, (*sk).protocol as u8, (*sk).src_port as u16) };
    if !STREAM_OR_DATAGRAM.contains(&kind) {
        return None;
    }
    let counters = counters::of(place.slot)?;
    let socket = socket::find_or_make(sk)?;
    // SAFETY: points into a live socket storage.
    let ephemeral = unsafe { (*socket).flags & SOCKET_EPHEMERAL != 0 };
    count!(counters, binds, 1);
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // The flow with nobody stands for the port itself; ports that the kernel chose share one.
    let key = flow::inbound(place.slot, protocol, &Peer::NONE, if ephemeral { 0 } else { port });
    let flow = flow::find_or_make(&key, counters).map(|(flow, _)| flow);
    if let Some(flow) = flow {
        count_flow!(flow, attempts, 1);
        flow::touch(flow);
    }
    let act = Act {
        kind: act::BIND,
        protocol,
        flags: if ephemeral { NETWORK_EPHEMERAL } else { 0 },
        local_port: port,
        peer: Peer::NONE,
    };
    report(place, counters, flow, Some(socket), &act, now);
    Some(())
}
