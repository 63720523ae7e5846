//! What a group of tests needs of the machine, and what happens when the machine has not got it.
//!
//! A group that cannot run prints `SKIP <group>: <cause>` and returns; with `CI` set it fails instead, so that a
//! pipeline never passes on tests that did not happen.

use std::{fs, path::PathBuf};

use crate::command::exists;

/// One thing that a machine may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Being user 0.
    Root,
    /// Kernel type information and the capability to load programs.
    Bpf,
    /// A cgroup v2 hierarchy, wherever it is mounted.
    Cgroup2,
    /// Network namespaces and the `ip` command.
    Netns,
    /// Podman, its network helpers and runc.
    Podman,
    /// The Docker daemon and a client.
    Docker,
    /// runc by itself.
    Runc,
    /// What container images are made of.
    Images,
}

impl Need {
    /// Why this machine has not got it; nothing when it has.
    pub fn lacking(self) -> Option<String> {
        match self {
            Self::Root => {
                (!rustix::process::geteuid().is_root()).then(|| "it needs root".to_owned())
            }
            Self::Bpf => bpf_lacking(),
            Self::Cgroup2 => {
                cgroup2().is_none().then(|| "no cgroup v2 hierarchy is mounted".to_owned())
            }
            Self::Netns => programs(&["ip", "nsenter"], "containers"),
            Self::Podman => programs(&["podman", "runc", "conmon", "iptables"], "containers")
                .or_else(|| {
                    let helpers = ["netavark", "aardvark-dns"];
                    let found = helpers.iter().all(|name| crate::podman::helper(name).is_some());
                    (!found).then(|| {
                        "netavark or aardvark-dns is missing; `cargo xtask setup containers`"
                            .to_owned()
                    })
                }),
            Self::Docker => {
                programs(&["dockerd", "docker", "containerd", "runc", "iptables"], "containers")
            }
            Self::Runc => programs(&["runc", "busybox"], "containers"),
            Self::Images => programs(&["debootstrap", "tar"], "containers"),
        }
    }
}

/// Whether a group of tests can run here. When not, says why and returns false, or fails if `CI` is set.
///
/// # Panics
///
/// With `CI` set, when something is missing: there a test that cannot run is a test that failed.
pub fn met(group: &str, needs: &[Need]) -> bool {
    let Some(cause) = needs.iter().find_map(|need| need.lacking()) else { return true };
    assert!(std::env::var_os("CI").is_none(), "{group} cannot run, and CI is set: {cause}");
    // To the terminal itself: the test runner swallows what a passing test prints.
    report_skip(&format!("SKIP {group}: {cause}"));
    false
}

/// Where the cgroup v2 hierarchy is mounted: the root of a unified layout, a branch of a hybrid one.
pub fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let point = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(point.replace("\\040", " ")))
    })
}

fn programs(names: &[&str], group: &str) -> Option<String> {
    let missing: Vec<_> = names.iter().copied().filter(|name| !exists(name)).collect();
    (!missing.is_empty()).then(|| {
        format!("{} is not installed; `cargo xtask setup {group}` does it", missing.join(", "))
    })
}

fn bpf_lacking() -> Option<String> {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    const CAP_BPF: u64 = 1 << 39;
    if !PathBuf::from("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no type information (CONFIG_DEBUG_INFO_BTF)".to_owned());
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    (effective & (CAP_BPF | CAP_SYS_ADMIN) == 0)
        .then(|| "loading BPF programs is not permitted here".to_owned())
}

fn report_skip(line: &str) {
    use std::io::Write as _;
    let mut err = std::io::stderr().lock();
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(err, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_remedy() {
        let cause = programs(&["sh", "no-such-program"], "containers").unwrap();
        assert!(cause.starts_with("no-such-program is not installed"), "{cause}");
        assert!(cause.contains("cargo xtask setup containers"));
    }

    #[test]
    fn nothing_is_lacking_when_every_program_is_there() {
        assert_eq!(programs(&["sh"], "containers"), None);
    }
}
