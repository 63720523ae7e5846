//! What `/proc` says of a container, whichever engine made it: its first process, its network namespace, its addresses.
//!
//! An engine's own word on these comes late (after the start) and is another one for each network driver; the kernel's
//! is the same for all of them.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Addresses kept of one container.
pub const ADDRESSES_MAX: usize = 16;

/// Largest file of `/proc` that is read: a routing table with many routes is cut, never unbounded.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Levels below a container's cgroup in which its processes are looked for (an init system's own slices).
const NESTING_MAX: usize = 4;

/// What is known of a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// First process in this pid namespace; 0 when none is there.
    pub pid: u32,
    /// Inode of its network namespace; 0 when unknown.
    pub netns: u64,
    /// Its addresses, none for a container on the host's network.
    pub addresses: Vec<IpAddr>,
    /// Shares the host's network namespace.
    pub host_network: bool,
}

/// Measures a container by its cgroup directory; `pid` is its first process where the engine has said it.
pub fn measure(directory: &Path, pid: u32, host_netns: u64) -> Facts {
    let pid = if pid != 0 && Path::new(&format!("/proc/{pid}")).exists() {
        pid
    } else {
        first_pid(directory, NESTING_MAX).unwrap_or(0)
    };
    if pid == 0 {
        return Facts::default();
    }
    let netns = netns(&pid.to_string()).unwrap_or(0);
    let host_network = netns != 0 && netns == host_netns;
    let addresses = if host_network || netns == 0 { Vec::new() } else { addresses(pid) };
    Facts { pid, netns, addresses, host_network }
}

/// Whether a container's cgroup, or one below it, has a process.
pub fn is_populated(directory: &Path) -> bool {
    first_pid(directory, NESTING_MAX).is_some()
}

/// The inode of a process's network namespace; `self` and `1` work too.
pub fn netns(pid: &str) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// The cgroup v2 path of a process, below the mount.
pub fn cgroup_of(pid: u32) -> Option<String> {
    read(&format!("/proc/{pid}/cgroup"))?
        .lines()
        .find_map(|line| line.strip_prefix("0::").map(str::to_owned))
}

/// This node's name.
pub fn node_name() -> Option<String> {
    let name = read("/proc/sys/kernel/hostname")?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// This boot's id, without which a cgroup id means nothing.
pub fn boot_id() -> Option<String> {
    Some(read("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn first_pid(directory: &Path, levels: usize) -> Option<u32> {
    let procs = read(directory.join("cgroup.procs").to_str()?)?;
    // The kernel lists them in no promised order: a container's first process has the lowest number, save for wrap-around.
    if let Some(pid) =
        procs.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).min()
    {
        return Some(pid);
    }
    if levels == 0 {
        return None;
    }
    std::fs::read_dir(directory)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| first_pid(&entry.path(), levels - 1))
}

fn addresses(pid: u32) -> Vec<IpAddr> {
    let v4 = read(&format!("/proc/{pid}/net/fib_trie")).map(|text| parse_fib_trie(&text));
    let v6 = read(&format!("/proc/{pid}/net/if_inet6")).map(|text| parse_if_inet6(&text));
    v4.into_iter().flatten().chain(v6.into_iter().flatten()).take(ADDRESSES_MAX).collect()
}

/// Local addresses in `fib_trie`: a leaf line with the address, followed by one that says `host LOCAL`.
fn parse_fib_trie(text: &str) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    let mut leaf = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line.ends_with("host LOCAL") {
            found.extend(leaf.filter(|address| !address.is_loopback()).map(IpAddr::V4));
        }
    }
    found
}

/// Addresses in `if_inet6`, without loopback and link-local ones.
fn parse_if_inet6(text: &str) -> BTreeSet<IpAddr> {
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|hex| hex.len() == 32)
        .filter_map(|hex| u128::from_str_radix(hex, 16).ok())
        .map(Ipv6Addr::from_bits)
        .filter(|address| !address.is_loopback() && !address.is_unicast_link_local())
        .map(IpAddr::V6)
        .collect()
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_told_from_networks_and_broadcasts() {
        let trie = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.88.0.0/16 2 0 2
        +-- 10.88.0.0/28 2 0 2
           |-- 10.88.0.0
              /16 link UNICAST
           |-- 10.88.0.5
              /32 host LOCAL
        |-- 10.88.255.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
Local:
           |-- 10.88.0.5
              /32 host LOCAL
";
        assert_eq!(
            parse_fib_trie(trie).into_iter().collect::<Vec<_>>(),
            ["10.88.0.5".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn addresses_that_only_the_link_knows_are_left_out() {
        let text = "20010db8000000000000000000000009 02 40 00 80 eth0
fe80000000000000000000fffe000001 02 40 20 80 eth0
00000000000000000000000000000001 01 80 10 80 lo
nonsense
";
        assert_eq!(
            parse_if_inet6(text).into_iter().collect::<Vec<_>>(),
            ["2001:db8::9".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn this_process_is_measured_like_any_other() {
        let own = std::process::id();
        let facts = measure(Path::new("/nonexistent"), own, netns("self").unwrap());
        assert_eq!(facts.pid, own);
        assert!(facts.host_network);
        assert_eq!(facts.addresses, Vec::<IpAddr>::new());
        assert!(cgroup_of(own).unwrap().starts_with('/'));
        assert_eq!(boot_id().unwrap().len(), 36);
    }

    #[test]
    fn a_cgroup_without_processes_has_no_facts() {
        assert_eq!(measure(Path::new("/nonexistent"), 0, 1), Facts::default());
    }
}
