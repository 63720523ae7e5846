//! The verdict for sockets: `cgroup_skb` ingress and egress (4.10), attached at the cgroup root. No fallback.
//!
//! Packets from a denied peer are dropped too, so that established flows stop. A refused send returns EPERM to its
//! caller. A socket keeps the cgroup that made it; where another task sends on it, datagrams are refused if either is
//! denied. Streams leave in whatever context acknowledgements arrive in, so there `current` says nothing: a stream that
//! was connected before it was handed over is judged by its maker and, at connect, by its user.

use aya_ebpf::{
    bindings::__sk_buff, helpers::generated::bpf_sk_fullsock, macros::cgroup_skb,
    programs::SkBuffContext,
};
use bulkhead_abi::slot::Slot;

use crate::{
    header, slots,
    verdict::{self, Asker, Peer},
};

/// `SOCK_STREAM`.
const TYPE_STREAM: u32 = 1;

/// Packets to containers' sockets.
#[cgroup_skb(ingress)]
pub fn guard_ingress(ctx: SkBuffContext) -> i32 {
    judge(ctx.skb.skb, false)
}

/// Packets from containers' sockets.
#[cgroup_skb(egress)]
pub fn guard_egress(ctx: SkBuffContext) -> i32 {
    judge(ctx.skb.skb, true)
}

/// 1 to pass, 0 to drop.
#[inline(always)]
fn judge(skb: *mut __sk_buff, sent: bool) -> i32 {
    if !verdict::armed() {
        return 1;
    }
    let maker = slots::of_packet(skb);
    // The kernel's own sockets (its ICMP answers, its resets) are the root's, and send on top of whatever task runs: a
    // container that spins must not be charged with them, or it would silence the host.
    let user = if sent && !slots::is_roots(skb) { slots::of_current() } else { None };
    if maker.is_none() && user.is_none() {
        return 1;
    }
    let Some(peer) = header::peer(skb, 0, sent, verdict::now()) else { return 1 };
    if let Some(maker) = maker
        && drops(skb, maker, &peer)
    {
        return 0;
    }
    if let Some(user) = user
        && !is_stream(skb)
        && !maker.is_some_and(|maker| core::ptr::eq(maker, user))
        && drops(skb, user, &peer)
    {
        return 0;
    }
    1
}

/// Whether a stream's socket sent it; a raw socket may write the same packet.
#[inline(always)]
fn is_stream(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context of the program; null is checked before each use.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return false;
        }
        let sk = bpf_sk_fullsock(sk);
        // A socket that is not whole is a stream that begins or ends.
        sk.is_null() || (*sk).type_ == TYPE_STREAM
    }
}

#[inline(always)]
fn drops(skb: *mut __sk_buff, slot: &Slot, peer: &Peer) -> bool {
    let asker = Asker::of(slot, peer.now);
    let mut refusal = verdict::blank();
    if verdict::refuse(&asker, peer, &mut refusal) == 0 {
        return false;
    }
    // SAFETY: the context of the program.
    let (length, segments) = unsafe { ((*skb).len, (*skb).gso_segs) };
    verdict::count(&refusal, u64::from(segments.max(1)), u64::from(length), 0);
    true
}
