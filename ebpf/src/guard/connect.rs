//! Early, clear refusals: connect and unconnected UDP send fail at once with EPERM (`cgroup/connect4,6`, 4.17;
//! `cgroup/sendmsg4,6`, 4.18).
//!
//! The packets' verdict (`packet.rs`) stands behind them for raw sockets and whatever else passes no such call. Here the
//! caller counts, not the maker of the socket.

use aya_ebpf::{bindings::bpf_sock_addr, macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{
    slots,
    verdict::{self, Asker, Peer},
};

/// Multipath TCP in `socket(2)`; on the wire it is TCP.
const MPTCP: u32 = 262;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// `SOCK_RAW`: what is given as port means nothing.
const TYPE_RAW: u32 = 3;

/// Connect over IPv4.
#[cgroup_sock_addr(connect4)]
pub fn guard_connect4(ctx: SockAddrContext) -> i32 {
    judge(ctx.sock_addr, false)
}

/// Connect over IPv6, mapped IPv4 addresses included.
#[cgroup_sock_addr(connect6)]
pub fn guard_connect6(ctx: SockAddrContext) -> i32 {
    judge(ctx.sock_addr, true)
}

/// Unconnected UDP send over IPv4.
#[cgroup_sock_addr(sendmsg4)]
pub fn guard_sendmsg4(ctx: SockAddrContext) -> i32 {
    judge(ctx.sock_addr, false)
}

/// Unconnected UDP send over IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn guard_sendmsg6(ctx: SockAddrContext) -> i32 {
    judge(ctx.sock_addr, true)
}

/// 1 to pass, 0 for EPERM.
#[inline(always)]
fn judge(ctx: *mut bpf_sock_addr, v6: bool) -> i32 {
    if !verdict::armed() {
        return 1;
    }
    let Some(slot) = slots::of_current() else { return 1 };
    // SAFETY: the context of the program. One word at a time, as the verifier wants it.
    let peer = unsafe {
        let address = if v6 {
            Peer::joined([
                (*ctx).user_ip6[0],
                (*ctx).user_ip6[1],
                (*ctx).user_ip6[2],
                (*ctx).user_ip6[3],
            ])
        } else {
            Peer::mapped((*ctx).user_ip4)
        };
        let protocol = match (*ctx).protocol {
            MPTCP => TCP,
            other => other as u8,
        };
        let raw = (*ctx).type_ == TYPE_RAW || !matches!(protocol, TCP | UDP | 33 | 132 | 136);
        let port = if raw { 0 } else { u16::from_be((*ctx).user_port as u16) };
        Peer { address, port, protocol, opaque: 0, now: verdict::now() }
    };
    let asker = Asker::of(slot, peer.now);
    let mut refusal = verdict::blank();
    if verdict::refuse(&asker, &peer, &mut refusal) == 0 {
        return 1;
    }
    verdict::count(&refusal, 0, 0, 1);
    0
}
