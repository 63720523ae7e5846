//! What this kernel offers, what each piece is for, and what degrades or stays open without it: the table of `doctor`.
//!
//! Nothing here is guessed from a version where the kernel can be asked. Loading a program proves only that the kernel
//! takes it; that the values are right is what the tests compare with `/proc`.

use std::{fmt, fs, path::Path};

use aya::{
    maps::MapType,
    programs::{LsmAttachType, ProgramType},
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};

use crate::{btf::Btf, cgroup, observe::missing_fields};

/// How much of the product hangs on a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Nothing works without it.
    Needed,
    /// Something named degrades without it.
    Wanted,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there.
    Present,
    /// It is not, and this is why.
    Absent(String),
    /// The probe itself failed: usually for want of a capability.
    Unknown(String),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("present"),
            Self::Absent(cause) => write!(f, "absent: {cause}"),
            Self::Unknown(cause) => write!(f, "unknown: {cause}"),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Short name, never changed: scripts match on it.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// What degrades or stays open without it.
    pub without: &'static str,
    /// The first kernel that has it, as `major.minor`.
    pub since: &'static str,
    /// How much hangs on it.
    pub weight: Weight,
    /// What was found.
    pub state: State,
}

impl Feature {
    /// Whether it is there.
    pub fn is_present(&self) -> bool {
        self.state == State::Present
    }
}

/// A row before it was probed.
struct Row {
    name: &'static str,
    purpose: &'static str,
    without: &'static str,
    since: &'static str,
    weight: Weight,
    probe: fn() -> State,
}

const ROWS: [Row; 16] = [
    Row {
        name: "btf",
        purpose: "where fields lie in the kernel's structs",
        without: "nothing is observed: rebuild the kernel with CONFIG_DEBUG_INFO_BTF",
        since: "5.2",
        weight: Weight::Needed,
        probe: types,
    },
    Row {
        name: "kernel_fields",
        purpose: "paths, parents, users, origins and standard streams of processes, and foreign calls",
        without: "what needs a field that is missing stays empty in every record, or is not told apart",
        since: "5.12",
        weight: Weight::Wanted,
        probe: fields,
    },
    Row {
        name: "cgroup2",
        purpose: "which container did it, and where programs attach",
        without: "nothing is observed or enforced",
        since: "4.15",
        weight: Weight::Needed,
        probe: hierarchy,
    },
    Row {
        name: "bpffs",
        purpose: "pins that keep measures in force with every daemon dead",
        without: "measures end with the agent: `mount -t bpf bpf /sys/fs/bpf`",
        since: "4.4",
        weight: Weight::Needed,
        probe: pins,
    },
    Row {
        name: "raw_tracepoint",
        purpose: "counts of system calls",
        without: "no sequence or volume features of system calls",
        since: "4.17",
        weight: Weight::Needed,
        probe: || program(ProgramType::RawTracePoint),
    },
    Row {
        name: "tp_btf",
        purpose: "execs, forks, exits, and entries into containers",
        without: "no process behaviours and no origin of processes",
        since: "5.5",
        weight: Weight::Needed,
        probe: typed_tracepoints,
    },
    Row {
        name: "task_storage",
        purpose: "the container and the last calls of each task, in one load",
        without: "system calls and processes are not observed",
        since: "5.12",
        weight: Weight::Needed,
        probe: || helper(ProgramType::RawTracePoint, BpfHelper::BPF_FUNC_task_storage_get),
    },
    Row {
        name: "ring_buffer",
        purpose: "discrete acts on their way to user space",
        without: "no behaviours, only counts",
        since: "5.8",
        weight: Weight::Needed,
        probe: || map(MapType::RingBuf),
    },
    Row {
        name: "socket_storage",
        purpose: "the process behind each connection",
        without: "connections are seen without their process",
        since: "5.8",
        weight: Weight::Wanted,
        probe: || helper(ProgramType::CgroupSkb, BpfHelper::BPF_FUNC_sk_storage_get),
    },
    Row {
        name: "cgroup_skb",
        purpose: "flows, and the verdict on packets in both directions",
        without: "nothing is enforced",
        since: "4.10",
        weight: Weight::Needed,
        probe: || program(ProgramType::CgroupSkb),
    },
    Row {
        name: "cgroup_sock_addr",
        purpose: "early, clear refusals of connect and UDP send",
        without: "a refused connection times out instead of failing at once",
        since: "4.17",
        weight: Weight::Wanted,
        probe: || program(ProgramType::CgroupSockAddr),
    },
    Row {
        name: "get_retval",
        purpose: "whether a guard refused the call that is being observed",
        without: "refused attempts are counted as made",
        since: "5.18",
        weight: Weight::Wanted,
        probe: || helper(ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_get_retval),
    },
    Row {
        name: "tcx",
        purpose: "quarantine of what bypasses sockets: AF_PACKET, tunnels, the kernel's own replies",
        without: "quarantine leaves raw frames and ping replies open",
        since: "6.6",
        weight: Weight::Wanted,
        probe: || since(6, 6),
    },
    Row {
        name: "lsm",
        purpose: "refusal of packet sockets where a container has no interface of its own",
        without: "a container on the host's network can send raw frames under quarantine",
        since: "5.7",
        weight: Weight::Wanted,
        probe: lsm,
    },
    Row {
        name: "socket_matching",
        purpose: "the container behind a packet's socket",
        without: "net_cls or net_prio is in use, which turns it off before 5.15: nothing is enforced",
        since: "5.15",
        weight: Weight::Needed,
        probe: socket_matching,
    },
    Row {
        name: "jit",
        purpose: "programs as machine code",
        without: "every system call and packet costs several times more",
        since: "3.16",
        weight: Weight::Wanted,
        probe: jit,
    },
];

/// Probes everything, in the order in which a person should read it.
pub fn probe() -> Vec<Feature> {
    ROWS.iter()
        .map(|row| Feature {
            name: row.name,
            purpose: row.purpose,
            without: row.without,
            since: row.since,
            weight: row.weight,
            state: (row.probe)(),
        })
        .collect()
}

fn present_if(yes: bool, cause: &str) -> State {
    if yes { State::Present } else { State::Absent(cause.into()) }
}

fn answered<E: std::error::Error>(answer: Result<bool, E>) -> State {
    match answer {
        Ok(yes) => present_if(yes, "the kernel does not have it"),
        Err(error) => {
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            State::Unknown(cause)
        }
    }
}

fn program(kind: ProgramType) -> State {
    answered(is_program_supported(kind))
}

fn map(kind: MapType) -> State {
    answered(is_map_supported(kind))
}

fn helper(kind: ProgramType, helper: BpfHelper) -> State {
    answered(is_helper_supported(kind, helper))
}

fn types() -> State {
    match Btf::of_kernel() {
        Ok(_) => State::Present,
        Err(error) => State::Absent(error.to_string()),
    }
}

fn fields() -> State {
    match Btf::of_kernel() {
        Ok(types) => {
            let missing = missing_fields(&types);
            present_if(missing.is_empty(), &format!("the kernel lacks {}", missing.join(", ")))
        }
        Err(error) => State::Unknown(error.to_string()),
    }
}

/// Asked of the types: the kernel's own probe program is of another kind, which lockdown refuses.
fn typed_tracepoints() -> State {
    match Btf::of_kernel() {
        Ok(types) => present_if(
            types.has_tracepoint("sched_process_exec"),
            "the kernel has no typed tracepoints",
        ),
        Err(error) => State::Absent(error.to_string()),
    }
}

fn hierarchy() -> State {
    match cgroup::root() {
        Ok(_) => State::Present,
        Err(error) => State::Absent(error.to_string()),
    }
}

fn pins() -> State {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts.lines().any(|line| line.split(' ').nth(2) == Some("bpf"));
    present_if(mounted, "no bpf file system is mounted")
}

fn lsm() -> State {
    // Not there where securityfs is not mounted: then only the program tells.
    let active = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_else(|_| "bpf".into());
    if !active.split(',').any(|name| name.trim() == "bpf") {
        return State::Absent("`bpf` is not in the kernel's `lsm=` list".into());
    }
    match program(ProgramType::Lsm(LsmAttachType::Mac)) {
        State::Unknown(cause) => State::Absent(format!("the kernel refused the program: {cause}")),
        found => found,
    }
}

fn jit() -> State {
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable") {
        Ok(value) => present_if(value.trim() != "0", "net.core.bpf_jit_enable is 0"),
        Err(error) => State::Unknown(format!("/proc/sys/net/core/bpf_jit_enable: {error}")),
    }
}

/// Before 5.15 the socket's cgroup pointer shared its place with the class of `net_cls` and `net_prio`.
fn socket_matching() -> State {
    if since(5, 15) == State::Present {
        return State::Present;
    }
    let table = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    present_if(!uses_classes(&table), "a net_cls or net_prio hierarchy is mounted")
}

/// Whether `/proc/cgroups` has one of the two controllers on a hierarchy of its own.
fn uses_classes(table: &str) -> bool {
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields.as_slice(), ["net_cls" | "net_prio", hierarchy, ..] if *hierarchy != "0")
    })
}

fn since(major: u32, minor: u32) -> State {
    let release = fs::read_to_string(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default();
    match version(&release) {
        Some(running) => {
            present_if(running >= (major, minor), &format!("the kernel is {}", release.trim()))
        }
        None => State::Unknown(format!("the kernel's version is not understood: {release:?}")),
    }
}

/// Major and minor number of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_says_what_is_lost() {
        let mut names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
        assert!(ROWS.iter().all(|row| !row.without.is_empty() && version(row.since).is_some()));
    }

    #[test]
    fn a_release_is_read_up_to_its_minor_number() {
        assert_eq!(version("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(version("5.10.0-30-cloud-amd64"), Some((5, 10)));
        assert_eq!(version("next"), None);
    }

    #[test]
    fn a_class_controller_counts_only_on_a_hierarchy_of_its_own() {
        let head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";
        assert!(uses_classes(&format!("{head}net_cls\t5\t1\t1\n")));
        assert!(!uses_classes(&format!("{head}net_cls\t0\t1\t1\nnet_prio\t0\t1\t1\n")));
    }
}
