//! What the kernel reports of one container, in the loop's own terms: the loader's records without their layout.

use std::net::SocketAddr;

use bulkhead_domain::process::Origin;

use crate::syscalls::Abi;

/// One report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The cgroup that the kernel found a slot for, or the task's own.
    pub cgroup: u64,
    /// The slot's index; 0 where there was none.
    pub slot: u32,
    /// Boot time, ns.
    pub time_ns: u64,
    /// What was seen.
    pub what: What,
}

/// Who did it, as far as the kernel knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Process id in the node's namespace.
    pub pid: u32,
    /// Effective user id.
    pub uid: u32,
    /// The name that the task gave itself: hostile.
    pub comm: String,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A program was executed.
    Exec {
        /// Process id.
        pid: u32,
        /// Its parent.
        parent: u32,
        /// Effective user id.
        uid: u32,
        /// How the process came to be in its container.
        origin: Origin,
        /// Path as asked for.
        path: String,
        /// Standard input, output or error is a socket.
        socket_stdio: bool,
        /// The file has no name in a file system.
        memfd: bool,
    },
    /// A cgroup was made: not by a container, but it may become one.
    CgroupMade {
        /// Path below the mount.
        path: String,
    },
    /// A privileged or unusual call.
    Call {
        /// Process id.
        pid: u32,
        /// Interface.
        abi: Abi,
        /// Number.
        number: u32,
        /// First two arguments.
        arguments: [u64; 2],
        /// Path of a Unix socket; empty for other calls.
        path: Vec<u8>,
    },
    /// A connection or first datagram.
    Connect {
        /// The peer as asked.
        peer: SocketAddr,
        /// IANA protocol number.
        protocol: u8,
        /// A guard refused it.
        refused: bool,
        /// How often since the last report.
        count: u64,
        /// Who.
        actor: Option<Actor>,
    },
    /// A port was bound.
    Listen {
        /// The port.
        port: u16,
        /// IANA protocol number.
        protocol: u8,
        /// The kernel chose it.
        ephemeral: bool,
        /// Who.
        actor: Option<Actor>,
    },
    /// A peer came by itself.
    Inbound {
        /// The peer.
        peer: SocketAddr,
        /// Local port.
        port: u16,
        /// IANA protocol number.
        protocol: u8,
        /// How often since the last report.
        count: u64,
        /// Who.
        actor: Option<Actor>,
    },
    /// A DNS message.
    Dns {
        /// It was received, not sent.
        answer: bool,
        /// The message from its header on, possibly cut.
        message: Vec<u8>,
        /// Who.
        actor: Option<Actor>,
    },
}
