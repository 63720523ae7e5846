//! One discrete, nameable act of a container.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::net::{Peer, Protocol};
use crate::process::Process;
use crate::text::printable;

/// The kinds for which novelty and maturity are kept apart. Numbered for the wire, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BehaviourKind {
    /// Execution of a path.
    Exec = 1,
    /// A connection or first datagram to a peer.
    Connect = 2,
    /// A listening port.
    Listen = 3,
    /// An inbound peer.
    Inbound = 4,
    /// A DNS name asked for.
    Dns = 5,
    /// A privileged or unusual system call.
    Syscall = 6,
    /// An act that repetition never makes normal.
    Forbidden = 7,
}

impl BehaviourKind {
    /// Every kind, in wire order.
    pub const ALL: [Self; 7] = [
        Self::Exec,
        Self::Connect,
        Self::Listen,
        Self::Inbound,
        Self::Dns,
        Self::Syscall,
        Self::Forbidden,
    ];

    /// The word for this kind.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Connect => "connect",
            Self::Listen => "listen",
            Self::Inbound => "inbound",
            Self::Dns => "dns",
            Self::Syscall => "syscall",
            Self::Forbidden => "forbidden",
        }
    }
}

/// What is never learned by repetition (design/detection.md): short, sourced, and the only fixed rules there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForbiddenAct {
    /// A connection to a container engine's socket (ATT&CK T1610, T1611).
    EngineSocket = 1,
    /// Access to a mount of the host's file systems (T1611).
    HostMount = 2,
    /// ptrace or `process_vm_writev` on another's process (T1055.008).
    Ptrace = 3,
    /// Execution from an anonymous memory file (T1620).
    MemfdExec = 4,
    /// Loading a kernel module (T1547.006).
    ModuleLoad = 5,
    /// Loading a BPF program (T1014).
    BpfLoad = 6,
    /// An interpreter with a socket on its standard streams, unseen in the fleet (T1059).
    ShellOnSocket = 7,
}

impl ForbiddenAct {
    /// Every act, in wire order.
    pub const ALL: [Self; 7] = [
        Self::EngineSocket,
        Self::HostMount,
        Self::Ptrace,
        Self::MemfdExec,
        Self::ModuleLoad,
        Self::BpfLoad,
        Self::ShellOnSocket,
    ];

    /// The word for this act.
    pub const fn word(self) -> &'static str {
        match self {
            Self::EngineSocket => "engine-socket",
            Self::HostMount => "host-mount",
            Self::Ptrace => "ptrace",
            Self::MemfdExec => "memfd-exec",
            Self::ModuleLoad => "module-load",
            Self::BpfLoad => "bpf-load",
            Self::ShellOnSocket => "shell-on-socket",
        }
    }

    /// The ATT&CK technique that the act belongs to.
    pub const fn technique(self) -> &'static str {
        match self {
            Self::EngineSocket | Self::HostMount => "T1611",
            Self::Ptrace => "T1055.008",
            Self::MemfdExec => "T1620",
            Self::ModuleLoad => "T1547.006",
            Self::BpfLoad => "T1014",
            Self::ShellOnSocket => "T1059",
        }
    }
}

/// The act itself. Paths and names were chosen by the container: hostile text, shown only through [`printable`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Executed this path.
    Exec {
        /// Path as the kernel resolved it.
        path: String,
    },
    /// Connected, or sent a first datagram, to this peer.
    Connect {
        /// The peer as asked, before address translation.
        peer: Peer,
        /// The name that the peer's address came from, when the container asked for one.
        name: Option<String>,
        /// A guard refused it: still a behaviour, still scored.
        refused: bool,
    },
    /// Began to listen.
    Listen {
        /// Local port.
        port: u16,
        /// Protocol.
        protocol: Protocol,
    },
    /// Was reached from this peer.
    Inbound {
        /// The peer; its ephemeral port is 0.
        peer: Peer,
        /// Local port it reached.
        port: u16,
    },
    /// Asked for this name.
    Dns {
        /// The name in lower case without the final dot.
        name: String,
    },
    /// Made this privileged or unusual call, by name (`x32:` or `i386:` before a foreign ABI's).
    Syscall {
        /// Name of the call, with what qualifies it (`socket:AF_PACKET`).
        name: String,
    },
    /// Did what repetition never makes normal.
    Forbidden {
        /// Which act.
        act: ForbiddenAct,
        /// What it was done to: a path, a pid's executable, a module name.
        object: String,
    },
}

impl Act {
    /// The kind that the act counts under.
    pub const fn kind(&self) -> BehaviourKind {
        match self {
            Self::Exec { .. } => BehaviourKind::Exec,
            Self::Connect { .. } => BehaviourKind::Connect,
            Self::Listen { .. } => BehaviourKind::Listen,
            Self::Inbound { .. } => BehaviourKind::Inbound,
            Self::Dns { .. } => BehaviourKind::Dns,
            Self::Syscall { .. } => BehaviourKind::Syscall,
            Self::Forbidden { .. } => BehaviourKind::Forbidden,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec { path } => write!(f, "exec {}", printable(path, 120)),
            Self::Connect { peer, name: Some(name), .. } => {
                write!(f, "connect {} ({peer})", printable(name, 100))
            }
            Self::Connect { peer, name: None, .. } => write!(f, "connect {peer}"),
            Self::Listen { port, protocol } => write!(f, "listen {port}/{protocol}"),
            Self::Inbound { peer, port } => {
                write!(f, "inbound {} to port {port}/{}", peer.address, peer.protocol)
            }
            Self::Dns { name } => write!(f, "dns {}", printable(name, 120)),
            Self::Syscall { name } => write!(f, "syscall {}", printable(name, 60)),
            Self::Forbidden { act, object } => {
                write!(f, "{} {}", act.word(), printable(object, 100))
            }
        }
    }
}

/// An act and the process that did it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Behaviour {
    /// What was done.
    pub act: Act,
    /// Who did it; `None` when the kernel could not tell (a packet that belongs to no known socket).
    pub process: Option<Process>,
    /// How often since the last report of the same act: the kernel reports an act once a window and counts the rest.
    pub count: u64,
}
