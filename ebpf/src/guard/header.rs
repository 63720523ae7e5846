//! Reads the remote end of a packet, at a socket (data begins at the IP header) or behind a link header.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};

use crate::verdict::Peer;

const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const ICMPV6: u8 = 58;

/// How many IPv6 extension headers are walked; a packet with more hides its port, and counts as opaque.
const EXTENSIONS_MAX: u32 = 6;

/// Reads `T` at an offset of the packet.
#[inline(always)]
pub fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes exactly the size of `T` or fails; `T` is plain bytes.
    let failed = unsafe {
        bpf_skb_load_bytes(skb.cast(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32)
    };
    // SAFETY: written, as just checked.
    (failed == 0).then(|| unsafe { value.assume_init() })
}

/// Whether the protocol's header begins with two ports.
#[inline(always)]
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | DCCP | SCTP | UDP_LITE)
}

/// The remote end of an IP packet that begins at `base`; `None` when it is no IP packet.
#[inline(always)]
pub fn peer(skb: *mut __sk_buff, base: u32, sent: bool, now: u64) -> Option<Peer> {
    let version = load::<u8>(skb, base)?;
    match version >> 4 {
        4 => v4(skb, base, sent, version, now),
        6 => v6(skb, base, sent, now),
        _ => None,
    }
}

#[inline(always)]
fn v4(skb: *mut __sk_buff, base: u32, sent: bool, version: u8, now: u64) -> Option<Peer> {
    let protocol = load::<u8>(skb, base + 9)?;
    let fragment = u16::from_be(load::<u16>(skb, base + 6)?) & 0x1fff;
    let address = load::<u32>(skb, base + if sent { 16 } else { 12 })?;
    let mut peer = Peer { address: Peer::mapped(address), port: 0, protocol, opaque: 0, now };
    if fragment == 0 && has_ports(protocol) {
        ports(skb, base + u32::from(version & 0x0f) * 4, sent, &mut peer);
    }
    Some(peer)
}

#[inline(always)]
fn v6(skb: *mut __sk_buff, base: u32, sent: bool, now: u64) -> Option<Peer> {
    let mut protocol = load::<u8>(skb, base + 6)?;
    let address = load::<[u64; 2]>(skb, base + if sent { 24 } else { 8 })?;
    let mut peer = Peer { address, port: 0, protocol, opaque: 0, now };
    let mut offset = base + 40;
    let mut left = EXTENSIONS_MAX;
    loop {
        match protocol {
            // Hop-by-hop, routing, destination options: next header, length in 8 bytes beyond the first 8.
            0 | 43 | 60 => {
                let Some(extension) = load::<[u8; 2]>(skb, offset) else { break };
                protocol = extension[0];
                offset += (u32::from(extension[1]) + 1) * 8;
            }
            // Authentication: length in 4 bytes beyond the first 8.
            51 => {
                let Some(extension) = load::<[u8; 2]>(skb, offset) else { break };
                protocol = extension[0];
                offset += (u32::from(extension[1]) + 2) * 4;
            }
            // Fragment: 8 bytes, its offset in the upper 13 bits of the second word. Later fragments have no ports, and
            // nothing to give away without the first.
            44 => {
                let Some(extension) = load::<[u8; 4]>(skb, offset) else { break };
                protocol = extension[0];
                if u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 != 0 {
                    peer.protocol = protocol;
                    return Some(peer);
                }
                offset += 8;
            }
            _ => {
                peer.protocol = protocol;
                if has_ports(protocol) {
                    ports(skb, offset, sent, &mut peer);
                }
                return Some(peer);
            }
        }
        left -= 1;
        if left == 0 {
            break;
        }
    }
    peer.protocol = protocol;
    peer.opaque = 1;
    Some(peer)
}

/// The remote port, from the first four bytes of the transport header; a header too short for them hides it.
#[inline(always)]
fn ports(skb: *mut __sk_buff, offset: u32, sent: bool, peer: &mut Peer) {
    match load::<[u16; 2]>(skb, offset) {
        Some(ports) => peer.port = u16::from_be(if sent { ports[1] } else { ports[0] }),
        None => peer.opaque = 1,
    }
}

/// Whether an IPv6 packet at `base` resolves neighbours or routers (ICMPv6 133 to 137).
#[inline(always)]
pub fn is_neighbour_discovery(skb: *mut __sk_buff, base: u32) -> bool {
    load::<u8>(skb, base + 6) == Some(ICMPV6)
        && load::<u8>(skb, base + 40).is_some_and(|kind| (133..=137).contains(&kind))
}
