//! The guards: programs that refuse and drop, and the leases they go by. Programs, links and maps are pinned, so all of it
//! outlives this process; [`Guard::open`] works on the pins alone.
//!
//! The enforcer states *all* rules that should be in force ([`Guard::apply`]); this computes what differs from what the
//! kernel holds and writes only that, in an order in which no container is without a lease it had and keeps. So applying
//! is idempotent, and one measure more costs a few writes.

pub mod error;
mod install;
mod map;
pub mod rule;
pub mod table;
mod wall;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_abi::ABI_VERSION;
use bulkhead_abi::guard::{
    GuardCounters, Hits, Interface, Lease, LeaseKey, SHAPES_MAX, Scope, ScopeKey, Settings, Shape,
};
use bulkhead_abi::slot::{FLAG_UNRESOLVED, Slot};

pub use error::GuardError;
use map::{Cells, Table};
pub use rule::{Lists, PeerPattern, Rule, What, Who};
use table::Tables;
pub use wall::Wall;

/// Where and over what the guards stand.
#[derive(Clone, Debug)]
pub struct Config {
    /// Root of the guarded part of the cgroup v2 hierarchy.
    pub cgroup_root: PathBuf,
    /// Directory of the pins, on a bpffs.
    pub pin_dir: PathBuf,
    /// How long a new container is held back while nobody has named it.
    pub hold: Duration,
}

/// What a call to [`Guard::apply`] changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Leases and scopes written.
    pub written: usize,
    /// Leases and scopes removed.
    pub removed: usize,
}

/// A container that nobody has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// Its cgroup.
    pub cgroup: u64,
    /// Until when (boot time, ns) it is held back.
    pub until_ns: u64,
}

/// The pinned guards.
pub struct Guard {
    pins: PathBuf,
    slots: Table<u64, Slot>,
    leases: Table<LeaseKey, Lease>,
    scopes: Table<ScopeKey, Scope>,
    shapes: Cells<Shape>,
    node: Cells<Scope>,
    settings: Cells<Settings>,
    hits: Table<u64, Hits>,
    disarmed: Table<u64, u64>,
    parents: Table<u64, u32>,
    interfaces: Table<u32, Interface>,
    counters: Cells<GuardCounters>,
    /// What the kernel holds, as of the last look.
    held: Tables,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("pins", &self.pins).finish_non_exhaustive()
    }
}

impl Guard {
    /// Loads and attaches the guards over `config.cgroup_root`. Where guards of the same ABI are pinned already, their maps
    /// and so every lease in force are taken over, and the new programs are attached before the old ones are detached.
    pub fn install(config: &Config) -> Result<Self, GuardError> {
        install::install(config)?;
        Self::open(&config.pin_dir)
    }

    /// Opens pinned guards, for whoever shows or ends measures with every daemon dead.
    pub fn open(pin_dir: &Path) -> Result<Self, GuardError> {
        install::check_abi(pin_dir)?;
        let mut guard = Self {
            pins: pin_dir.into(),
            slots: Table::open(pin_dir, "SLOTS")?,
            leases: Table::open(pin_dir, "LEASES")?,
            scopes: Table::open(pin_dir, "SCOPES")?,
            shapes: Cells::open(pin_dir, "SHAPES")?,
            node: Cells::open(pin_dir, "NODE")?,
            settings: Cells::open(pin_dir, "SETTINGS")?,
            hits: Table::open(pin_dir, "HITS")?,
            disarmed: Table::open(pin_dir, "DISARMED")?,
            parents: Table::open(pin_dir, "PARENTS")?,
            interfaces: Table::open(pin_dir, "INTERFACES")?,
            counters: Cells::open(pin_dir, "GUARD_COUNTERS")?,
            held: Tables::default(),
        };
        guard.look()?;
        Ok(guard)
    }

    /// Removes every pin: all measures end, and the programs are detached.
    pub fn uninstall(pin_dir: &Path) -> Result<(), GuardError> {
        install::uninstall(pin_dir)
    }

    /// Reads what the kernel holds, because someone else may have changed it.
    pub fn look(&mut self) -> Result<(), GuardError> {
        let mut held = Tables {
            leases: self.leases.entries()?.into_iter().collect(),
            scopes: self.scopes.entries()?.into_iter().collect(),
            node: [self.node.at(0)?, self.node.at(1)?],
            measures: self.hits.entries()?.into_iter().map(|(id, _)| id).collect(),
            neighbours: self.settings.at(0)?.neighbours != 0,
            ..Tables::default()
        };
        for index in 0..SHAPES_MAX {
            held.shapes[index as usize] = self.shapes.at(index)?;
        }
        self.held = held;
        Ok(())
    }

    /// The rules and lists in force, as the kernel holds them. Of rules that share scope and peers only the one that lasts
    /// longest is there.
    pub fn rules(&self) -> (Vec<Rule>, Lists) {
        table::decompile(&self.held)
    }

    /// Makes these rules and lists the ones in force, and no others.
    ///
    /// New leases are written before old ones are removed, and leases before the scopes that point to them.
    pub fn apply(&mut self, rules: &[Rule], lists: &Lists) -> Result<Changes, GuardError> {
        let wanted = table::compile(rules, lists, &self.held.shapes)?;
        let result = self.write(&wanted);
        if result.is_err() {
            // Whatever has been written is what is held.
            self.look()?;
        }
        result
    }

    fn write(&mut self, wanted: &Tables) -> Result<Changes, GuardError> {
        let held = std::mem::take(&mut self.held);
        let mut changes = Changes::default();
        for (index, shape) in (0..).zip(&wanted.shapes) {
            if shape.live != 0 && held.shapes[index as usize] != *shape {
                self.shapes.put(index, *shape)?;
            }
        }
        for id in wanted.measures.difference(&held.measures) {
            self.hits.put_new(*id, Hits::default())?;
        }
        for (key, lease) in &wanted.leases {
            if held.leases.get(key) != Some(lease) {
                self.leases.put(*key, *lease)?;
                changes.written += 1;
            }
        }
        // Counters, leases, scopes, and the switch last: a program that sees a scope finds all it points to.
        let mut settings = self.settings.at(0)?;
        settings.neighbours = u32::from(wanted.neighbours);
        if wanted.armed() {
            settings.armed = 1;
            self.settings.put(0, settings)?;
        }
        for (index, scope) in (0..).zip(&wanted.node) {
            if held.node[index as usize] != *scope {
                self.node.put(index, *scope)?;
                changes.written += 1;
            }
        }
        for (key, scope) in &wanted.scopes {
            if held.scopes.get(key) != Some(scope) {
                self.scopes.put(*key, *scope)?;
                changes.written += 1;
            }
        }
        for key in held.scopes.keys().filter(|k| !wanted.scopes.contains_key(k)) {
            self.scopes.remove(*key)?;
            changes.removed += 1;
        }
        for key in held.leases.keys().filter(|k| !wanted.leases.contains_key(k)) {
            self.leases.remove(*key)?;
            changes.removed += 1;
        }
        for (index, shape) in (0..).zip(&wanted.shapes) {
            if shape.live == 0 && held.shapes[index as usize].live != 0 {
                self.shapes.put(index, *shape)?;
            }
        }
        for id in held.measures.difference(&wanted.measures) {
            self.hits.remove(*id)?;
        }
        if !wanted.armed() {
            settings.armed = 0;
            self.settings.put(0, settings)?;
        }
        self.held = wanted.clone();
        Ok(changes)
    }

    /// What a measure has stopped so far; `None` when it is not in force.
    pub fn hits(&self, measure: u64) -> Result<Option<Hits>, GuardError> {
        self.hits.find(measure)
    }

    /// What the guards count for the whole node.
    pub fn counters(&self) -> Result<GuardCounters, GuardError> {
        self.counters.at(0)
    }

    /// Ends measures for good, as a person does with every daemon dead: their rules go, and the daemon that comes back
    /// finds the mark and does not bring them back. `None` ends all but `keep`. Returns the ids that were in force.
    pub fn disarm(&mut self, measure: Option<u64>, keep: &[u64]) -> Result<Vec<u64>, GuardError> {
        self.look()?;
        let (rules, lists) = self.rules();
        let ends = |id: u64| measure.map_or(!keep.contains(&id), |m| m == id);
        let ended: BTreeSet<u64> =
            self.held.measures.iter().copied().filter(|id| ends(*id)).collect();
        let now = boot_ns();
        for id in &ended {
            self.disarmed.put(*id, now)?;
        }
        let left: Vec<Rule> = rules.into_iter().filter(|r| !ends(r.measure)).collect();
        self.apply(&left, &lists)?;
        Ok(ended.into_iter().collect())
    }

    /// Measures that were ended with [`Self::disarm`] since this machine started.
    pub fn disarmed(&self) -> Result<Vec<u64>, GuardError> {
        Ok(self.disarmed.entries()?.into_iter().map(|(id, _)| id).collect())
    }

    /// Forgets the mark of a measure, once the ledger knows.
    pub fn forget_disarmed(&mut self, measure: u64) -> Result<(), GuardError> {
        self.disarmed.remove(measure)
    }

    /// Names a cgroup's container, where the collector has not: its counters' index stays.
    pub fn name(&mut self, cgroup: u64, container: u64, workload: u64) -> Result<(), GuardError> {
        let slot = match self.slots.find(cgroup)? {
            Some(slot) if slot.container == container && slot.workload == workload => return Ok(()),
            found => found.unwrap_or_default(),
        };
        let flags = slot.flags & !FLAG_UNRESOLVED;
        self.slots.put(cgroup, Slot { flags, container, workload, unresolved_until_ns: 0, ..slot })
    }

    /// Forgets a cgroup, unless the collector still counts it.
    pub fn forget(&mut self, cgroup: u64) -> Result<(), GuardError> {
        match self.slots.find(cgroup)? {
            Some(slot) if slot.index == 0 => self.slots.remove(cgroup),
            _ => Ok(()),
        }
    }

    /// The slot of a cgroup.
    pub fn slot(&self, cgroup: u64) -> Result<Option<Slot>, GuardError> {
        self.slots.find(cgroup)
    }

    /// Cgroups that nobody has named, those that were let through included.
    pub fn unresolved(&self) -> Result<Vec<Unresolved>, GuardError> {
        let slots = self.slots.entries()?.into_iter();
        Ok(slots
            .filter(|(_, slot)| slot.flags & FLAG_UNRESOLVED != 0)
            .map(|(cgroup, slot)| Unresolved { cgroup, until_ns: slot.unresolved_until_ns })
            .collect())
    }

    /// Takes every child of that cgroup, from now on, for a container that waits for its name.
    pub fn watch_parent(&mut self, cgroup: u64) -> Result<(), GuardError> {
        self.parents.put(cgroup, 1)
    }

    /// How long a new container is held back.
    pub fn hold(&self) -> Result<Duration, GuardError> {
        Ok(Duration::from_nanos(self.settings.at(0)?.hold_ns))
    }

    /// Puts a wall at the host's end of a container's link, for what never reaches a socket hook. Repeating it renews who
    /// stands behind it.
    pub fn put_wall(&mut self, ifindex: u32, owner: Wall) -> Result<(), GuardError> {
        self.interfaces.put(ifindex, owner.record())?;
        wall::attach(&self.pins, ifindex)
    }

    /// Takes a wall away.
    pub fn remove_wall(&mut self, ifindex: u32) -> Result<(), GuardError> {
        wall::detach(&self.pins, ifindex)?;
        self.interfaces.remove(ifindex)
    }

    /// Interfaces with a wall, and the containers behind them.
    pub fn walls(&self) -> Result<Vec<(u32, Wall)>, GuardError> {
        let entries = self.interfaces.entries()?.into_iter();
        Ok(entries.map(|(index, interface)| (index, Wall::of(interface))).collect())
    }
}

/// The ABI that pins of this build have.
pub const fn abi() -> u32 {
    ABI_VERSION
}

/// Boot time now, in ns: the clock of leases. It goes on while the machine sleeps.
pub fn boot_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec; the clock exists since Linux 2.6.39, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
