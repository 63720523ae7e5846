//! DNS messages that the kernel copies out of packets for user space to parse.

use crate::{network::Actor, ring::Header};

/// Bytes of a message that a record holds; longer messages are cut off.
pub const DNS_BYTES_MAX: usize = 512;

/// Bytes of a message that a short record holds: enough for almost every question.
pub const DNS_BYTES_SHORT: usize = 96;

/// The message came over TCP: its length prefix is not part of the copy.
pub const DNS_TCP: u16 = 1 << 0;
/// The copy ends before the message does.
pub const DNS_CUT: u16 = 1 << 1;
/// The process is the one that made the socket, or unknown when its pid is 0.
pub const DNS_CREATOR: u16 = 1 << 2;

/// The container sent the message.
pub const DNS_SENT: u8 = 1;
/// The container received it.
pub const DNS_RECEIVED: u8 = 2;

/// What stands before the bytes of a message in the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsRecord {
    /// `KIND_DNS`.
    pub header: Header,
    /// The resolver as asked.
    pub peer: [u8; 16],
    /// Port of the resolver.
    pub peer_port: u16,
    /// Bytes that follow and belong to the message.
    pub length: u16,
    /// `DNS_SENT` or `DNS_RECEIVED`.
    pub direction: u8,
    /// Zero.
    pub pad: u8,
    /// `DNS_*` flags.
    pub flags: u16,
    /// Who.
    pub actor: Actor,
}

const _: () = assert!(size_of::<DnsRecord>() == 80);

/// A record with a short copy.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DnsShort {
    /// What it says besides the message.
    pub record: DnsRecord,
    /// The message, then anything.
    pub bytes: [u8; DNS_BYTES_SHORT],
}

const _: () = assert!(size_of::<DnsShort>() == 80 + DNS_BYTES_SHORT);

/// A record with a long copy.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DnsLong {
    /// What it says besides the message.
    pub record: DnsRecord,
    /// The message, then anything.
    pub bytes: [u8; DNS_BYTES_MAX],
}

const _: () = assert!(size_of::<DnsLong>() == 80 + DNS_BYTES_MAX);
