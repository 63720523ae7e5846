//! Under which name a behaviour is kept, so that a restart, a new address or a new digest does not make it new.
//!
//! A peer is a workload when the inventory knows its address, else the DNS name that its address came from, else the
//! address. One act may have several keys; it is known when any of them is.

use std::net::IpAddr;

use bulkhead_domain::behaviour::{Act, BehaviourKind, ForbiddenAct};
use bulkhead_domain::net::{Cidr, Protocol, normalise};
use serde::{Deserialize, Serialize};

use crate::inventory::Inventory;

/// First port of the ephemeral range (`net.ipv4.ip_local_port_range` of Linux): all of it is one listening port.
pub const EPHEMERAL_PORTS: u16 = 32_768;

/// The name of a behaviour in a baseline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// Execution of a path, digits in its file name folded.
    Exec(String),
    /// Connection to an observed workload.
    ConnectWorkload(String, u16, Protocol),
    /// Connection to a DNS name.
    ConnectName(String, u16, Protocol),
    /// Connection to an address.
    ConnectAddress(IpAddr, u16, Protocol),
    /// Listening port; 0 is any ephemeral one.
    Listen(u16, Protocol),
    /// Reached by an observed workload on a local port.
    InboundWorkload(String, u16, Protocol),
    /// Reached from a network (/24, /64) on a local port.
    InboundNet(Cidr, u16, Protocol),
    /// DNS name of an observed workload.
    DnsWorkload(String),
    /// DNS name.
    Dns(String),
    /// Privileged or unusual call.
    Syscall(String),
    /// Forbidden act and its object.
    Forbidden(ForbiddenAct, String),
}

impl Key {
    /// The kind that it counts under.
    pub const fn kind(&self) -> BehaviourKind {
        match self {
            Self::Exec(_) => BehaviourKind::Exec,
            Self::ConnectWorkload(..) | Self::ConnectName(..) | Self::ConnectAddress(..) => {
                BehaviourKind::Connect
            }
            Self::Listen(..) => BehaviourKind::Listen,
            Self::InboundWorkload(..) | Self::InboundNet(..) => BehaviourKind::Inbound,
            Self::DnsWorkload(_) | Self::Dns(_) => BehaviourKind::Dns,
            Self::Syscall(_) => BehaviourKind::Syscall,
            Self::Forbidden(..) => BehaviourKind::Forbidden,
        }
    }
}

/// The keys of an act, the most telling first: that one names it, any of them makes it known.
pub fn keys(act: &Act, inventory: &Inventory) -> Vec<Key> {
    match act {
        Act::Exec { path } => vec![Key::Exec(fold_digits(path))],
        Act::Connect { peer, name, .. } => {
            let (port, protocol) = (peer.port, peer.protocol);
            // A container may have addresses that no engine tells; the name that its neighbours asked for still tells whose
            // they are, and the resolver answered it.
            let workload = inventory
                .workload(peer.address)
                .or_else(|| name.as_deref().and_then(|name| inventory.named(name)));
            let mut keys = Vec::with_capacity(3);
            if let Some(workload) = workload {
                keys.push(Key::ConnectWorkload(workload.to_owned(), port, protocol));
            }
            if let Some(name) = name {
                keys.push(Key::ConnectName(name.clone(), port, protocol));
            }
            // Whatever the inventory says by now, the same port of the same address stays what it was: an address is told
            // wrongly for a moment while a container starts, and a resolver must not become a stranger by it.
            keys.push(Key::ConnectAddress(normalise(peer.address), port, protocol));
            keys
        }
        Act::Listen { port, protocol } => {
            vec![Key::Listen(if *port >= EPHEMERAL_PORTS { 0 } else { *port }, *protocol)]
        }
        Act::Inbound { peer, port } => {
            let port = if *port >= EPHEMERAL_PORTS { 0 } else { *port };
            vec![match inventory.workload(peer.address) {
                Some(workload) => Key::InboundWorkload(workload.to_owned(), port, peer.protocol),
                None => Key::InboundNet(neighbourhood(peer.address), port, peer.protocol),
            }]
        }
        Act::Dns { name } => match inventory.named(name) {
            Some(workload) => vec![Key::DnsWorkload(workload.to_owned()), Key::Dns(name.clone())],
            None => vec![Key::Dns(name.clone())],
        },
        Act::Syscall { name } => vec![Key::Syscall(name.clone())],
        Act::Forbidden { act, object } => vec![Key::Forbidden(*act, object.clone())],
    }
}

/// The /24 or /64 that an address lies in.
pub fn neighbourhood(address: IpAddr) -> Cidr {
    let address = normalise(address);
    Cidr::new(address, if address.is_ipv4() { 24 } else { 64 })
        .expect("24 and 64 fit their families")
}

/// The domain above a DNS name, when that is at least two labels deep.
pub fn parent_domain(name: &str) -> Option<&str> {
    let (_, parent) = name.split_once('.')?;
    parent.contains('.').then_some(parent)
}

/// The path with each run of digits in its file name folded to one `#`: a version or a counter is not a new program.
/// A name of digits alone stays, and so does what a digit tells apart in a directory.
fn fold_digits(path: &str) -> String {
    let (directory, file) = path.rsplit_once('/').map_or(("", path), |(d, f)| (d, f));
    if !file.bytes().any(|b| b.is_ascii_alphabetic()) {
        return path.to_owned();
    }
    let mut folded = String::with_capacity(path.len());
    folded.push_str(directory);
    if path.contains('/') {
        folded.push('/');
    }
    let mut in_digits = false;
    for c in file.chars() {
        if c.is_ascii_digit() {
            if !in_digits {
                folded.push('#');
            }
            in_digits = true;
        } else {
            folded.push(c);
            in_digits = false;
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use bulkhead_domain::net::Peer;

    use super::*;

    fn connect(address: &str, name: Option<&str>) -> Act {
        Act::Connect {
            peer: Peer { address: address.parse().unwrap(), port: 6379, protocol: Protocol::TCP },
            name: name.map(str::to_owned),
            refused: false,
        }
    }

    #[test]
    fn a_peer_is_its_workload_before_its_name_before_its_address() {
        let mut inventory = Inventory::default();
        inventory.insert("redis", &["cache-1"], &["10.89.0.4".parse().unwrap()]);
        let first = |act: &Act| keys(act, &inventory)[0].clone();
        assert_eq!(
            first(&connect("10.89.0.4", Some("cache"))),
            Key::ConnectWorkload("redis".into(), 6379, Protocol::TCP)
        );
        assert_eq!(
            first(&connect("198.51.100.1", Some("cache"))),
            Key::ConnectName("cache".into(), 6379, Protocol::TCP)
        );
        assert!(matches!(first(&connect("198.51.100.1", None)), Key::ConnectAddress(..)));
        assert_eq!(
            first(&Act::Dns { name: "cache-1.dns.podman".into() }),
            Key::DnsWorkload("redis".into())
        );
    }

    #[test]
    fn a_mapped_address_is_the_same_peer() {
        let inventory = Inventory::default();
        assert_eq!(
            keys(&connect("::ffff:198.51.100.1", None), &inventory),
            keys(&connect("198.51.100.1", None), &inventory)
        );
    }

    #[test]
    fn versions_and_counters_are_not_new_programs() {
        let key = |path: &str| keys(&Act::Exec { path: path.into() }, &Inventory::default());
        assert_eq!(key("/usr/bin/python3.11"), key("/usr/bin/python3.9"));
        assert_ne!(key("/usr/bin/python3"), key("/tmp/python3"));
        assert_ne!(key("/app/1"), key("/app/2"));
    }

    #[test]
    fn the_domain_above_has_two_labels_or_is_none() {
        assert_eq!(parent_domain("a.t.example.net"), Some("t.example.net"));
        assert_eq!(parent_domain("example.net"), None);
        assert_eq!(parent_domain("redis"), None);
    }
}
