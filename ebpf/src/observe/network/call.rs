//! Connect and unconnected send: the calls by which a container names a peer, refused ones included.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_retval, bpf_ktime_get_boot_ns},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use bulkhead_abi::network::{NETWORK_MAPPED, NETWORK_REFUSED, act};

use super::{
    counters::{self, count},
    flow::{self, Peer, count_flow},
    header::{TCP, UDP},
    place::{self, Place},
    report::{Act, report},
    socket::{self, ROLE_CLIENT, ROLE_NEW, ROLE_SERVER, SOCKET_REQUESTED, SOCKET_USED, Socket},
};

/// Multipath TCP in `socket(2)`; on the wire it is TCP.
const MPTCP: u32 = 262;
/// Address family of IPv6.
const AF_INET6: u32 = 10;

/// Connect over IPv4.
#[cgroup_sock_addr(connect4)]
pub fn observe_connect4(ctx: SockAddrContext) -> i32 {
    let _ = connect(ctx.sock_addr, peer_v4(ctx.sock_addr));
    1
}

/// Connect over IPv6, mapped IPv4 addresses included.
#[cgroup_sock_addr(connect6)]
pub fn observe_connect6(ctx: SockAddrContext) -> i32 {
    let _ = connect(ctx.sock_addr, peer_v6(ctx.sock_addr));
    1
}

/// Unconnected UDP send over IPv4.
#[cgroup_sock_addr(sendmsg4)]
pub fn observe_sendmsg4(ctx: SockAddrContext) -> i32 {
    let _ = send(ctx.sock_addr, peer_v4(ctx.sock_addr));
    1
}

/// Unconnected UDP send over IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn observe_sendmsg6(ctx: SockAddrContext) -> i32 {
    let _ = send(ctx.sock_addr, peer_v6(ctx.sock_addr));
    1
}

#[inline(always)]
fn peer_v4(ctx: *mut bpf_sock_addr) -> (Peer, u16) {
    // SAFETY: the context of the program.
    let (family, address, port) = unsafe { ((*ctx).family, (*ctx).user_ip4, (*ctx).user_port) };
    // Sends of an IPv6 socket to a mapped address arrive here, its connects at the IPv6 hook.
    let flags = if family == AF_INET6 { NETWORK_MAPPED } else { 0 };
    (Peer::v4(address, u16::from_be(port as u16)), flags)
}

#[inline(always)]
fn peer_v6(ctx: *mut bpf_sock_addr) -> (Peer, u16) {
    // SAFETY: the context of the program. One word at a time, as the verifier wants it.
    let peer = unsafe {
        Peer {
            address: [
                (*ctx).user_ip6[0],
                (*ctx).user_ip6[1],
                (*ctx).user_ip6[2],
                (*ctx).user_ip6[3],
            ],
            port: u16::from_be((*ctx).user_port as u16),
        }
    };
    let flags = if peer.is_v4() { NETWORK_MAPPED } else { 0 };
    (peer, flags)
}

/// The memory of the call's socket, with the caller written into it, and the container that the call counts for: the
/// caller's, or where the host uses a container's socket, that container's.
#[inline(always)]
fn caller(ctx: *mut bpf_sock_addr) -> Option<(Place, *mut Socket)> {
    // SAFETY: the context of the program.
    let sk = unsafe { (*ctx).__bindgen_anon_1.sk };
    let Some(place) = place::of_current() else {
        let socket = socket::find(sk)?;
        // SAFETY: points into a live socket storage.
        let place = place::of_cgroup(unsafe { (*socket).owner })?;
        return Some((place, socket));
    };
    let socket = socket::find_or_make(sk)?;
    // SAFETY: as above.
    unsafe {
        (*socket).owner = place.cgroup;
        (*socket).flags |= SOCKET_USED;
        socket::write_current(core::ptr::addr_of_mut!((*socket).actor));
    }
    Some((place, socket))
}

/// Whether a program before this one refused the call.
#[inline(always)]
fn refused() -> bool {
    // SAFETY: no preconditions.
    unsafe { bpf_get_retval() != 0 }
}

#[inline(always)]
fn connect(ctx: *mut bpf_sock_addr, (peer, mut flags): (Peer, u16)) -> Option<()> {
    let (place, socket) = caller(ctx)?;
    // SAFETY: the context of the program.
    let protocol = match unsafe { (*ctx).protocol } {
        MPTCP => TCP,
        other => other as u8,
    };
    // SAFETY: points into a live socket storage.
    unsafe {
        (*socket).peer = peer;
        (*socket).role = ROLE_CLIENT;
        (*socket).flags &= !SOCKET_REQUESTED;
    }
    if refused() {
        flags |= NETWORK_REFUSED;
    }
    let counters = counters::of(place.slot)?;
    count!(counters, connects, 1);
    attempt(
        place,
        counters,
        socket,
        &Act { kind: act::CONNECT, protocol, flags, local_port: 0, peer },
    );
    Some(())
}

#[inline(always)]
fn send(ctx: *mut bpf_sock_addr, (peer, mut flags): (Peer, u16)) -> Option<()> {
    let (place, socket) = caller(ctx)?;
    let counters = counters::of(place.slot)?;
    // SAFETY: points into a live socket storage; the context's socket is checked by the kernel.
    let (role, local_port) =
        unsafe { ((*socket).role, (*(*ctx).__bindgen_anon_1.sk).src_port as u16) };
    if role == ROLE_SERVER
        && flow::find(&flow::inbound(place.slot, UDP, &peer, local_port)).is_some()
    {
        // An answer to a peer that came first.
        return Some(());
    }
    if refused() {
        flags |= NETWORK_REFUSED;
    } else {
        // SAFETY: as above.
        unsafe {
            (*socket).asked = peer;
            if role == ROLE_NEW {
                (*socket).role = ROLE_CLIENT;
            }
        }
    }
    attempt(
        place,
        counters,
        socket,
        &Act { kind: act::SEND, protocol: UDP, flags, local_port, peer },
    );
    Some(())
}

/// Counts an attempt in its flow, and reports it.
#[inline(always)]
fn attempt(
    place: Place,
    counters: *mut bulkhead_abi::network::NetworkCounters,
    socket: *mut Socket,
    act: &Act,
) {
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let key = flow::outbound(place.slot, act.protocol, &act.peer);
    let flow = flow::find_or_make(&key, counters).map(|(flow, _)| flow);
    let refused = act.flags & NETWORK_REFUSED != 0;
    if refused {
        count!(counters, refused, 1);
    }
    if let Some(flow) = flow {
        count_flow!(flow, attempts, 1);
        if refused {
            count_flow!(flow, refused, 1);
        }
        flow::touch(flow);
    }
    report(place, counters, flow, Some(socket), act, now);
}
