//! Aborts open TCP connections (`SOCK_DESTROY`, 4.5 with `CONFIG_INET_DIAG_DESTROY`), so that a program learns at once that
//! its peer is denied. Packets are dropped with or without it.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netlink::{Netlink, attributes};
use crate::netns;

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// `INET_DIAG_CGROUP_ID`, told since 5.8.
const CGROUP_ID: u16 = 21;
/// Bytes of `struct inet_diag_sockid`, and of what stands before it in the answer.
const ID_BYTES: usize = 48;
const ID_AT: usize = 4;
/// Bytes of `struct inet_diag_msg`.
const ANSWER_BYTES: usize = 72;
/// All states but `TCP_LISTEN` (10), `TCP_CLOSE` (7) and `TCP_TIME_WAIT` (6): what has a peer and is not over.
const STATES: u32 = 0x1fff & !(1 << 10 | 1 << 7 | 1 << 6);

/// Whose connections to abort.
#[derive(Debug)]
pub enum Whose<'a> {
    /// Everyone's in a namespace.
    Namespace(&'a File),
    /// Those that these cgroups made, in this namespace.
    Cgroups(&'a [u64]),
}

/// Aborts TCP connections whose peer (address, port) matches; how many there were.
pub fn abort(
    whose: &Whose<'_>,
    peer: impl Fn(IpAddr, u16) -> bool + Send + Sync,
) -> io::Result<usize> {
    match whose {
        Whose::Namespace(netns) => netns::inside(netns, || in_this(None, &peer)),
        Whose::Cgroups(cgroups) => in_this(Some(cgroups), &peer),
    }
}

fn in_this(cgroups: Option<&[u64]>, peer: &dyn Fn(IpAddr, u16) -> bool) -> io::Result<usize> {
    let mut socket = Netlink::open(libc::NETLINK_SOCK_DIAG)?;
    let mut aborted = 0;
    let mut refused = None;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut found = Vec::new();
        socket.dump(BY_FAMILY, &request(family, &[0; ID_BYTES]), |body| {
            let Some(id) = body.get(ID_AT..ID_AT + ID_BYTES) else { return };
            let cgroup = attributes(body.get(ANSWER_BYTES..).unwrap_or_default())
                .find(|(kind, _)| *kind == CGROUP_ID)
                .and_then(|(_, value)| value.try_into().ok().map(u64::from_ne_bytes));
            let theirs = cgroups.is_none_or(|all| cgroup.is_some_and(|id| all.contains(&id)));
            let (address, port) = remote(family, id);
            if theirs && peer(address, port) {
                found.push(id.to_vec());
            }
        })?;
        for id in found {
            match socket.ask(DESTROY, &request(family, &id)) {
                Ok(()) => aborted += 1,
                // It ended by itself.
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
                Err(e) => refused = Some(e),
            }
        }
    }
    refused.map_or(Ok(aborted), Err)
}

fn request(family: i32, id: &[u8]) -> Vec<u8> {
    let mut body = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
    body.extend_from_slice(&STATES.to_ne_bytes());
    body.extend_from_slice(id);
    body
}

/// The remote end of a socket's id: ports first, then both addresses, all in network order.
fn remote(family: i32, id: &[u8]) -> (IpAddr, u16) {
    let port = u16::from_be_bytes([id[2], id[3]]);
    let bytes: [u8; 16] = id[20..36].try_into().expect("an id has 48 bytes");
    let address = if family == libc::AF_INET {
        Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()
    } else {
        let v6 = Ipv6Addr::from(bytes);
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    };
    (address, port)
}
