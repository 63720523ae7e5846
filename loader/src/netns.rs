//! Network namespaces: work inside one, and the host's ends of its links.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::thread;

use crate::netlink::{Netlink, attributes, u32_at};

/// `RTM_GETLINK`.
const GET_LINK: u16 = 18;
/// `IFLA_LINK`: the other end's number, in its own namespace.
const LINK: u16 = 5;
/// `IFLA_LINKINFO`, and in it `IFLA_INFO_KIND`.
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
/// Bytes of `struct ifinfomsg`.
const INFO_BYTES: usize = 16;

/// How a namespace is joined to this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Numbers, in this namespace, of the host's ends of its links.
    pub host: Vec<u32>,
    /// How many of its interfaces, loopback aside, have no end here: what passes them cannot be guarded.
    pub elsewhere: usize,
}

/// Runs work on a thread inside a namespace; the thread ends with it, so the namespace never leaks to other code.
pub fn inside<T: Send>(netns: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: a plain call on an open file; it changes this thread alone.
                if unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                    return Err(io::Error::last_os_error());
                }
                work()
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The host's ends of the links of a namespace: both ends must name each other.
pub fn ends(netns: &File) -> io::Result<Ends> {
    let theirs = inside(netns, links)?;
    let ours = links()?;
    let mut ends = Ends::default();
    for link in theirs.iter().filter(|l| !l.loopback && l.kind != "sit" && l.kind != "ip6tnl") {
        let end = ours.iter().find(|o| {
            link.kind == "veth"
                && o.kind == "veth"
                && o.index == link.other
                && o.other == link.index
        });
        match end {
            Some(end) => ends.host.push(end.index),
            None => ends.elsewhere += 1,
        }
    }
    Ok(ends)
}

struct Interface {
    index: u32,
    other: u32,
    kind: String,
    loopback: bool,
}

/// The interfaces of the running thread's namespace.
fn links() -> io::Result<Vec<Interface>> {
    let mut found = Vec::new();
    Netlink::open(libc::NETLINK_ROUTE)?.dump(GET_LINK, &[0; INFO_BYTES], |body| {
        let (Some(index), Some(flags)) = (u32_at(body, 4), u32_at(body, 8)) else { return };
        let mut interface = Interface {
            index,
            other: 0,
            kind: String::new(),
            loopback: flags & libc::IFF_LOOPBACK as u32 != 0,
        };
        for (kind, value) in attributes(body.get(INFO_BYTES..).unwrap_or_default()) {
            match kind {
                LINK => interface.other = u32_at(value, 0).unwrap_or(0),
                LINK_INFO => {
                    let name = attributes(value).find(|(kind, _)| *kind == INFO_KIND);
                    let name = name.map(|(_, v)| v.strip_suffix(&[0]).unwrap_or(v));
                    interface.kind = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
                }
                _ => {}
            }
        }
        found.push(interface);
    })?;
    Ok(found)
}
