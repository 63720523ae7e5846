//! A container's namespace and the world outside it, joined by one link, with documentation addresses and no way further.

use std::{collections::HashMap, path::PathBuf};

use bulkhead_tests::{netns::Netns, scratch::unique};

/// The container's address.
pub const INSIDE: &str = "198.51.100.2";
/// The peer's address.
pub const PEER: &str = "198.51.100.1";
/// The container's address in IPv6.
pub const INSIDE6: &str = "2001:db8:1::2";
/// The peer's address in IPv6.
pub const PEER6: &str = "2001:db8:1::1";
/// A network that the peer answers for, whole.
pub const FAR: &str = "203.0.113.0/24";

/// Two namespaces and the link between them.
#[derive(Debug)]
pub struct Link {
    /// Where containers are.
    pub inside: Netns,
    /// Where their peers are.
    pub outside: Netns,
}

impl Link {
    /// Makes both.
    pub fn new() -> Self {
        let inside = Netns::new("in").expect("namespaces can be made");
        let outside = Netns::new("out").expect("namespaces can be made");
        let (near, far) = (format!("bhi{}", unique()), format!("bho{}", unique()));
        let ip = |netns: &Netns, words: &str| {
            netns.ip(&words.split(' ').collect::<Vec<_>>()).expect("ip knows these words");
        };
        ip(&inside, &format!("link add {near} type veth peer name {far} netns {}", outside.name()));
        for (netns, link, address, address6) in
            [(&inside, &near, INSIDE, INSIDE6), (&outside, &far, PEER, PEER6)]
        {
            ip(netns, &format!("addr add {address}/24 dev {link}"));
            ip(netns, &format!("addr add {address6}/64 dev {link} nodad"));
            ip(netns, &format!("link set {link} up"));
        }
        ip(&inside, &format!("route add default via {PEER}"));
        ip(&outside, &format!("route add local {FAR} dev lo"));
        Self { inside, outside }
    }

    /// The container's namespace.
    pub fn inside(&self) -> PathBuf {
        self.inside.path()
    }

    /// The kernel's own counters of a namespace (`/proc/net/snmp` and `netstat`), by `Group.Name`.
    pub fn truth(netns: &Netns) -> HashMap<String, u64> {
        let text = netns
            .enter(|| {
                ["/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"]
                    .map(|path| std::fs::read_to_string(path).expect("every namespace has it"))
                    .concat()
            })
            .expect("the namespace can be entered");
        let lines: Vec<_> = text.lines().collect();
        lines
            .chunks_exact(2)
            .flat_map(|pair| {
                let group = pair[0].split(':').next().unwrap_or_default().to_owned();
                pair[0].split(' ').skip(1).zip(pair[1].split(' ').skip(1)).map(
                    move |(name, value)| {
                        (format!("{group}.{name}"), value.parse::<i64>().unwrap_or(0) as u64)
                    },
                )
            })
            .collect()
    }
}
