//! An observer over a cgroup of a test's own, with its containers claimed.

use std::time::{Duration, Instant};

use bulkhead_abi::{
    network::NetworkCounters,
    slot::{FLAG_UNRESOLVED, Slot},
};
use bulkhead_loader::observe::{
    Config, Event, Observer,
    dns::DnsEvent,
    network::{Direction, Flow, FlowKey, NetworkAct, NetworkEvent},
};
use bulkhead_tests::requirement::{Need, met};

use super::container::Cgroup;

/// How long to wait for what must come; nothing waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What observing containers needs of the machine.
pub const NEEDS: [Need; 4] = [Need::Root, Need::Bpf, Need::Cgroup2, Need::Netns];

/// An observer, and what it has reported so far.
pub struct Watch {
    /// The cgroup that it is attached to; containers are its children.
    pub root: Cgroup,
    observer: Observer,
    network: Vec<NetworkEvent>,
    dns: Vec<DnsEvent>,
    claimed: u32,
}

impl Watch {
    /// Attaches one, or says why this machine cannot.
    pub fn open(group: &str) -> Option<Self> {
        if !met(group, &NEEDS) {
            return None;
        }
        Some(Self::over(Cgroup::root("net")))
    }

    /// Attaches one to a cgroup in which processes may run already.
    pub fn over(root: Cgroup) -> Self {
        let config = Config { cgroup_root: root.path().into(), pin_dir: None, slots_max: 64 };
        let observer = Observer::load(&config).expect("this machine loads programs");
        Self { root, observer, network: Vec::new(), dns: Vec::new(), claimed: 0 }
    }

    /// Makes a container: a cgroup with a slot. Returns the slot's index with it.
    pub fn container(&mut self, name: &str) -> (Cgroup, u32) {
        let cgroup = self.root.child(name);
        let slot = self.claim(&cgroup);
        (cgroup, slot)
    }

    /// Makes a container that no engine has named yet, as the guards enter it.
    pub fn unnamed(&mut self, name: &str) -> Cgroup {
        let cgroup = self.root.child(name);
        let slot = Slot { flags: FLAG_UNRESOLVED, ..Slot::default() };
        self.observer.claim_slot(cgroup.id(), slot).expect("the map has room");
        cgroup
    }

    /// Gives a cgroup a slot, and returns its index.
    pub fn claim(&mut self, cgroup: &Cgroup) -> u32 {
        self.claimed += 1;
        let slot = Slot { index: self.claimed, ..Slot::default() };
        self.observer.claim_slot(cgroup.id(), slot).expect("the map has room");
        self.claimed
    }

    /// Counters of a container.
    pub fn counters(&self, slot: u32) -> NetworkCounters {
        self.observer.network.counters(slot).expect("the slot has counters")
    }

    /// Waits until the counters of a container satisfy a condition.
    pub fn counters_when(
        &self,
        slot: u32,
        reached: impl Fn(&NetworkCounters) -> bool,
    ) -> NetworkCounters {
        let until = Instant::now() + PATIENCE;
        loop {
            let counters = self.counters(slot);
            if reached(&counters) {
                return counters;
            }
            assert!(Instant::now() < until, "still {counters:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Flows of a container, without those that stand for bound ports.
    pub fn flows(&self, slot: u32) -> Vec<(FlowKey, Flow)> {
        let mut flows = self.observer.network.flows_of(slot).expect("the table can be read");
        flows.retain(|(key, _)| !key.is_bound_port());
        flows
    }

    /// The one flow of a container in that direction and protocol.
    pub fn flow(&self, slot: u32, direction: Direction, protocol: u8) -> (FlowKey, Flow) {
        let mut flows = self.flows(slot);
        flows.retain(|(key, _)| key.direction == direction && key.protocol == protocol);
        assert_eq!(flows.len(), 1, "{flows:#?}");
        flows.remove(0)
    }

    /// Removes what is known of a slot.
    pub fn forget(&mut self, slot: u32) -> Vec<(FlowKey, Flow)> {
        self.observer.network.forget(slot).expect("the table can be changed")
    }

    /// Removes flows as if that much time had passed; how many went.
    pub fn expire_after(&mut self, passed_ns: u64, idle_ns: u64) -> usize {
        let flows = self.observer.network.flows().expect("the table can be read");
        let last = flows.iter().map(|(_, flow)| flow.last_ns).max().unwrap_or(0);
        self.observer.network.expire(&flows, last + passed_ns, idle_ns).expect("it can be changed")
    }

    /// Takes everything that the ring holds.
    pub fn drain(&mut self) {
        while let Some(event) = self.observer.next() {
            match event {
                Event::Network(event) => self.network.push(event),
                Event::Dns(event) => self.dns.push(event),
                _ => {}
            }
        }
    }

    /// Network acts of a container so far.
    pub fn acts(&mut self, slot: u32) -> Vec<NetworkEvent> {
        self.drain();
        self.network.iter().filter(|event| event.slot == slot).cloned().collect()
    }

    /// Acts of that kind of a container so far.
    pub fn acts_of(&mut self, slot: u32, act: NetworkAct) -> Vec<NetworkEvent> {
        let mut acts = self.acts(slot);
        acts.retain(|event| event.act == act);
        acts
    }

    /// The one act of that kind of a container; waits for it. Its reports are one per epoch: they are taken together.
    pub fn act(&mut self, slot: u32, act: NetworkAct) -> NetworkEvent {
        let until = Instant::now() + PATIENCE;
        loop {
            let acts = self.acts_of(slot, act);
            if let Some(first) = acts.first() {
                let mut one = first.clone();
                one.count = acts.iter().map(|event| event.count).sum();
                for event in acts {
                    let same = NetworkEvent { time_ns: one.time_ns, count: one.count, ..event };
                    assert_eq!(same, one, "another act");
                }
                return one;
            }
            assert!(Instant::now() < until, "no {act:?} among {:#?}", self.acts(slot));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// DNS messages of a container so far.
    pub fn messages(&mut self, slot: u32) -> Vec<DnsEvent> {
        self.drain();
        self.dns.iter().filter(|event| event.slot == slot).cloned().collect()
    }
}
