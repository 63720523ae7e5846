//! The observers: what the kernel counts and reports of containers, as plain values.
//!
//! They live as long as the [`Observer`]: nothing is pinned but the shared map `SLOTS`, which belongs to the guards.

pub mod dns;
mod event;
mod layout;
pub mod memory;
pub mod network;
pub mod process;
mod ring;
mod slots;
pub mod syscall;

use std::{
    collections::BTreeSet,
    fs::File,
    os::fd::{AsFd as _, AsRawFd, RawFd},
    path::{Path, PathBuf},
};

use aya::{Btf, Ebpf, EbpfLoader, maps::MapInfo};
use bulkhead_abi::slot::{SLOTS_MAX, Slot};

pub use self::event::Event;
pub(crate) use self::layout::missing as missing_fields;
use self::{network::Network, process::Processes, ring::Ring, slots::Slots, syscall::Syscalls};
use crate::{cgroup::CgroupError, error::ObserveError, objects};

/// What to observe, and where the shared map is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Cgroup v2 directory at which the network programs attach.
    pub cgroup_root: PathBuf,
    /// Where the guards pinned `SLOTS`; `None` observes with a map of its own.
    pub pin_dir: Option<PathBuf>,
    /// Most containers at once, 1..[`SLOTS_MAX`]: memory of counters grows with it, by [`memory::bytes_max`].
    pub slots_max: u32,
}

/// The running observers.
pub struct Observer {
    /// Flows and network counters.
    pub network: Network,
    /// System calls.
    pub syscalls: Syscalls,
    /// Processes.
    pub processes: Processes,
    slots: Slots,
    ring: Ring,
    ebpf: Ebpf,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("ring", &self.ring.as_raw_fd()).finish_non_exhaustive()
    }
}

/// Maps with one element per container.
const PER_SLOT: [&str; 6] =
    ["CALL_COUNTERS", "RUNS", "PROCESSES", "NETWORK", "FLOWS_REMOVED", "QUOTAS"];

impl Observer {
    /// Loads and attaches every program.
    ///
    /// Guards come first where there are any: programs attached before these tell them whether they refused a call.
    pub fn load(config: &Config) -> Result<Self, ObserveError> {
        let types = crate::btf::Btf::of_kernel().map_err(ObserveError::Btf)?;
        let kernel = Btf::from_sys_fs().map_err(ObserveError::KernelBtf)?;
        let offsets = layout::offsets(&types);
        let watched = syscall::watched();
        let arguments = layout::arguments(&types);
        // Index 0 stands for "no container".
        let slots = config.slots_max.clamp(1, SLOTS_MAX - 1) + 1;
        let pin = config.pin_dir.as_ref().map(|dir| dir.join("SLOTS"));
        let mut loader = EbpfLoader::new();
        // Task storage and a socket storage with `BPF_F_CLONE` are maps that aya has no type for.
        loader.btf(Some(&kernel)).allow_unsupported_maps();
        for (name, offset) in &offsets {
            loader.override_global(name, offset, true);
        }
        loader.override_global("WATCHED", &watched, true);
        loader.override_global("REGS_ARGUMENTS", &arguments, true);
        let status = layout::FOREIGN_STATUS;
        loader.override_global("STATUS_FOREIGN", &status, true);
        let special = syscall::special();
        for (name, number) in &special {
            loader.override_global(name, number, true);
        }
        for map in PER_SLOT {
            loader.map_max_entries(map, slots);
        }
        loader.map_max_entries("NGRAMS", 2 * slots);
        if let Some(pin) = &pin {
            loader.map_pin_path("SLOTS", pin.as_path());
        }
        let mut ebpf = loader.load(objects::OBSERVE).map_err(ObserveError::Load)?;
        let cgroup = open(&config.cgroup_root)?;
        let slots = Slots::take(&mut ebpf)?;
        let ring = Ring::take(&mut ebpf)?;
        let processes = Processes::attach(&mut ebpf, &kernel)?;
        let syscalls = Syscalls::attach(&mut ebpf)?;
        let network = Network::attach(&mut ebpf, &cgroup)?;
        Ok(Self { network, syscalls, processes, slots, ring, ebpf })
    }

    /// Gives a cgroup a slot, or changes it; tasks of the cgroup notice at their next call.
    pub fn claim_slot(&mut self, cgroup: u64, slot: Slot) -> Result<(), ObserveError> {
        self.slots.claim(cgroup, slot)
    }

    /// Takes the slot away, and forgets the flows that belonged to it. Counters stay: they only grow.
    pub fn release_slot(&mut self, cgroup: u64) -> Result<(), ObserveError> {
        if let Some(slot) = self.slots.release(cgroup)? {
            self.network.forget(slot.index)?;
        }
        Ok(())
    }

    /// The slot of a cgroup, as the map has it.
    pub fn slot(&self, cgroup: u64) -> Option<Slot> {
        self.slots.of(cgroup)
    }

    /// The container runs already: whoever enters it from now on comes from outside.
    pub fn mark_started(&mut self, cgroup: u64) -> Result<(), ObserveError> {
        self.slots.mark_started(cgroup)
    }

    /// Switches the half of the n-gram bitmaps that fills; the other one holds what was marked since the last switch.
    ///
    /// Read it with [`Syscalls::take_ngrams`] after some milliseconds, when no program is still writing to it.
    pub fn switch_ngrams(&mut self) -> Result<(), ObserveError> {
        self.slots.switch_half()
    }

    /// The half of the n-gram bitmaps that was filled before the last switch.
    pub fn filled_half(&self) -> Result<usize, ObserveError> {
        self.slots.filled_half()
    }

    /// The next discrete event; `None` when the ring is empty. Records that make no sense are counted and passed over.
    #[expect(clippy::should_implement_trait, reason = "an empty ring is no end: more may come")]
    pub fn next(&mut self) -> Option<Event> {
        self.ring.next()
    }

    /// Records of the ring that made no sense: an object of another version.
    pub fn malformed(&self) -> u64 {
        self.ring.malformed()
    }

    /// Memory of all maps in bytes, as the kernel accounts for it.
    pub fn memory(&self) -> Result<u64, ObserveError> {
        let mut maps = BTreeSet::new();
        for (_, program) in self.ebpf.programs() {
            let ids =
                program.info().and_then(|info| info.map_ids()).map_err(ObserveError::Memory)?;
            maps.extend(ids.into_iter().flatten());
        }
        let mut bytes = 0;
        for id in maps {
            let fd = MapInfo::from_id(id)
                .and_then(|info| info.fd())
                .map_err(|source| ObserveError::Map { map: "of a program", source })?;
            bytes += fdinfo(fd.as_fd().as_raw_fd(), "memlock").unwrap_or(0);
        }
        Ok(bytes)
    }

    /// Runs of programs that the kernel skipped, by program: they are losses too.
    pub fn skipped_runs(&self) -> Vec<(String, u64)> {
        let mut skipped = Vec::new();
        for (name, program) in self.ebpf.programs() {
            if let Ok(fd) = program.fd()
                && let Some(misses) = fdinfo(fd.as_fd().as_raw_fd(), "recursion_misses")
                && misses > 0
            {
                skipped.push((name.to_owned(), misses));
            }
        }
        skipped
    }
}

impl AsRawFd for Observer {
    /// Readable when the ring holds an event.
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// A number in `/proc/self/fdinfo/FD`.
fn fdinfo(fd: RawFd, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
}

fn open(root: &Path) -> Result<File, ObserveError> {
    File::open(root)
        .map_err(|source| CgroupError::Open { path: root.display().to_string(), source }.into())
}

/// A named map of the object, as its aya type.
macro_rules! take_map {
    ($ebpf:expr, $name:literal) => {
        $ebpf
            .take_map($name)
            .ok_or($crate::error::ObserveError::MissingMap { map: $name })?
            .try_into()
            .map_err(|source| $crate::error::ObserveError::Map { map: $name, source })?
    };
}
use take_map;
