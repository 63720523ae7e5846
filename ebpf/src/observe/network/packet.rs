//! Packets of containers in both directions: what flows carry, who is reached from outside, sends without a call.
//!
//! Not seen here, because they never reach `cgroup_skb`: `AF_PACKET` frames, tunnels' outer packets, and what the kernel
//! answers by itself (echo replies, resets of closed ports, TIME_WAIT acknowledgements).

use core::ptr::NonNull;

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_sk_fullsock},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use bulkhead_abi::network::{DIRECTION_OUTBOUND, Flow, FlowKey, NetworkCounters, act};

use super::{
    counters::{self, count},
    flow::{self, Peer, count_flow},
    header::{self, ACK, Header, RST, SYN, TCP, UDP},
    place::{self, Place},
    report::{Act, report},
    socket::{
        self, ROLE_ACCEPTED, ROLE_CLIENT, ROLE_LISTENER, ROLE_NEW, ROLE_SERVER, SOCKET_BOUND,
        SOCKET_REQUESTED, Socket,
    },
};
use crate::dns;

/// `BPF_TCP_SYN_SENT`: asked, not answered yet.
const STATE_SYN_SENT: u32 = 2;
/// `BPF_TCP_LISTEN`.
const STATE_LISTEN: u32 = 10;
/// `SOCK_RAW`.
const TYPE_RAW: u32 = 3;
/// First port of the usual ephemeral range (`net.ipv4.ip_local_port_range`).
const EPHEMERAL_MIN: u16 = 32_768;

/// Packets to containers' sockets.
#[cgroup_skb(ingress)]
pub fn observe_ingress(ctx: SkBuffContext) -> i32 {
    let _ = observe(&ctx, false);
    1
}

/// Packets from containers' sockets.
#[cgroup_skb(egress)]
pub fn observe_egress(ctx: SkBuffContext) -> i32 {
    let _ = observe(&ctx, true);
    1
}

/// Which flow a packet belongs to, and whether it is itself an act.
struct Belongs {
    /// The flow.
    key: FlowKey,
    /// Peer as asked.
    peer: Peer,
    /// `act::*`, or 0 when calls report this flow's acts.
    act: u8,
    /// `act` holds only if this packet makes the flow.
    if_new: bool,
}

#[inline(always)]
fn observe(ctx: &SkBuffContext, sent: bool) -> Option<()> {
    let skb = ctx.skb.skb;
    // SAFETY: the context of the program; the kernel checks the pointer's use.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    // SAFETY: not null.
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return None;
    }
    let known = socket::find(sk);
    let place = place::of_packet(skb, known)?;
    let counters = counters::of(place.slot)?;
    let header = header::read(skb, sent)?;
    if sent {
        count!(counters, packets_out, header.segments);
        count!(counters, bytes_out, header.bytes);
        if header.protocol == UDP {
            count!(counters, udp_sends, header.segments);
        }
    } else {
        count!(counters, packets_in, header.segments);
        count!(counters, bytes_in, header.bytes);
    }
    let socket = match known {
        Some(socket) => socket,
        None => adopt(sk, place)?,
    };
    // SAFETY: checked not null above.
    let kind = unsafe { (*sk).type_ };
    let belongs = if header.protocol == TCP && kind != TYPE_RAW {
        of_stream(sk, socket, place, &header, sent)
    } else {
        of_datagram(socket, place, &header, sent)
    };
    let found = flow::find_or_make(&belongs.key, counters);
    if belongs.key.direction == DIRECTION_OUTBOUND && sent {
        count!(counters, bytes_out_initiated, header.bytes);
    }
    let made = match found {
        Some((flow, made)) => {
            if sent {
                count_flow!(flow, packets_out, header.segments);
                count_flow!(flow, bytes_out, header.bytes);
                if !header.remote.is(&belongs.peer) && belongs.key.direction == DIRECTION_OUTBOUND {
                    flow::route(flow, &header.remote);
                }
            } else {
                count_flow!(flow, packets_in, header.segments);
                count_flow!(flow, bytes_in, header.bytes);
            }
            flow::touch(flow);
            made
        }
        None => {
            count!(counters, unnamed_packets, header.segments);
            count!(counters, unnamed_bytes, header.bytes);
            true
        }
    };
    let flow = found.map(|(flow, _)| flow);
    if header.protocol == TCP && kind != TYPE_RAW {
        outcome(sk, socket, counters, flow, &header, sent);
    }
    if belongs.act != 0 && (made || !belongs.if_new) {
        if header.protocol == TCP && belongs.act == act::INBOUND {
            count!(counters, accepted, 1);
            if let Some(flow) = flow {
                count_flow!(flow, established, 1);
            }
        } else if let Some(flow) = flow {
            count_flow!(flow, attempts, 1);
        }
        let act = Act {
            kind: belongs.act,
            protocol: header.protocol,
            flags: 0,
            local_port: header.local_port,
            peer: belongs.peer,
        };
        // SAFETY: no preconditions.
        let now = unsafe { bpf_ktime_get_boot_ns() };
        report(place, counters, flow, Some(socket), &act, now);
    }
    if belongs.key.direction == DIRECTION_OUTBOUND && belongs.peer.is_resolver() {
        // A program of its own: one of both sizes is beyond what older kernels verify.
        dns::go_on(ctx, sent);
    }
    Some(())
}

/// Begins to remember a socket whose making was not seen: the kernel's own (subflows), or older than the observer.
#[inline(always)]
fn adopt(sk: *mut bpf_sock, place: Place) -> Option<*mut Socket> {
    let socket = socket::find_or_make(sk)?;
    // SAFETY: points into a live socket storage.
    unsafe {
        (*socket).owner = place.cgroup;
        (*socket).creator = place.slot;
    }
    Some(socket)
}

/// The flow of a TCP packet: the socket knows who opened it.
#[inline(always)]
fn of_stream(
    sk: *mut bpf_sock,
    socket: *mut Socket,
    place: Place,
    header: &Header,
    sent: bool,
) -> Belongs {
    let mut act = 0;
    // SAFETY: `sk` is not null, `socket` points into its live storage. Two packets of one socket may race here: both
    // then write the same.
    unsafe {
        let state = (*sk).state;
        if state == STATE_LISTEN {
            (*socket).role = ROLE_LISTENER;
        } else if (*socket).role == ROLE_LISTENER {
            (*socket).role = ROLE_ACCEPTED;
            act = act::INBOUND;
        } else if (*socket).role == ROLE_NEW {
            if sent && header.tcp & (SYN | ACK) == SYN {
                (*socket).role = ROLE_CLIENT;
                act = act::PACKET;
            } else if header.local_port < EPHEMERAL_MIN && header.remote.port > header.local_port {
                // Older than the observer: the service is the end with the well-known port.
                (*socket).role = ROLE_ACCEPTED;
            } else {
                (*socket).role = ROLE_CLIENT;
            }
            (*socket).peer = header.remote;
        }
        if (*socket).role == ROLE_CLIENT {
            let peer = (*socket).peer;
            let key = flow::outbound(place.slot, TCP, &peer);
            return Belongs { key, peer, act, if_new: false };
        }
    }
    let key = flow::inbound(place.slot, TCP, &header.remote, header.local_port);
    Belongs { key, peer: header.remote, act, if_new: false }
}

/// What became of a TCP attempt.
#[inline(always)]
fn outcome(
    sk: *mut bpf_sock,
    socket: *mut Socket,
    counters: *mut NetworkCounters,
    flow: Option<NonNull<Flow>>,
    header: &Header,
    sent: bool,
) {
    // SAFETY: as in `of_stream`.
    let (state, role) = unsafe { ((*sk).state, (*socket).role) };
    let request = header.tcp & (SYN | ACK) == SYN;
    match role {
        ROLE_CLIENT if sent && request => {
            // SAFETY: as above.
            let again = unsafe { (*socket).flags & SOCKET_REQUESTED != 0 };
            if again {
                count!(counters, retries, 1);
                if let Some(flow) = flow {
                    count_flow!(flow, retries, 1);
                }
            } else {
                // SAFETY: as above.
                unsafe { (*socket).flags |= SOCKET_REQUESTED };
            }
        }
        ROLE_CLIENT if !sent && state == STATE_SYN_SENT => {
            if header.tcp & RST != 0 {
                count!(counters, reset, 1);
                if let Some(flow) = flow {
                    count_flow!(flow, reset, 1);
                }
            } else if header.tcp & (SYN | ACK) == SYN | ACK {
                count!(counters, established, 1);
                if let Some(flow) = flow {
                    count_flow!(flow, established, 1);
                }
            }
        }
        ROLE_LISTENER if !sent && request => {
            if let Some(flow) = flow {
                count_flow!(flow, attempts, 1);
            }
        }
        _ => {}
    }
}

/// The flow of a packet of any other protocol: sockets may have many peers, so the flows themselves tell who came first.
#[inline(always)]
fn of_datagram(socket: *mut Socket, place: Place, header: &Header, sent: bool) -> Belongs {
    let remote = header.remote;
    let protocol = header.protocol;
    // SAFETY: points into a live socket storage.
    let (role, flags, peer, asked) =
        unsafe { ((*socket).role, (*socket).flags, (*socket).peer, (*socket).asked) };
    let to = |peer: Peer, act, if_new| Belongs {
        key: flow::outbound(place.slot, protocol, &peer),
        peer,
        act,
        if_new,
    };
    let from = |act| Belongs {
        key: flow::inbound(place.slot, protocol, &remote, header.local_port),
        peer: remote,
        act,
        if_new: true,
    };
    if remote.is(&peer) || remote.is(&asked) {
        return to(remote, 0, false);
    }
    if role == ROLE_SERVER {
        if !sent
            || flow::find(&flow::inbound(place.slot, protocol, &remote, header.local_port))
                .is_some()
        {
            return from(if sent { 0 } else { act::INBOUND });
        }
    }
    if flow::find(&flow::outbound(place.slot, protocol, &remote)).is_some() {
        return to(remote, 0, false);
    }
    if sent {
        // A call named another peer than the packet goes to: the address was translated on its way.
        if protocol == UDP && !asked.is_none() {
            return to(asked, 0, false);
        }
        if protocol == UDP && !peer.is_none() {
            return to(peer, 0, false);
        }
        if role == ROLE_NEW {
            // SAFETY: as above.
            unsafe { (*socket).role = ROLE_CLIENT };
        }
        return to(remote, act::PACKET, true);
    }
    if role == ROLE_NEW {
        // SAFETY: as above.
        unsafe { (*socket).role = ROLE_SERVER };
    } else if flags & SOCKET_BOUND == 0 && protocol == UDP {
        // A client's own port: a late answer, whose flow has been removed or found no room.
        return to(remote, 0, false);
    }
    from(act::INBOUND)
}
