//! Containers by cgroup: from the moment the cgroup is made, over its name, to its end.
//!
//! A state machine without clock or kernel: it takes what happened and says what to do ([`Effect`]); the loop does it. A
//! cgroup gets its slot at once, before it has a name, so that nothing it does is missed; what it does is held, bounded
//! and counted, until the name is there. **Nothing leaves with a container that has no workload.**

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bulkhead_domain::container::{Container, ContainerKey, Engine};
use bulkhead_domain::{Timestamp, WorkloadId};

use crate::naming::cgroup::Recognised;
use crate::naming::description::Description;
use crate::naming::facts::Facts;
use crate::naming::workload::{self, Place};
use crate::slots::Slots;

/// How long a container may stay without a name before its cgroup names it, ms: the guards hold it back no longer either.
pub const UNRESOLVED_MS_MAX: u64 = 5_000;

/// How long a cgroup that looks like no container is given to turn out to be one (a bare runtime tells later), ms.
pub const STRANGER_MS_MAX: u64 = 3_000;

/// Cgroups that may wait so at once; a further one is looked at when a runtime lists it.
pub const STRANGERS_MAX: usize = 16;

/// Events held of one container that has no name yet.
pub const HELD_MAX: usize = 512;

/// Descriptions remembered, of containers that do not run too: their names are then known before they start.
pub const KNOWN_MAX: usize = 4096;

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where its workloads live.
    pub place: Place,
    /// Its boot id.
    pub boot: String,
}

/// What the loop is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the slot of a cgroup; the ids are zero while it has no name.
    Claim {
        /// The cgroup.
        cgroup: u64,
        /// Its index.
        index: u32,
        /// Scope of container leases.
        container: u64,
        /// Scope of workload leases.
        workload: u64,
    },
    /// Ask an engine, or all of them, who this is.
    Ask {
        /// The engine that the path names, where it does.
        engine: Option<Engine>,
        /// The engine's id.
        id: String,
    },
    /// The container has its name: publish its start, then what was held.
    Named(u64),
    /// An engine named late what its cgroup had named meanwhile: publish the stop of the former name.
    Renamed(Box<Container>),
    /// What is known of the container changed: publish its inventory.
    Changed(u64),
    /// The container ended: publish its last window and its stop, and take its slot back.
    Ended(Box<Ended>),
    /// The cgroup was no container: take its slot back, and forget what was held.
    Dropped {
        /// The cgroup.
        cgroup: u64,
        /// Its index.
        index: u32,
    },
    /// No slot was left for this cgroup's path.
    Exhausted(String),
    /// No engine named it in time: its cgroup did.
    Unresolved(u64),
}

/// A container that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What was known of it.
    pub container: Container,
    /// The index it had.
    pub index: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Looks like no container so far.
    Stranger,
    /// A container whose engine has not named it yet.
    Waiting { engine: Option<Engine>, id: String },
    /// Named.
    Named(Box<Container>),
    /// Named by its cgroup for want of an engine's word.
    Makeshift(Box<Container>),
}

impl State {
    fn container(&self) -> Option<&Container> {
        match self {
            Self::Named(container) | Self::Makeshift(container) => Some(container),
            Self::Stranger | Self::Waiting { .. } => None,
        }
    }

    fn container_mut(&mut self) -> Option<&mut Container> {
        match self {
            Self::Named(container) | Self::Makeshift(container) => Some(container),
            Self::Stranger | Self::Waiting { .. } => None,
        }
    }
}

struct Entry<E> {
    index: u32,
    path: String,
    since: Timestamp,
    state: State,
    held: VecDeque<E>,
    held_lost: u64,
}

/// All containers of this node. `E` is what is held of those without a name.
pub struct Registry<E> {
    node: Node,
    slots: Slots,
    entries: HashMap<u64, Entry<E>>,
    known: HashMap<String, Description>,
}

impl<E> Registry<E> {
    /// An empty registry over these slots.
    pub fn new(node: Node, slots: Slots) -> Self {
        Self { node, slots, entries: HashMap::new(), known: HashMap::new() }
    }

    /// A cgroup was made, or found at start; `kept` is the index that an earlier run gave it.
    pub fn appeared(
        &mut self,
        cgroup: u64,
        path: &str,
        recognised: Option<Recognised>,
        kept: Option<u32>,
        now: Timestamp,
    ) -> Vec<Effect> {
        if let Some(entry) = self.entries.get(&cgroup) {
            if entry.state != State::Stranger || recognised.is_none() {
                return Vec::new();
            }
        } else {
            let strangers = self.entries.values().filter(|e| e.state == State::Stranger).count();
            if recognised.is_none() && strangers >= STRANGERS_MAX {
                return Vec::new();
            }
            let index = kept.filter(|index| self.slots.keep(*index)).or_else(|| self.slots.claim());
            let Some(index) = index else {
                // A stranger has no claim to a slot, so its lack is no news.
                return recognised.map(|_| Effect::Exhausted(path.into())).into_iter().collect();
            };
            self.entries.insert(
                cgroup,
                Entry {
                    index,
                    path: path.into(),
                    since: now,
                    state: State::Stranger,
                    held: VecDeque::new(),
                    held_lost: 0,
                },
            );
        }
        match recognised {
            None => vec![self.claim(cgroup)],
            Some(Recognised::Watched) => {
                self.name(cgroup, &Description::bare(Engine::Cgroup, path))
            }
            Some(Recognised::Unit(unit)) => {
                let bare = Description::bare(Engine::Systemd, path);
                self.name(cgroup, &Description { name: unit.clone(), unit: Some(unit), ..bare })
            }
            Some(Recognised::Container { engine, id }) => {
                if let Some(known) = self.known.get(&id).cloned() {
                    // What was known may be a former run's: the engine is asked for this one's all the same.
                    let mut effects = self.name(cgroup, &Description { pid: 0, ..known });
                    effects.push(Effect::Ask { engine, id });
                    return effects;
                }
                let ask = Effect::Ask { engine, id: id.clone() };
                self.entry(cgroup).state = State::Waiting { engine, id };
                vec![self.claim(cgroup), ask]
            }
        }
    }

    /// A bare runtime says whose cgroup this is.
    pub fn claimed(
        &mut self,
        cgroup: u64,
        path: &str,
        by: &Description,
        now: Timestamp,
    ) -> Vec<Effect> {
        match self.entries.get(&cgroup).map(|entry| &entry.state) {
            // An engine that the path names knows better.
            Some(
                State::Named(_) | State::Makeshift(_) | State::Waiting { engine: Some(_), .. },
            ) => return Vec::new(),
            Some(State::Stranger | State::Waiting { engine: None, .. }) => {}
            None => {
                let Some(index) = self.slots.claim() else {
                    return vec![Effect::Exhausted(path.into())];
                };
                self.entries.insert(
                    cgroup,
                    Entry {
                        index,
                        path: path.into(),
                        since: now,
                        state: State::Stranger,
                        held: VecDeque::new(),
                        held_lost: 0,
                    },
                );
            }
        }
        // Without an engine the cgroup's path is the identity; the runtime's name is for people.
        self.name(cgroup, &Description { id: path.into(), ..by.clone() })
    }

    /// An engine described a container, running or not.
    pub fn described(&mut self, description: Description) -> Vec<Effect> {
        let id = description.id.clone();
        let open: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| match &entry.state {
                State::Waiting { id: waits, .. } => *waits == id,
                State::Makeshift(container) => container.key.engine_id == id,
                State::Stranger | State::Named(_) => false,
            })
            .map(|(cgroup, _)| *cgroup)
            .collect();
        let mut effects = Vec::new();
        for cgroup in open {
            if let Some(former) = self.container(cgroup).cloned() {
                effects.push(Effect::Renamed(Box::new(former)));
            }
            effects.extend(self.name(cgroup, &description));
        }
        effects.extend(self.update(&description));
        if self.known.len() < KNOWN_MAX || self.known.contains_key(&id) {
            self.known.insert(id, description);
        }
        effects
    }

    /// An engine forgot a container for good.
    pub fn removed(&mut self, id: &str) {
        self.known.remove(id);
    }

    /// A cgroup is gone.
    pub fn gone(&mut self, cgroup: u64) -> Vec<Effect> {
        let Some(entry) = self.entries.remove(&cgroup) else { return Vec::new() };
        self.slots.release(entry.index);
        vec![match entry.state {
            State::Named(container) | State::Makeshift(container) => {
                Effect::Ended(Box::new(Ended { container: *container, index: entry.index }))
            }
            State::Stranger | State::Waiting { .. } => {
                Effect::Dropped { cgroup, index: entry.index }
            }
        }]
    }

    /// Time goes on: strangers are dropped, and who waited too long is named by its cgroup.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        let over = |since: Timestamp, ms: u64| now.since(since) >= Duration::from_millis(ms);
        let strangers: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, e)| e.state == State::Stranger && over(e.since, STRANGER_MS_MAX))
            .map(|(cgroup, _)| *cgroup)
            .collect();
        let mut effects: Vec<Effect> =
            strangers.into_iter().flat_map(|cgroup| self.gone(cgroup)).collect();
        let late: Vec<(u64, Option<Engine>, String)> = self
            .entries
            .iter()
            .filter(|(_, entry)| over(entry.since, UNRESOLVED_MS_MAX))
            .filter_map(|(cgroup, entry)| match &entry.state {
                State::Waiting { engine, id } => Some((*cgroup, *engine, id.clone())),
                State::Stranger | State::Named(_) | State::Makeshift(_) => None,
            })
            .collect();
        for (cgroup, engine, id) in late {
            let engine = engine.unwrap_or(Engine::Cgroup);
            effects.extend(self.name(cgroup, &Description::bare(engine, &id)));
            let entry = self.entry(cgroup);
            if let State::Named(container) = std::mem::replace(&mut entry.state, State::Stranger) {
                entry.state = State::Makeshift(container);
            }
            effects.push(Effect::Unresolved(cgroup));
        }
        effects
    }

    /// Who waits for a name: asked again while it waits.
    pub fn waiting(&self) -> Vec<Effect> {
        self.entries
            .values()
            .filter_map(|entry| match &entry.state {
                State::Waiting { engine, id } => {
                    Some(Effect::Ask { engine: *engine, id: id.clone() })
                }
                State::Stranger | State::Named(_) | State::Makeshift(_) => None,
            })
            .collect()
    }

    /// Whether some cgroup may still turn out to be a bare runtime's container.
    pub fn has_unclaimed(&self) -> bool {
        self.entries.values().any(|entry| {
            matches!(entry.state, State::Stranger | State::Waiting { engine: None, .. })
        })
    }

    /// Whether another container could be observed.
    pub fn has_room(&self) -> bool {
        self.slots.has_room()
    }

    /// What `/proc` says of a container now.
    pub fn measured(&mut self, cgroup: u64, facts: &Facts) -> Vec<Effect> {
        let Some(container) = self.named_mut(cgroup) else { return Vec::new() };
        if facts.pid == 0 {
            return Vec::new();
        }
        let before = container.clone();
        container.pid = facts.pid;
        container.netns = facts.netns;
        container.host_network = facts.host_network;
        container.addresses.clone_from(&facts.addresses);
        if *container == before { Vec::new() } else { vec![Effect::Changed(cgroup)] }
    }

    /// Holds an event of a container without a name; gives it back when the container has one, or is none of ours.
    pub fn hold(&mut self, cgroup: u64, event: E) -> Result<(), E> {
        match self.entries.get_mut(&cgroup) {
            Some(entry) if entry.state.container().is_none() => {
                if entry.held.len() < HELD_MAX {
                    entry.held.push_back(event);
                } else {
                    entry.held_lost += 1;
                }
                Ok(())
            }
            _ => Err(event),
        }
    }

    /// What was held of a container, in order, and how many more there were.
    pub fn take_held(&mut self, cgroup: u64) -> (Vec<E>, u64) {
        match self.entries.get_mut(&cgroup) {
            Some(entry) => (entry.held.drain(..).collect(), std::mem::take(&mut entry.held_lost)),
            None => (Vec::new(), 0),
        }
    }

    /// The container of a cgroup, once it has a name.
    pub fn container(&self, cgroup: u64) -> Option<&Container> {
        self.entries.get(&cgroup)?.state.container()
    }

    /// Path of a cgroup, below the mount.
    pub fn path(&self, cgroup: u64) -> Option<&str> {
        self.entries.get(&cgroup).map(|entry| entry.path.as_str())
    }

    /// The index of a cgroup.
    pub fn index(&self, cgroup: u64) -> Option<u32> {
        self.entries.get(&cgroup).map(|entry| entry.index)
    }

    /// The cgroup that has an index now.
    pub fn cgroup(&self, index: u32) -> Option<u64> {
        self.entries.iter().find(|(_, entry)| entry.index == index).map(|(cgroup, _)| *cgroup)
    }

    /// All named containers' cgroups, in a fixed order.
    pub fn named(&self) -> Vec<u64> {
        let mut cgroups: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.state.container().is_some())
            .map(|(cgroup, _)| *cgroup)
            .collect();
        cgroups.sort_unstable();
        cgroups
    }

    fn entry(&mut self, cgroup: u64) -> &mut Entry<E> {
        self.entries.get_mut(&cgroup).expect("callers have put the entry there")
    }

    fn named_mut(&mut self, cgroup: u64) -> Option<&mut Container> {
        self.entries.get_mut(&cgroup)?.state.container_mut()
    }

    fn claim(&mut self, cgroup: u64) -> Effect {
        let entry = self.entry(cgroup);
        let (container, workload) = entry
            .state
            .container()
            .map_or((0, WorkloadId(0)), |c| (c.key.lease_scope(), c.workload.id()));
        Effect::Claim { cgroup, index: entry.index, container, workload: workload.0 }
    }

    fn name(&mut self, cgroup: u64, description: &Description) -> Vec<Effect> {
        let container = Container {
            key: ContainerKey {
                node: self.node.place.node.clone(),
                boot: self.node.boot.clone(),
                engine_id: description.id.clone(),
                cgroup,
            },
            workload: workload::name(&self.node.place, description),
            engine: description.engine,
            name: description.name.clone(),
            image: description.image.clone(),
            digest: description.digest.clone(),
            cgroup_path: self.entry(cgroup).path.clone(),
            pid: description.pid,
            netns: 0,
            addresses: Vec::new(),
            host_network: false,
            started: if description.started == Timestamp::default() {
                self.entry(cgroup).since
            } else {
                description.started
            },
        };
        self.entry(cgroup).state = State::Named(Box::new(container));
        vec![self.claim(cgroup), Effect::Named(cgroup)]
    }

    /// Takes over what an engine says anew of a container that has its name. Its workload stays: behaviour was already
    /// published under it, and a label that changes under a running container is no other container.
    fn update(&mut self, description: &Description) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (cgroup, entry) in &mut self.entries {
            let Some(container) = entry.state.container_mut() else { continue };
            if container.key.engine_id != description.id {
                continue;
            }
            let before = container.clone();
            container.name.clone_from(&description.name);
            if !description.digest.is_empty() {
                container.digest.clone_from(&description.digest);
            }
            if description.pid != 0 {
                container.pid = description.pid;
            }
            if description.started > container.started {
                container.started = description.started;
            }
            if *container != before {
                effects.push(Effect::Changed(*cgroup));
            }
        }
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0cd273a3b8dc35f837ec2ecb40b72417200aeb86c849398a7eb1510d9f3c5be3";

    fn registry(slots_max: u32) -> Registry<&'static str> {
        let place = Place { cluster: "local".into(), node: "harbour".into() };
        Registry::new(Node { place, boot: "boot".into() }, Slots::new(slots_max))
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp(1_000_000_000_000 + ms * 1_000_000)
    }

    fn docker() -> Recognised {
        Recognised::Container { engine: Some(Engine::Docker), id: ID.into() }
    }

    fn description(pid: u32) -> Description {
        Description {
            name: "web-1".into(),
            image: "shop/web".into(),
            command: vec!["/bin/web".into()],
            pid,
            ..Description::bare(Engine::Docker, ID)
        }
    }

    #[test]
    fn a_new_cgroup_has_its_slot_before_its_name_and_its_events_wait() {
        let mut registry = registry(8);
        let effects = registry.appeared(70, "/docker/x", Some(docker()), None, at(0));
        assert_eq!(effects[0], Effect::Claim { cgroup: 70, index: 1, container: 0, workload: 0 });
        assert_eq!(effects[1], Effect::Ask { engine: Some(Engine::Docker), id: ID.into() });
        assert_eq!(registry.hold(70, "exec"), Ok(()));
        assert_eq!(registry.hold(70, "connect"), Ok(()));
        assert_eq!(registry.container(70), None);

        let effects = registry.described(description(42));
        let container = registry.container(70).unwrap();
        assert_eq!(container.workload.to_string(), "local/harbour/image/shop%2Fweb/web");
        assert_eq!(
            effects,
            [
                Effect::Claim {
                    cgroup: 70,
                    index: 1,
                    container: container.key.lease_scope(),
                    workload: container.workload.id().0
                },
                Effect::Named(70)
            ]
        );
        assert_eq!(registry.take_held(70), (vec!["exec", "connect"], 0));
        assert_eq!(registry.hold(70, "later"), Err("later"), "a named container's events go on");
    }

    #[test]
    fn a_container_described_before_it_starts_is_named_at_once() {
        let mut registry = registry(8);
        assert_eq!(registry.described(description(0)), []);
        let effects = registry.appeared(70, "/docker/x", Some(docker()), None, at(0));
        assert!(effects.contains(&Effect::Named(70)), "{effects:?}");
        assert_eq!(registry.container(70).unwrap().pid, 0);
        assert_eq!(registry.described(description(42)), [Effect::Changed(70)]);
        assert_eq!(registry.described(description(42)), [], "nothing new, nothing told");
        assert_eq!(registry.container(70).unwrap().pid, 42);
    }

    #[test]
    fn who_is_named_by_nobody_is_named_by_its_cgroup_with_a_report() {
        let mut registry = registry(8);
        registry.appeared(70, "/docker/x", Some(docker()), None, at(0));
        assert_eq!(registry.tick(at(UNRESOLVED_MS_MAX - 1)), []);
        let effects = registry.tick(at(UNRESOLVED_MS_MAX));
        assert_eq!(effects[1..], [Effect::Named(70), Effect::Unresolved(70)]);
        assert_eq!(registry.container(70).unwrap().workload.owner, ID);
        assert_eq!(registry.tick(at(60_000)), [], "it is reported once");

        // An engine that comes back later has the last word.
        let effects = registry.described(description(42));
        assert!(matches!(&effects[0], Effect::Renamed(former) if former.workload.owner == ID));
        assert_eq!(effects[2], Effect::Named(70));
        assert_eq!(registry.container(70).unwrap().workload.owner, "shop/web");
    }

    #[test]
    fn what_is_held_is_bounded_and_counted() {
        let mut registry = registry(8);
        registry.appeared(70, "/docker/x", Some(docker()), None, at(0));
        for _ in 0..HELD_MAX + 3 {
            registry.hold(70, "exec").unwrap();
        }
        registry.described(description(42));
        let (held, lost) = registry.take_held(70);
        assert_eq!((held.len(), lost), (HELD_MAX, 3));
    }

    #[test]
    fn watched_parents_and_units_need_no_engine() {
        let mut registry = registry(8);
        registry.appeared(1, "/runc/web", Some(Recognised::Watched), None, at(0));
        let unit = Some(Recognised::Unit("web@1.service".into()));
        registry.appeared(2, "/system.slice/web@1.service", unit, None, at(0));
        assert_eq!(registry.container(1).unwrap().key.engine_id, "/runc/web");
        assert_eq!(registry.container(1).unwrap().engine, Engine::Cgroup);
        assert_eq!(
            registry.container(2).unwrap().workload.to_string(),
            "local/harbour/unit/web@.service/"
        );
    }

    #[test]
    fn a_stranger_is_held_until_a_runtime_claims_it_and_dropped_when_none_does() {
        let mut registry = registry(8);
        registry.appeared(70, "/pump", None, None, at(0));
        registry.appeared(71, "/session", None, None, at(0));
        assert!(registry.has_unclaimed());
        registry.hold(70, "exec").unwrap();
        let bare = Description { name: "pump".into(), ..Description::bare(Engine::Cgroup, "pump") };
        let effects = registry.claimed(70, "/pump", &bare, at(20));
        assert_eq!(effects[1], Effect::Named(70));
        assert_eq!(registry.container(70).unwrap().key.engine_id, "/pump");
        assert_eq!(registry.take_held(70).0, ["exec"]);
        assert_eq!(registry.tick(at(STRANGER_MS_MAX)), [Effect::Dropped { cgroup: 71, index: 2 }]);
        assert!(!registry.has_unclaimed());
        assert!(registry.container(70).is_some());
    }

    #[test]
    fn a_bare_runtime_may_claim_an_id_that_no_engine_is_named_for() {
        let mut registry = registry(8);
        let bare = Description { name: "pump".into(), ..Description::bare(Engine::Cgroup, "pump") };
        let anybodys = Recognised::Container { engine: None, id: ID.into() };
        registry.appeared(1, "/x/id", Some(anybodys), None, at(0));
        registry.appeared(2, "/docker/id", Some(docker()), None, at(0));
        assert!(registry.has_unclaimed());
        assert!(registry.claimed(1, "/x/id", &bare, at(1)).contains(&Effect::Named(1)));
        assert_eq!(registry.claimed(2, "/docker/id", &bare, at(1)), []);
        assert!(!registry.has_unclaimed());
    }

    #[test]
    fn slots_that_run_out_are_named_and_strangers_never_take_the_last() {
        let mut registry = registry(2);
        assert_eq!(
            registry.appeared(1, "/runc/a", Some(Recognised::Watched), None, at(0)).len(),
            2
        );
        assert_eq!(
            registry.appeared(2, "/runc/b", Some(Recognised::Watched), None, at(0)),
            [Effect::Exhausted("/runc/b".into())]
        );
        assert_eq!(registry.appeared(3, "/c", None, None, at(0)), []);
        let [Effect::Ended(ended)] = &registry.gone(1)[..] else { panic!("it ended") };
        assert_eq!((ended.index, ended.container.key.engine_id.as_str()), (1, "/runc/a"));
        assert_eq!(registry.gone(1), []);
    }

    #[test]
    fn an_earlier_runs_index_is_kept() {
        let mut registry = registry(8);
        let watched = || Some(Recognised::Watched);
        registry.appeared(1, "/runc/a", watched(), Some(5), at(0));
        assert_eq!(registry.index(1), Some(5));
        assert_eq!(registry.cgroup(5), Some(1));
        registry.appeared(2, "/runc/b", watched(), Some(5), at(0));
        assert_ne!(registry.index(2), Some(5), "an index has one container");
    }

    #[test]
    fn facts_that_change_are_told_and_a_dying_container_keeps_its_last_ones() {
        let mut registry = registry(8);
        registry.appeared(1, "/runc/a", Some(Recognised::Watched), None, at(0));
        let facts = Facts { pid: 7, netns: 9, ..Facts::default() };
        assert_eq!(registry.measured(1, &facts), [Effect::Changed(1)]);
        assert_eq!(registry.measured(1, &facts), []);
        assert_eq!(registry.measured(1, &Facts::default()), []);
        assert_eq!(registry.container(1).unwrap().netns, 9);
    }
}
