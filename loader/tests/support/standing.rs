//! Guards over a cgroup of a test's own, pinned in a directory of its own, gone with the test.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_loader::guard::{Config, Guard, Lists, PeerPattern, Rule, What, Who, boot_ns};
use bulkhead_tests::requirement::{Need, met};
use bulkhead_tests::scratch::unique;

use super::container::Cgroup;

/// The container scope that tests give to [`Standing::container`]s, plus their number.
pub const CONTAINER: u64 = 0xc000;
/// The workload of all of them.
pub const WORKLOAD: u64 = 0x3000;

/// Standing guards.
pub struct Standing {
    /// The guarded cgroup; containers are its children.
    pub root: Cgroup,
    /// The guards.
    pub guard: Guard,
    /// Where they are pinned.
    pub pins: PathBuf,
    named: u64,
}

impl Standing {
    /// Installs guards, or says why this machine cannot.
    pub fn open(group: &str) -> Option<Self> {
        Self::holding(group, Duration::from_secs(5))
    }

    /// The same, with another time for which new containers are held back.
    pub fn holding(group: &str, hold: Duration) -> Option<Self> {
        if !met(group, &[Need::Root, Need::Bpf, Need::Cgroup2, Need::Netns]) {
            return None;
        }
        let root = Cgroup::root("guard");
        let pins = PathBuf::from(format!("/sys/fs/bpf/bh-test-{}", unique()));
        let config = Config { cgroup_root: root.path().into(), pin_dir: pins.clone(), hold };
        let guard = Guard::install(&config).expect("this machine loads programs");
        Some(Self { root, guard, pins, named: 0 })
    }

    /// The configuration that they were installed with.
    pub fn config(&self) -> Config {
        Config {
            cgroup_root: self.root.path().into(),
            pin_dir: self.pins.clone(),
            hold: self.guard.hold().expect("the pins are there"),
        }
    }

    /// Makes a container and names it. Its scope is [`CONTAINER`] plus its number, from 1.
    pub fn container(&mut self, name: &str) -> Cgroup {
        let cgroup = self.root.child(name);
        self.named += 1;
        self.guard.name(cgroup.id(), CONTAINER + self.named, WORKLOAD).expect("there is a slot");
        cgroup
    }

    /// Applies these rules alone.
    pub fn apply(&mut self, rules: &[Rule]) {
        self.guard.apply(rules, &Lists::default()).expect("the rules fit");
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        Guard::uninstall(&self.pins).expect("what was pinned can be removed");
    }
}

/// A manual deny for a minute.
pub fn deny(measure: u64, who: Who, peers: PeerPattern) -> Rule {
    let what = What::Deny { peers, manual: true };
    Rule { who, what, expires_ns: boot_ns() + 60_000_000_000, measure }
}

/// A quarantine for a minute.
pub fn quarantine(measure: u64, who: Who) -> Rule {
    Rule { who, what: What::Quarantine, expires_ns: boot_ns() + 60_000_000_000, measure }
}

/// All ports and protocols of one address.
pub fn host(address: &str) -> PeerPattern {
    PeerPattern::new(address.parse().expect("an address"), 128, None, None)
}
