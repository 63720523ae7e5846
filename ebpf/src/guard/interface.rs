//! The wall at a container's interface: what never reaches a socket hook (`AF_PACKET` frames, tunnels' outer packets, the
//! kernel's own replies). tcx (6.6) on the host's end of the container's link.
//!
//! On the host's end, because the container can neither move it nor send past it: `PACKET_QDISC_BYPASS` skips the hooks of
//! the sender's own end. What the container sends arrives there, so directions are swapped. Without a host's end
//! (`macvlan`, host network) there is no wall, and the enforcer says so.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};

use crate::{
    header,
    maps::{INTERFACES, SETTINGS},
    verdict::{self, Asker, Peer},
};

/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;
/// Bytes that a VLAN tag adds.
const TAG: u32 = 4;

/// Tags that are read through: one for the network and one for the customer (802.1ad).
const TAGS_MAX: u32 = 2;

/// From the container: what arrives at the host's end.
#[classifier]
pub fn guard_interface_sent(ctx: TcContext) -> i32 {
    judge(ctx.skb.skb, true)
}

/// To the container: what leaves the host's end.
#[classifier]
pub fn guard_interface_received(ctx: TcContext) -> i32 {
    judge(ctx.skb.skb, false)
}

#[inline(always)]
fn judge(skb: *mut __sk_buff, sent: bool) -> i32 {
    if verdict::armed() && drops(skb, sent) { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

#[inline(always)]
fn drops(skb: *mut __sk_buff, sent: bool) -> bool {
    // SAFETY: the context of the program.
    let (index, length, segments) = unsafe { ((*skb).ifindex, (*skb).len, (*skb).gso_segs) };
    // SAFETY: not preallocated: elements are replaced whole.
    let Some(owner) = (unsafe { INTERFACES.get(index) }) else { return false };
    let asker = Asker { container: owner.container, workload: owner.workload, held: 0 };
    let now = verdict::now();
    let mut peer = Peer { address: [0; 2], port: 0, protocol: 0, opaque: 0, now };
    let mut kind = header::load::<u16>(skb, 12).map_or(0, u16::from_be);
    let mut base = ETHERNET;
    let mut tags = 0;
    while tags < TAGS_MAX && is_tag(kind) {
        kind = header::load::<u16>(skb, base + 2).map_or(0, u16::from_be);
        base += TAG;
        tags += 1;
    }
    if is_tag(kind) {
        // A kernel strips any number of priority tags and routes what is behind them, so what cannot be read is refused.
        return true;
    }
    match kind {
        0x0800 | 0x86dd => {
            if kind == 0x86dd && neighbours() && header::is_neighbour_discovery(skb, base) {
                return false;
            }
            match header::peer(skb, base, sent, now) {
                Some(found) => peer = found,
                // It says IP and is none: nobody's peer, so only a quarantine stops it.
                None => {}
            }
        }
        0x0806 if neighbours() => return false,
        // No peer that a lease could name: only a quarantine stops it.
        _ => {}
    }
    let mut refusal = verdict::blank();
    if verdict::refuse(&asker, &peer, &mut refusal) == 0 {
        return false;
    }
    verdict::count(&refusal, u64::from(segments.max(1)), u64::from(length), 0);
    true
}

/// Whether a type of frame is a VLAN tag: 802.1Q, 802.1ad, or what came before the latter.
#[inline(always)]
fn is_tag(kind: u16) -> bool {
    matches!(kind, 0x8100 | 0x88a8 | 0x9100)
}

/// Whether neighbours may be resolved: a quarantined container with an allowed peer needs it, and one that is merely
/// denied a peer would lose all others without.
#[inline(always)]
fn neighbours() -> bool {
    SETTINGS.get(0).is_some_and(|s| s.neighbours != 0)
}
