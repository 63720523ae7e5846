//! Flows, per-container network counters and the network acts that travel through the ring.
//!
//! Addresses are 16 bytes, IPv4 in its mapped form (`::ffff:a.b.c.d`), so that one peer has one key whichever family the
//! socket has. Ports are in host order. Counters only grow; user space takes differences.

use crate::ring::Header;

/// Flows that one container may have of its own; past it packets count in [`NetworkCounters`] alone, as `unnamed_*`.
pub const FLOWS_PER_SLOT_MAX: u64 = 2048;

/// Flows of all containers together.
pub const FLOWS_MAX: u32 = 65_536;

/// The container opened the flow: the key holds the peer's port, and 0 as local port.
pub const DIRECTION_OUTBOUND: u8 = 1;
/// The peer opened the flow: the key holds the local port, and 0 as the peer's.
pub const DIRECTION_INBOUND: u8 = 2;

/// Identity of a flow: all connections of a container with one service, in one direction of opening.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Index of the container.
    pub slot: u32,
    /// IANA protocol number.
    pub protocol: u8,
    /// `DIRECTION_*`.
    pub direction: u8,
    /// Port of the container's service; 0 when outbound or without ports.
    pub local_port: u16,
    /// The peer, as the container asked for it: before address translation.
    pub peer: [u8; 16],
    /// Port of the peer's service; 0 when inbound or without ports.
    pub peer_port: u16,
    /// Zero.
    pub pad: [u8; 6],
}

const _: () = assert!(size_of::<FlowKey>() == 32);

/// What a flow carried since it was first seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Packets to the peer; a segmented send counts its segments.
    pub packets_out: u64,
    /// Bytes to the peer from the IP header on, as segmented.
    pub bytes_out: u64,
    /// Packets from the peer.
    pub packets_in: u64,
    /// Bytes from the peer.
    pub bytes_in: u64,
    /// Connects and unconnected sends (outbound), or connection requests (inbound), refused ones included.
    pub attempts: u64,
    /// Attempts that a guard refused.
    pub refused: u64,
    /// TCP connections that were established.
    pub established: u64,
    /// TCP attempts that the peer answered with a reset.
    pub reset: u64,
    /// TCP connection requests sent again for want of an answer.
    pub retries: u64,
    /// Boot time (ns) of the first packet or attempt.
    pub first_ns: u64,
    /// Boot time (ns) of the last packet or attempt, to within a second.
    pub last_ns: u64,
    /// Epoch in which the flow's act was last reported; 0 for never.
    pub epoch: u64,
    /// Acts since that report.
    pub unreported: u64,
    /// Where packets really went, when address translation sent them elsewhere than asked; else zeros.
    pub routed: [u8; 16],
    /// Port of `routed`.
    pub routed_port: u16,
    /// Zero.
    pub pad: u16,
    /// When `last_ns` was written, in the kernel's coarse ticks: reading the clock for each packet would cost more.
    pub touched: u32,
}

const _: () = assert!(size_of::<Flow>() == 128);

/// Network counters of one container.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCounters {
    /// Packets sent, all protocols.
    pub packets_out: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Packets received.
    pub packets_in: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent on flows that the container opened.
    pub bytes_out_initiated: u64,
    /// Connect calls, all protocols, refused ones included.
    pub connects: u64,
    /// Connects and sends that a guard refused.
    pub refused: u64,
    /// Outbound TCP connections established.
    pub established: u64,
    /// Outbound TCP attempts that the peer reset.
    pub reset: u64,
    /// Outbound TCP requests sent again.
    pub retries: u64,
    /// Inbound TCP connections established.
    pub accepted: u64,
    /// UDP datagrams sent.
    pub udp_sends: u64,
    /// Ports bound.
    pub binds: u64,
    /// DNS questions sent.
    pub dns_questions: u64,
    /// DNS answers received.
    pub dns_answers: u64,
    /// Answers that the name does not exist.
    pub dns_nxdomain: u64,
    /// Answers with any other error.
    pub dns_failures: u64,
    /// Bytes of DNS messages, both ways.
    pub dns_bytes: u64,
    /// Acts that could have been reported: generated = emitted + repeated + lost, exactly.
    pub acts_generated: u64,
    /// Acts that went into the ring.
    pub acts_emitted: u64,
    /// Acts that were reported before in the same epoch: counted in their flow.
    pub acts_repeated: u64,
    /// Acts lost because the container's quota was used up.
    pub acts_lost_quota: u64,
    /// Acts lost because the ring was full.
    pub acts_lost_ring: u64,
    /// Flows ever made.
    pub flows_made: u64,
    /// Packets that no flow holds, because the container's or the whole table was full.
    pub unnamed_packets: u64,
    /// Bytes of those.
    pub unnamed_bytes: u64,
}

const _: () = assert!(size_of::<NetworkCounters>() == 26 * 8);

/// What kind of act a [`NetworkRecord`] reports. Numbered with gaps, never reused.
pub mod act {
    /// A connect call, of any protocol.
    pub const CONNECT: u8 = 10;
    /// A datagram of an unconnected socket.
    pub const SEND: u8 = 20;
    /// A first packet without a call before it: raw sockets, subflows, sockets older than the observer.
    pub const PACKET: u8 = 30;
    /// A port was bound.
    pub const BIND: u8 = 40;
    /// A peer opened a connection, or sent a first datagram.
    pub const INBOUND: u8 = 50;
}

/// A guard refused it.
pub const NETWORK_REFUSED: u16 = 1 << 0;
/// The peer was given as an IPv4-mapped IPv6 address.
pub const NETWORK_MAPPED: u16 = 1 << 1;
/// The socket was made in another container or on the host, and handed over.
pub const NETWORK_PASSED: u16 = 1 << 2;
/// The process is unknown: the kernel made the socket, or it is older than the observer.
pub const NETWORK_NO_PROCESS: u16 = 1 << 3;
/// The process is the one that made the socket; who used it could not be told.
pub const NETWORK_CREATOR: u16 = 1 << 4;
/// The kernel chose the bound port.
pub const NETWORK_EPHEMERAL: u16 = 1 << 5;

/// The process that acted, as the kernel saw it at the call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// Thread id in the initial namespace; 0 when unknown.
    pub tid: u32,
    /// Process id in the initial namespace; 0 when unknown.
    pub pid: u32,
    /// User id in the initial namespace.
    pub uid: u32,
    /// Zero.
    pub pad: u32,
    /// Name of the task, chosen by itself: hostile.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Actor>() == 32);

/// One network act in the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkRecord {
    /// `KIND_NETWORK`.
    pub header: Header,
    /// How often it was done since its last report, this time included.
    pub count: u64,
    /// The peer as asked.
    pub peer: [u8; 16],
    /// Container that made the socket; equal to `slot` but for passed sockets.
    pub creator: u32,
    /// Port of the peer.
    pub peer_port: u16,
    /// Local port.
    pub local_port: u16,
    /// `act::*`.
    pub act: u8,
    /// IANA protocol number.
    pub protocol: u8,
    /// `NETWORK_*`.
    pub flags: u16,
    /// Zero.
    pub pad: u32,
    /// Who.
    pub actor: Actor,
}

const _: () = assert!(size_of::<NetworkRecord>() == 96);
