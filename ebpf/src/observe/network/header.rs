//! Reads the headers of a packet in a `cgroup_skb` program, where data begins at the IP header.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};

use super::flow::Peer;

/// TCP.
pub(crate) const TCP: u8 = 6;
/// UDP.
pub(crate) const UDP: u8 = 17;

/// TCP flag: request.
pub(crate) const SYN: u8 = 0x02;
/// TCP flag: reset.
pub(crate) const RST: u8 = 0x04;
/// TCP flag: acknowledgement.
pub(crate) const ACK: u8 = 0x10;

/// How many IPv6 extension headers are walked before the packet counts under the next one's number.
const EXTENSIONS_MAX: u32 = 4;

/// What counting needs of a packet.
pub(crate) struct Header {
    /// The other end.
    pub(crate) remote: Peer,
    /// The container's port; 0 without ports.
    pub(crate) local_port: u16,
    /// IANA protocol number.
    pub(crate) protocol: u8,
    /// TCP flags, else 0.
    pub(crate) tcp: u8,
    /// Where the payload of TCP or UDP begins.
    pub(crate) payload: u32,
    /// Segments that the packet will be cut into, or was merged from.
    pub(crate) segments: u64,
    /// Bytes on the wire from the IP header on, all segments together.
    pub(crate) bytes: u64,
}

/// Reads `T` at an offset of the packet.
#[inline(always)]
fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes exactly the size of `T` or fails; `T` is plain bytes.
    let failed = unsafe {
        bpf_skb_load_bytes(skb.cast(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32)
    };
    // SAFETY: written, as just checked.
    (failed == 0).then(|| unsafe { value.assume_init() })
}

/// Reads a packet's headers; `None` when it is no IP packet or too short to be one.
#[inline(always)]
pub(crate) fn read(skb: *mut __sk_buff, sent: bool) -> Option<Header> {
    let mut header = match usual(skb, sent) {
        Some(header) => header,
        None => any(skb, sent)?,
    };
    // SAFETY: the context of the program.
    let (length, segments) = unsafe { ((*skb).len, (*skb).gso_segs) };
    header.segments = u64::from(segments.max(1));
    // Each further segment has headers of its own.
    header.bytes = u64::from(length) + (header.segments - 1) * u64::from(header.payload);
    Some(header)
}

/// The usual packet, read in place: TCP or UDP, without IP options, extensions or fragments.
#[inline(always)]
fn usual(skb: *mut __sk_buff, sent: bool) -> Option<Header> {
    // SAFETY: the context of the program.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    // UDP over IPv4 is the shortest.
    if data + 28 > end {
        return None;
    }
    // SAFETY: every read below is within the bound checked before it; the verifier sees to that.
    unsafe {
        let at = |offset: usize| (data + offset) as *const u8;
        let version = at(0).read();
        if version == 0x45 {
            let protocol = at(9).read();
            // More fragments, or not the first one.
            if u16::from_be(at(6).cast::<u16>().read_unaligned()) & 0x3fff != 0 {
                return None;
            }
            let address = at(if sent { 16 } else { 12 }).cast::<u32>().read_unaligned();
            let mut header = Header::of(Peer::v4(address, 0), protocol);
            header.set_ports(at(20).cast::<[u16; 2]>().read_unaligned(), sent);
            if protocol == UDP {
                header.payload = 28;
                return Some(header);
            }
            if protocol != TCP || data + 40 > end {
                return None;
            }
            header.payload = 20 + u32::from(at(32).read() >> 4) * 4;
            header.tcp = at(33).read();
            return Some(header);
        }
        if version >> 4 != 6 || data + 48 > end {
            return None;
        }
        let protocol = at(6).read();
        let address = at(if sent { 24 } else { 8 }).cast::<[u32; 4]>().read_unaligned();
        let mut header = Header::of(Peer { address, port: 0 }, protocol);
        header.set_ports(at(40).cast::<[u16; 2]>().read_unaligned(), sent);
        if protocol == UDP {
            header.payload = 48;
            return Some(header);
        }
        if protocol != TCP || data + 60 > end {
            return None;
        }
        header.payload = 40 + u32::from(at(52).read() >> 4) * 4;
        header.tcp = at(53).read();
        Some(header)
    }
}

/// Any packet, read through the helper, which finds bytes that are not in place too.
#[inline(always)]
fn any(skb: *mut __sk_buff, sent: bool) -> Option<Header> {
    let version = load::<u8>(skb, 0)?;
    let (mut header, transport, first) = match version >> 4 {
        4 => v4(skb, sent, version)?,
        6 => v6(skb, sent)?,
        _ => return None,
    };
    let mut end = transport;
    if first && (header.protocol == TCP || header.protocol == UDP) {
        // Source port, destination port, big-endian; both protocols begin with them.
        header.set_ports(load::<[u16; 2]>(skb, transport)?, sent);
        if header.protocol == TCP {
            let word = load::<[u8; 2]>(skb, transport + 12)?;
            end += u32::from(word[0] >> 4) * 4;
            header.tcp = word[1];
        } else {
            end += 8;
        }
    }
    header.payload = end;
    Some(header)
}

impl Header {
    #[inline(always)]
    fn of(remote: Peer, protocol: u8) -> Self {
        Self { remote, local_port: 0, protocol, tcp: 0, payload: 0, segments: 1, bytes: 0 }
    }

    /// Takes the source and destination port, as in the packet.
    #[inline(always)]
    fn set_ports(&mut self, ports: [u16; 2], sent: bool) {
        let (local, remote) = if sent { (ports[0], ports[1]) } else { (ports[1], ports[0]) };
        self.local_port = u16::from_be(local);
        self.remote.port = u16::from_be(remote);
    }
}

/// The IPv4 header: what it says, where the transport begins, and whether that is in this fragment.
#[inline(always)]
fn v4(skb: *mut __sk_buff, sent: bool, version: u8) -> Option<(Header, u32, bool)> {
    let protocol = load::<u8>(skb, 9)?;
    let fragment = u16::from_be(load::<u16>(skb, 6)?) & 0x1fff;
    let address = load::<u32>(skb, if sent { 16 } else { 12 })?;
    let header = Header::of(Peer::v4(address, 0), protocol);
    Some((header, u32::from(version & 0x0f) * 4, fragment == 0))
}

/// The IPv6 header and its extensions.
#[inline(always)]
fn v6(skb: *mut __sk_buff, sent: bool) -> Option<(Header, u32, bool)> {
    let mut protocol = load::<u8>(skb, 6)?;
    let address = load::<[u32; 4]>(skb, if sent { 24 } else { 8 })?;
    let mut offset = 40;
    let mut first = true;
    for _ in 0..EXTENSIONS_MAX {
        match protocol {
            // Hop-by-hop, routing, destination options: next header, length in 8 bytes beyond the first 8.
            0 | 43 | 60 => {
                let extension = load::<[u8; 2]>(skb, offset)?;
                protocol = extension[0];
                offset += (u32::from(extension[1]) + 1) * 8;
            }
            // Fragment: 8 bytes, its offset in the upper 13 bits of the second word.
            44 => {
                let extension = load::<[u8; 4]>(skb, offset)?;
                protocol = extension[0];
                first = first && u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 == 0;
                offset += 8;
            }
            _ => break,
        }
    }
    let header = Header::of(Peer { address, port: 0 }, protocol);
    Some((header, offset, first))
}
