//! What each purpose needs, and how to tell whether it is there.

use std::path::{Path, PathBuf};

use bulkhead_tests::{command::find, podman};

use crate::ebpf;

/// A purpose that a machine can be prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Group {
    /// Building the programs that run in the kernel.
    Ebpf,
    /// Real containers: engines, runtimes, networks, and images made on the spot.
    Containers,
    /// What the benchmarks compare with.
    Bench,
}

/// Something that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Its name where it comes from.
    pub(crate) name: &'static str,
    /// What it is for, and how long it takes where that is worth knowing.
    pub(crate) purpose: &'static str,
    /// Where it comes from.
    pub(crate) source: Source,
}

/// Where something is installed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A package of the distribution.
    Apt,
    /// A crate with a binary, of exactly this version.
    Crate(&'static str),
}

impl Group {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Containers => "containers",
            Self::Bench => "bench",
        }
    }

    /// What this machine lacks for the purpose.
    pub(crate) fn missing(self) -> Vec<Missing> {
        let rows = match self {
            Self::Ebpf => return kernel_programs(),
            Self::Containers => CONTAINERS,
            Self::Bench => BENCH,
        };
        let absent = rows.iter().filter(|row| !row.probe.is_there());
        absent
            .map(|row| Missing { name: row.package, purpose: row.purpose, source: Source::Apt })
            .collect()
    }
}

/// A package, what tells that it is there, and why it is wanted.
struct Row {
    package: &'static str,
    probe: Probe,
    purpose: &'static str,
}

/// What tells that a package is there, whichever way it came.
enum Probe {
    Program(&'static str),
    PodmanHelper(&'static str),
    File(&'static str),
}

impl Probe {
    fn is_there(&self) -> bool {
        match self {
            Self::Program(name) => find(name).is_some(),
            Self::PodmanHelper(name) => podman::helper(name).is_some(),
            Self::File(path) => Path::new(path).exists(),
        }
    }
}

const fn program(package: &'static str, name: &'static str, purpose: &'static str) -> Row {
    Row { package, probe: Probe::Program(name), purpose }
}

const CONTAINERS: &[Row] = &[
    program("podman", "podman", "the engine of the demo and of most tests"),
    program("runc", "runc", "what engines start containers with"),
    program("docker.io", "dockerd", "the other engine of the tests"),
    program("containerd", "containerd", "what Docker stands on"),
    Row {
        package: "netavark",
        probe: Probe::PodmanHelper("netavark"),
        purpose: "Podman's networks",
    },
    Row {
        package: "aardvark-dns",
        probe: Probe::PodmanHelper("aardvark-dns"),
        purpose: "Podman's resolver",
    },
    program("iptables", "iptables", "address translation of container networks"),
    program("nftables", "nft", "the kernel side of iptables"),
    program("catatonit", "catatonit", "the first process of containers that ask for one"),
    program("debootstrap", "debootstrap", "makes the application image, since none is pulled"),
    program("busybox-static", "busybox", "makes the small image"),
    program("iproute2", "ip", "network namespaces"),
    Row {
        package: "ca-certificates",
        probe: Probe::File("/etc/ssl/certs/ca-certificates.crt"),
        purpose: "package sources over TLS",
    },
];

const BENCH: &[Row] = &[
    program("bpftrace", "bpftrace", "what the system call path is compared with"),
    program("wrk", "wrk", "the load on nginx"),
    program("nginx-light", "nginx", "the server under that load"),
];

/// The version that links what the pinned compiler emits and builds without a system LLVM.
const BPF_LINKER: &str = "0.10.1";

/// A core library for the kernel's target comes from a nightly with its sources, or ready made from Debian.
fn kernel_programs() -> Vec<Missing> {
    let mut missing = Vec::new();
    if !ebpf::has_nightly_sources() {
        let library = format!("/usr/lib/rustlib/{}", ebpf::target());
        let debian = [
            (
                "rustc-web",
                "/usr/bin/rustc",
                "a compiler whose core library exists for the kernel's target",
            ),
            ("cargo-web", "/usr/bin/cargo", "the cargo that goes with it"),
            ("libstd-rust-web-dev-bpf", &library, "that core library"),
        ];
        for (name, path, purpose) in debian {
            if !Path::new(path).exists() {
                missing.push(Missing { name, purpose, source: Source::Apt });
            }
        }
    }
    if find("bpf-linker").is_none() && !cargo_home().join("bin/bpf-linker").is_file() {
        let purpose = "links the kernel's programs; about 2 minutes to build";
        missing.push(Missing { name: "bpf-linker", purpose, source: Source::Crate(BPF_LINKER) });
    }
    missing
}

fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_installed_again() {
        assert!(Probe::Program("sh").is_there());
        assert!(!Probe::Program("no-such-program").is_there());
        assert!(Probe::File("/proc/self").is_there());
    }

    #[test]
    fn every_package_says_what_it_is_for() {
        for row in CONTAINERS.iter().chain(BENCH) {
            assert!(!row.purpose.is_empty(), "{} has no purpose", row.package);
        }
    }
}
