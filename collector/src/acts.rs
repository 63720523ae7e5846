//! From what the kernel saw to the act it is: pure rules, the fixed ones of design/detection.md among them.

use std::net::SocketAddr;

use bulkhead_domain::behaviour::{Act, ForbiddenAct};
use bulkhead_domain::net::{Peer, Protocol, normalise};
use bulkhead_domain::text::printable;

use crate::mounts::ENGINE_SOCKETS;
use crate::syscalls::{self, Abi};

/// Longest path or name in an act, in characters.
const TEXT_CHARS_MAX: usize = 512;

/// Interpreters, by file name without version: a program that does what its input says. With a socket as that input it is
/// a remote shell, whatever it is used for.
const INTERPRETERS: [&str; 19] = [
    "ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "lua", "mksh", "node", "perl", "php",
    "pwsh", "python", "ruby", "sh", "tclsh", "tcsh", "zsh",
];

/// Address families that few programs ask for, by number (`include/linux/socket.h`).
const FAMILIES: [(u64, &str); 11] = [
    (15, "AF_KEY"),
    (16, "AF_NETLINK"),
    (17, "AF_PACKET"),
    (21, "AF_RDS"),
    (29, "AF_CAN"),
    (30, "AF_TIPC"),
    (31, "AF_BLUETOOTH"),
    (38, "AF_ALG"),
    (40, "AF_VSOCK"),
    (44, "AF_XDP"),
    (45, "AF_MCTP"),
];

/// `AF_UNIX` (the same).
const AF_UNIX: u64 = 1;

/// `SOCK_RAW` (`include/linux/net.h`), below the flags in the type's upper bits.
const SOCK_RAW: u64 = 3;

/// `PTRACE_TRACEME`: asks to be traced, and traces nobody.
const PTRACE_TRACEME: u64 = 0;

/// `BPF_PROG_LOAD` (`include/uapi/linux/bpf.h`).
const BPF_PROG_LOAD: u64 = 5;

/// An execution as the kernel saw it.
#[derive(Clone, Copy, Debug)]
pub struct Execution<'a> {
    /// The path that was asked for: the same each time, where the resolved one is gone with a short-lived process.
    pub path: &'a str,
    /// Standard input, output or error is a socket.
    pub socket_stdio: bool,
    /// The file has no name in a file system.
    pub memfd: bool,
}

/// The acts in an execution: itself, and what of it repetition never makes normal.
pub fn execution(execution: Execution<'_>) -> Vec<Act> {
    let path = bounded(execution.path);
    if execution.memfd {
        return vec![Act::Forbidden { act: ForbiddenAct::MemfdExec, object: path }];
    }
    let mut acts = vec![Act::Exec { path: path.clone() }];
    if execution.socket_stdio && is_interpreter(execution.path) {
        acts.push(Act::Forbidden { act: ForbiddenAct::ShellOnSocket, object: path });
    }
    acts
}

/// Whether a path's file name is an interpreter's, with or without a version (`python3.11`).
fn is_interpreter(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&name)
}

/// A privileged or unusual call as the kernel saw it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Interface it was made through.
    pub abi: Abi,
    /// Number.
    pub number: u32,
    /// What qualifies it: family and type of `socket`, family of `connect`, else the first two arguments.
    pub arguments: [u64; 2],
    /// Path of the Unix socket that was connected to; empty for other calls.
    pub path: &'a [u8],
}

/// The act in a call; `target` finds the executable of a process by its id inside the container. `None` for a Unix socket
/// that is no engine's: containers speak to their own all day.
pub fn call(call: Call<'_>, target: impl Fn(u32) -> Option<String>) -> Option<Act> {
    let name = syscalls::name(call.abi, call.number);
    let bare = name.rsplit(':').next().unwrap_or(&name);
    let [first, second] = call.arguments;
    let executable = |pid: u64| {
        u32::try_from(pid)
            .ok()
            .and_then(&target)
            .map_or_else(|| "unknown process".into(), |e| bounded(&e))
    };
    let forbidden = |act, object| Some(Act::Forbidden { act, object });
    match bare {
        "connect" if call.path.is_empty() && first != AF_UNIX => {
            Some(Act::Syscall { name: format!("{name}:{}", family(first, 0)) })
        }
        "connect" => forbidden(ForbiddenAct::EngineSocket, engine_socket(call.path)?),
        "ptrace" if first != PTRACE_TRACEME => forbidden(ForbiddenAct::Ptrace, executable(second)),
        "process_vm_writev" => forbidden(ForbiddenAct::Ptrace, executable(first)),
        "init_module" | "finit_module" => forbidden(ForbiddenAct::ModuleLoad, name),
        "bpf" if first == BPF_PROG_LOAD => forbidden(ForbiddenAct::BpfLoad, "bpf program".into()),
        "socket" => Some(Act::Syscall { name: format!("{name}:{}", family(first, second)) }),
        _ => Some(Act::Syscall { name }),
    }
}

/// The path of an engine's socket; an abstract name (a leading zero) is matched without it.
fn engine_socket(path: &[u8]) -> Option<String> {
    let path = path.strip_prefix(b"\0").unwrap_or(path);
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
    let text = String::from_utf8_lossy(&path[..end]);
    let name = text.rsplit('/').next().unwrap_or(&text);
    ENGINE_SOCKETS.contains(&name).then(|| bounded(&text))
}

fn family(family: u64, kind: u64) -> String {
    match FAMILIES.iter().find(|(number, _)| *number == family) {
        Some((_, name)) => (*name).into(),
        None if kind & 0xf == SOCK_RAW => "SOCK_RAW".into(),
        None => format!("family {family}"),
    }
}

/// A mount of the host's, found when the container started: an engine's socket, or a part of its file systems.
pub fn host_mount(path: &str) -> Act {
    let name = path.rsplit('/').next().unwrap_or(path);
    let act = if ENGINE_SOCKETS.contains(&name) {
        ForbiddenAct::EngineSocket
    } else {
        ForbiddenAct::HostMount
    };
    Act::Forbidden { act, object: bounded(path) }
}

/// A peer with its address normalised; ports where the protocol has any.
pub fn peer(address: SocketAddr, protocol: u8) -> Peer {
    Peer { address: normalise(address.ip()), port: address.port(), protocol: Protocol(protocol) }
}

/// A connection or first datagram.
///
/// `None` for UDP to port 0: resolvers connect so to sort addresses (RFC 6724), and nothing is ever sent.
pub fn connection(peer: Peer, name: Option<&str>, refused: bool) -> Option<Act> {
    if peer.protocol == Protocol::UDP && peer.port == 0 {
        return None;
    }
    Some(Act::Connect { peer, name: name.map(bounded), refused })
}

/// A port that was bound on purpose; one that the kernel chose is no service.
pub fn listening(port: u16, protocol: u8, ephemeral: bool) -> Option<Act> {
    (!ephemeral && port != 0).then_some(Act::Listen { port, protocol: Protocol(protocol) })
}

/// A peer that came by itself; its ephemeral port says nothing.
pub fn inbound(peer: Peer, port: u16) -> Act {
    Act::Inbound { peer: Peer { port: 0, ..peer }, port }
}

/// A question for a name.
pub fn question(name: &str) -> Act {
    Act::Dns { name: bounded(name) }
}

fn bounded(text: &str) -> String {
    printable(text, TEXT_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use bulkhead_domain::window::Arch;

    use super::*;

    fn native(number: u32, arguments: [u64; 2]) -> Option<Act> {
        let abi = Abi::Native(Arch::X86_64);
        call(Call { abi, number, arguments, path: b"" }, |pid| {
            (pid == 9).then(|| "/bin/web".into())
        })
    }

    fn connected(path: &[u8]) -> Option<Act> {
        call(Call { abi: Abi::Native(Arch::X86_64), number: 42, arguments: [1, 0], path }, |_| None)
    }

    fn forbidden(act: ForbiddenAct, object: &str) -> Act {
        Act::Forbidden { act, object: object.into() }
    }

    #[test]
    fn an_interpreter_on_a_socket_is_an_execution_and_more() {
        let on_socket = |path| execution(Execution { path, socket_stdio: true, memfd: false });
        for path in ["/bin/sh", "/usr/bin/python3.11", "bash", "/bin/busybox"] {
            let acts = on_socket(path);
            assert_eq!(acts[0], Act::Exec { path: path.into() });
            assert_eq!(acts[1], forbidden(ForbiddenAct::ShellOnSocket, path));
        }
        assert_eq!(on_socket("/usr/sbin/sshd").len(), 1);
        let apart = Execution { path: "/bin/sh", socket_stdio: false, memfd: false };
        assert_eq!(execution(apart).len(), 1);
    }

    #[test]
    fn a_program_without_a_file_is_never_normal() {
        let acts = execution(Execution { path: "memfd:x", socket_stdio: true, memfd: true });
        assert_eq!(acts, [forbidden(ForbiddenAct::MemfdExec, "memfd:x")]);
    }

    #[test]
    fn tracing_another_is_told_from_asking_to_be_traced() {
        assert_eq!(native(101, [16, 9]), Some(forbidden(ForbiddenAct::Ptrace, "/bin/web")));
        assert_eq!(native(101, [16, 8]), Some(forbidden(ForbiddenAct::Ptrace, "unknown process")));
        assert_eq!(native(101, [0, 0]), Some(Act::Syscall { name: "ptrace".into() }));
        assert_eq!(native(311, [9, 0]), Some(forbidden(ForbiddenAct::Ptrace, "/bin/web")));
        assert_eq!(native(310, [9, 0]), Some(Act::Syscall { name: "process_vm_readv".into() }));
    }

    #[test]
    fn loading_into_the_kernel_is_never_normal() {
        assert_eq!(native(313, [3, 0]), Some(forbidden(ForbiddenAct::ModuleLoad, "finit_module")));
        assert_eq!(native(321, [5, 0]), Some(forbidden(ForbiddenAct::BpfLoad, "bpf program")));
        assert_eq!(native(321, [1, 0]), Some(Act::Syscall { name: "bpf".into() }));
    }

    #[test]
    fn an_engines_socket_is_known_by_its_name_wherever_it_was_mounted() {
        assert_eq!(
            connected(b"/var/run/docker.sock\0\0"),
            Some(forbidden(ForbiddenAct::EngineSocket, "/var/run/docker.sock"))
        );
        assert_eq!(
            connected(b"/tmp/podman.sock").unwrap().kind(),
            bulkhead_domain::BehaviourKind::Forbidden
        );
        assert_eq!(
            connected(b"\0docker.sock").map(|a| a.to_string()).as_deref(),
            Some("engine-socket docker.sock")
        );
        assert_eq!(connected(b"/run/mysqld/mysqld.sock"), None);
    }

    #[test]
    fn sockets_of_unusual_families_say_which() {
        let name = |arguments| native(41, arguments).map(|act| act.to_string());
        assert_eq!(name([17, 3]).as_deref(), Some("syscall socket:AF_PACKET"));
        assert_eq!(name([2, 3 | 0x80000]).as_deref(), Some("syscall socket:SOCK_RAW"));
        let vsock = native(42, [40, 0]).map(|act| act.to_string());
        assert_eq!(vsock.as_deref(), Some("syscall connect:AF_VSOCK"));
        assert_eq!(name([99, 1]).as_deref(), Some("syscall socket:family 99"));
    }

    #[test]
    fn a_foreign_call_says_so() {
        let act = call(Call { abi: Abi::I386, number: 20, arguments: [0; 2], path: b"" }, |_| None);
        assert_eq!(act, Some(Act::Syscall { name: "i386:getpid".into() }));
        let traced =
            call(Call { abi: Abi::I386, number: 26, arguments: [16, 9], path: b"" }, |_| None);
        assert_eq!(traced, Some(forbidden(ForbiddenAct::Ptrace, "unknown process")));
    }

    #[test]
    fn a_peer_is_one_whichever_family_asked_for_it() {
        let mapped = peer("[::ffff:198.51.100.7]:443".parse().unwrap(), 6);
        assert_eq!(mapped, peer("198.51.100.7:443".parse().unwrap(), 6));
        assert_eq!(inbound(mapped, 80).to_string(), "inbound 198.51.100.7 to port 80/tcp");
    }

    #[test]
    fn sorting_addresses_and_chosen_ports_are_no_acts() {
        let probe = peer("198.51.100.7:0".parse().unwrap(), 17);
        assert_eq!(connection(probe, None, false), None);
        let ping = peer("198.51.100.7:0".parse().unwrap(), 1);
        assert!(connection(ping, None, false).is_some());
        assert_eq!(listening(40_000, 17, true), None);
        assert_eq!(listening(80, 6, false).unwrap().to_string(), "listen 80/tcp");
    }

    #[test]
    fn a_mount_is_told_by_what_it_gives_away() {
        assert_eq!(
            host_mount("/run/docker.sock"),
            forbidden(ForbiddenAct::EngineSocket, "/run/docker.sock")
        );
        assert_eq!(host_mount("/etc"), forbidden(ForbiddenAct::HostMount, "/etc"));
    }
}
