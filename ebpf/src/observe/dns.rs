//! DNS observation: counts messages, and copies each distinct one out once an epoch, for user space to parse.
//!
//! A message is told by its flow: the container's own, to port 53 *as asked*, over UDP or as the one segment of a TCP
//! message. Docker's resolver listens on another port of 127.0.0.11, to which questions are translated; the flow keeps
//! the port as asked, and any port of that address counts as a resolver besides. Names inside are hostile and are not
//! looked at here.
//!
//! `cgroup_skb` programs in both directions, not attached: those of `network` go on here by a tail call when a packet
//! belongs to a resolver's flow, so that any other packet pays nothing. Kernel 5.8.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_ANY},
    btf_maps::{LruHashMap, ProgramArray},
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_sk_fullsock, bpf_skb_load_bytes},
    macros::{btf_map, cgroup_skb},
    programs::SkBuffContext,
};
use bulkhead_abi::{
    dns::{
        DNS_BYTES_MAX, DNS_BYTES_SHORT, DNS_CREATOR, DNS_CUT, DNS_RECEIVED, DNS_SENT, DNS_TCP,
        DnsLong, DnsRecord, DnsShort,
    },
    network::{NETWORK_CREATOR, NETWORK_NO_PROCESS, NetworkCounters},
    ring::{Header, KIND_DNS},
};

use crate::{
    atomic,
    network::{
        Peer, Place, RESOLVER_PORT, Socket, TCP, UDP, count, counters_of, describe, find_socket,
        place_of_packet, read_header,
    },
    ring,
};

/// A message's fixed header (RFC 1035, 4.1.1).
const HEADER_BYTES: u32 = 12;
/// Response code: no such name.
const NXDOMAIN: u8 = 3;
/// Odd constant with well-spread bits (2^64 / golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Identity of a message without its transaction id.
#[repr(C)]
#[derive(Clone, Copy)]
struct Message {
    slot: u64,
    hash: u64,
}

/// Epoch in which a message was last reported. Losing an entry only reports its message again.
#[btf_map]
static DNS_SEEN: LruHashMap<Message, u64, 4096> = LruHashMap::new();

/// The program below for packets received. Two arrays: programs of one must share their direction (6.18).
#[btf_map]
static DNS_INGRESS: ProgramArray<1> = ProgramArray::new();

/// The program below for packets sent.
#[btf_map]
static DNS_EGRESS: ProgramArray<1> = ProgramArray::new();

/// Goes on with this subject's program, and does not come back; comes back if the loader has not put it there.
#[inline(always)]
pub(crate) fn go_on(ctx: &SkBuffContext, sent: bool) {
    // SAFETY: nothing is left to do, and nothing to drop, in the program that calls.
    unsafe {
        if sent {
            DNS_EGRESS.tail_call(ctx, 0);
        } else {
            DNS_INGRESS.tail_call(ctx, 0);
        }
    }
}

/// Answers.
#[cgroup_skb(ingress)]
pub fn observe_dns_ingress(ctx: SkBuffContext) -> i32 {
    let _ = observe(ctx.skb.skb, false);
    1
}

/// Questions.
#[cgroup_skb(egress)]
pub fn observe_dns_egress(ctx: SkBuffContext) -> i32 {
    let _ = observe(ctx.skb.skb, true);
    1
}

/// Counts and reports a DNS message, if the packet holds one.
#[inline(always)]
fn observe(skb: *mut __sk_buff, sent: bool) -> Option<()> {
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
    let socket = find_socket(sk)?;
    // SAFETY: points into a live socket storage.
    let (connected, asked) = unsafe { ((*socket).peer, (*socket).asked) };
    let header = read_header(skb, sent)?;
    // A question leaves for where translation sends it: then what was asked tells the resolver. An answer comes from
    // the resolver as asked.
    let peer = if header.remote.port == RESOLVER_PORT {
        header.remote
    } else if sent && asked.is_resolver() {
        asked
    } else if connected.is_resolver() {
        connected
    } else if header.remote.is_resolver() {
        header.remote
    } else {
        return None;
    };
    let place = place_of_packet(skb, Some(socket))?;
    let counters = counters_of(place.slot)?;
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let mut at = header.payload;
    // SAFETY: the context of the program.
    let mut length = unsafe { (*skb).len }.checked_sub(at)?;
    let mut flags = 0;
    match header.protocol {
        UDP => {}
        TCP => {
            // RFC 1035, 4.2.2: two bytes of length first. Messages cut into segments are not put together.
            let announced = u32::from(u16::from_be_bytes(load::<2>(skb, at)?));
            if announced + 2 != length {
                return None;
            }
            at += 2;
            length -= 2;
            flags |= DNS_TCP;
        }
        _ => return None,
    }
    if length < HEADER_BYTES {
        return None;
    }
    let [hi, lo, questions_hi, questions_lo] = load::<4>(skb, at + 2)?;
    let response = hi & 0x80 != 0;
    if hi & 0x78 != 0 || (questions_hi | questions_lo) == 0 || response == sent {
        return None;
    }
    count!(counters, dns_bytes, u64::from(length));
    if sent {
        count!(counters, dns_questions, 1);
    } else {
        count!(counters, dns_answers, 1);
        match lo & 0x0f {
            0 => {}
            NXDOMAIN => count!(counters, dns_nxdomain, 1),
            _ => count!(counters, dns_failures, 1),
        }
    }
    let about = About { place, counters, socket, peer: &peer, sent, flags, now };
    if length <= DNS_BYTES_SHORT as u32 {
        copy_short(skb, at, length, &about);
    } else {
        copy_long(skb, at, length, &about);
    }
    Some(())
}

/// What a record says besides the message.
struct About<'a> {
    place: Place,
    counters: *mut NetworkCounters,
    socket: *mut Socket,
    peer: &'a Peer,
    sent: bool,
    flags: u16,
    now: u64,
}

macro_rules! copy {
    ($name:ident, $record:ty, $max:expr) => {
        #[doc = concat!("Copies a message of at most ", stringify!($max), " bytes out.")]
        #[inline(always)]
        fn $name(skb: *mut __sk_buff, at: u32, length: u32, about: &About<'_>) {
            count!(about.counters, acts_generated, 1);
            let Some(mut entry) = ring::RING.reserve_untyped::<$record>(0) else {
                count!(about.counters, acts_lost_ring, 1);
                return;
            };
            let record = entry.as_mut_ptr();
            let cut = length > $max as u32;
            let length = if cut { $max as u32 } else { length };
            // SAFETY: the reserved memory is a whole record; its words are zeroed first, because the tail is sent too.
            let (failed, hash) = unsafe {
                let words = core::ptr::addr_of_mut!((*record).bytes).cast::<u64>();
                for i in 0..$max / 8 {
                    words.add(i).write_volatile(0);
                }
                let failed = bpf_skb_load_bytes(skb.cast(), at, words.cast(), length);
                // The transaction id is not part of what is asked.
                let mut hash = (words.read() >> 16) ^ SPREAD;
                for i in 1..$max / 8 {
                    hash = (hash ^ words.add(i).read()).wrapping_mul(SPREAD).rotate_left(29);
                }
                (failed != 0, hash)
            };
            if failed || !first_in_epoch(about.place.slot, hash, ring::epoch(about.now)) {
                entry.discard(0);
                count!(about.counters, acts_repeated, 1);
                return;
            }
            if !ring::take(about.place.slot, about.now) {
                entry.discard(0);
                count!(about.counters, acts_lost_quota, 1);
                return;
            }
            // SAFETY: as above; every field of the header is written.
            unsafe {
                let flags = about.flags | if cut { DNS_CUT } else { 0 };
                write_record(&raw mut (*record).record, length as u16, flags, about);
            }
            entry.submit(0);
            count!(about.counters, acts_emitted, 1);
        }
    };
}

copy!(copy_short, DnsShort, DNS_BYTES_SHORT);
copy!(copy_long, DnsLong, DNS_BYTES_MAX);

/// # Safety
///
/// `record` points into a reserved record.
#[inline(always)]
unsafe fn write_record(record: *mut DnsRecord, length: u16, flags: u16, about: &About<'_>) {
    // SAFETY: the caller's.
    unsafe {
        (*record).header = Header {
            kind: KIND_DNS,
            slot: about.place.slot,
            cgroup: about.place.cgroup,
            time_ns: about.now,
        };
        (*record).peer = about.peer.bytes();
        (*record).peer_port = about.peer.port;
        (*record).length = length;
        (*record).direction = if about.sent { DNS_SENT } else { DNS_RECEIVED };
        (*record).pad = 0;
        let (_, who) = describe(about.place, Some(about.socket), &raw mut (*record).actor);
        (*record).flags =
            flags | if who & (NETWORK_CREATOR | NETWORK_NO_PROCESS) != 0 { DNS_CREATOR } else { 0 };
    }
}

/// Whether this message was not reported in this epoch yet; the one who is told so reports it.
#[inline(always)]
fn first_in_epoch(slot: u32, hash: u64, epoch: u64) -> bool {
    let key = Message { slot: u64::from(slot), hash };
    let Some(seen) = DNS_SEEN.get_ptr_mut(key) else {
        // Two at once report it twice, which is as good.
        let _ = DNS_SEEN.insert(key, epoch, BPF_ANY.into());
        return true;
    };
    // SAFETY: points into a live map value.
    unsafe {
        let before = seen.read_volatile();
        before != epoch && atomic::replace(seen, before, epoch)
    }
}

/// Reads bytes of the packet.
#[inline(always)]
fn load<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the helper writes exactly `N` bytes or fails.
    let failed =
        unsafe { bpf_skb_load_bytes(skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
    (failed == 0).then_some(bytes)
}
