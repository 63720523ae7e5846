//! Which measures are in force on this node, and what follows: pure, with the time as an argument.
//!
//! Deciding is apart from doing: [`Core::rules`] is the whole of what the kernel should hold, so that whoever does it may
//! crash, repeat or be restarted without duplicating anything.

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_domain::container::{Container, ContainerKey};
use bulkhead_domain::measure::{Action, Measure, MeasureId, Target};
use bulkhead_domain::verdict;
use bulkhead_domain::{Timestamp, text};
use bulkhead_loader::guard::Rule;
use thiserror::Error;

use crate::rules;

/// Longer than any measure lasts.
const LONGEST: Duration = Duration::from_secs(400 * 86_400);

/// Both clocks at one instant: what people say, and what the kernel compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall clock.
    pub wall: Timestamp,
    /// Boot time, ns.
    pub boot_ns: u64,
}

impl Now {
    /// The boot time of a wall-clock instant, as seen from here; the past is now.
    pub fn boot_of(self, at: Timestamp) -> u64 {
        let ahead = u64::try_from(at.since(self.wall).as_nanos()).unwrap_or(u64::MAX);
        self.boot_ns.saturating_add(ahead)
    }
}

/// A measure in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The measure.
    pub measure: Measure,
    /// Boot time (ns) of its end, fixed when it was first applied: a wall clock that is set changes nothing.
    pub expires_ns: u64,
}

/// Why a measure is not applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// Its time is up.
    #[error("it ended before it arrived")]
    Expired,
    /// A person ended it here with every daemon dead.
    #[error("it was disarmed on this node")]
    Disarmed,
    /// Another node's container.
    #[error("its container is another node's")]
    OtherNode,
    /// The bound.
    #[error("this node holds {held} measures already: raise measures-max, or release some")]
    TooMany {
        /// How many there are.
        held: usize,
    },
}

/// What a record about a measure changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// New, or with another end or scope.
    Applied,
    /// Known already: nothing to do.
    Known,
    /// Ended.
    Released(Box<Measure>),
    /// Ended, but it was not in force here.
    Absent,
}

/// Measures and containers of one node.
#[derive(Clone, Debug, Default)]
pub struct Core {
    node: String,
    measures_max: usize,
    measures: BTreeMap<MeasureId, Held>,
    /// Measures that ended here against their time, until then: a log that is read again must not bring them back.
    ended: BTreeMap<MeasureId, Timestamp>,
    containers: BTreeMap<ContainerKey, Container>,
}

impl Core {
    /// Nothing in force.
    pub fn new(node: &str, measures_max: usize) -> Self {
        Self { node: node.into(), measures_max, ..Self::default() }
    }

    /// Takes over what a ledger remembers. Boot times of this boot stay; others are counted anew from the wall clock, so
    /// that a reboot takes its time off a lease.
    pub fn restore(
        &mut self,
        measures: impl IntoIterator<Item = (Measure, Option<u64>)>,
        ended: impl IntoIterator<Item = (MeasureId, Timestamp)>,
        now: Now,
    ) {
        for (measure, same_boot) in measures {
            let expires_ns = same_boot.unwrap_or_else(|| now.boot_of(measure.expires));
            if expires_ns > now.boot_ns {
                self.measures.insert(measure.id, Held { measure, expires_ns });
            }
        }
        self.ended.extend(ended);
    }

    /// A measure was decided.
    pub fn set(&mut self, measure: Measure, now: Now) -> Result<Change, Refused> {
        if matches!(&measure.target, Target::Container(key) if key.node != self.node) {
            return Err(Refused::OtherNode);
        }
        if self.ended.contains_key(&measure.id) {
            return Err(Refused::Disarmed);
        }
        if measure.expires <= now.wall {
            return Err(Refused::Expired);
        }
        if self.measures.get(&measure.id).is_some_and(|held| held.measure == measure) {
            return Ok(Change::Known);
        }
        if !self.measures.contains_key(&measure.id) && self.measures.len() >= self.measures_max {
            return Err(Refused::TooMany { held: self.measures.len() });
        }
        let expires_ns = now.boot_of(measure.expires);
        self.measures.insert(measure.id, Held { measure, expires_ns });
        Ok(Change::Applied)
    }

    /// A measure was released.
    pub fn release(&mut self, id: MeasureId) -> Change {
        self.measures
            .remove(&id)
            .map_or(Change::Absent, |held| Change::Released(Box::new(held.measure)))
    }

    /// A person ended it here with every daemon dead.
    pub fn disarm(&mut self, id: MeasureId, now: Now) -> Option<Measure> {
        let held = self.measures.remove(&id);
        // Unknown ones may still come from the log.
        let until = held.as_ref().map_or(now.wall.plus(LONGEST), |h| h.measure.expires);
        self.ended.insert(id, until);
        held.map(|h| h.measure)
    }

    /// Whether it ended here against its time.
    pub fn is_ended(&self, id: MeasureId) -> bool {
        self.ended.contains_key(&id)
    }

    /// Drops what is over, and returns it. The kernel has not matched it since its end.
    pub fn expire(&mut self, now: Now) -> Vec<Measure> {
        self.ended.retain(|_, until| *until > now.wall);
        let over = self.measures.extract_if(.., |_, held| held.expires_ns <= now.boot_ns);
        over.map(|(_, held)| held.measure).collect()
    }

    /// A container of this node runs.
    pub fn started(&mut self, container: Container) {
        if container.key.node == self.node {
            self.containers.insert(container.key.clone(), container);
        }
    }

    /// A container ended.
    pub fn stopped(&mut self, key: &ContainerKey) -> Option<Container> {
        self.containers.remove(key)
    }

    /// Measures in force, by id.
    pub fn measures(&self) -> impl Iterator<Item = &Held> {
        self.measures.values()
    }

    /// Measures that ended here against their time, and until when that counts.
    pub fn ended(&self) -> impl Iterator<Item = (MeasureId, Timestamp)> {
        self.ended.iter().map(|(id, until)| (*id, *until))
    }

    /// Running containers.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.values()
    }

    /// All that the kernel should hold. It finds containers by their ids itself, those started later included.
    pub fn rules(&self) -> Vec<Rule> {
        self.measures.values().map(|h| rules::rule(&h.measure, h.expires_ns)).collect()
    }

    /// The running containers that a measure concerns.
    pub fn concerned<'a>(&'a self, measure: &'a Measure) -> impl Iterator<Item = &'a Container> {
        self.containers.values().filter(|c| verdict::concerns(measure, c))
    }

    /// The measures that concern a container.
    pub fn of<'a>(&'a self, container: &'a Container) -> impl Iterator<Item = &'a Measure> {
        self.measures.values().map(|h| &h.measure).filter(|m| verdict::concerns(m, container))
    }

    /// Which containers should have a wall at their interface, and which ones cannot, and why.
    ///
    /// An interface that several containers share gets a wall only when all of them are under the same measures: it
    /// cannot tell them apart.
    pub fn walls(&self) -> (Vec<&Container>, Vec<(&Container, String)>) {
        let mut walls: Vec<&Container> = Vec::new();
        let mut weak = Vec::new();
        for container in self.containers.values() {
            let mut measures: Vec<&Action> = self.of(container).map(|m| &m.action).collect();
            if measures.is_empty() {
                continue;
            }
            if container.host_network {
                weak.push((container, "it is on the host's network: no interface to guard, so AF_PACKET and ping stay open; its sockets are guarded".to_owned()));
                continue;
            }
            measures.sort_by_key(ToString::to_string);
            let other = self.containers.values().find(|other| {
                other.key != container.key
                    && container.netns != 0
                    && other.netns == container.netns
                    && {
                        let mut theirs: Vec<&Action> = self.of(other).map(|m| &m.action).collect();
                        theirs.sort_by_key(ToString::to_string);
                        theirs != measures
                    }
            });
            if let Some(other) = other {
                weak.push((
                    container,
                    format!(
                        "it shares its network namespace with {}, which is not under the same measures: the interface stays open, so AF_PACKET and ping do; its sockets are guarded",
                        text::printable(&other.name, 80)
                    ),
                ));
                continue;
            }
            // One wall per interface.
            if container.netns == 0 || !walls.iter().any(|w| w.netns == container.netns) {
                walls.push(container);
            }
        }
        (walls, weak)
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_domain::WorkloadName;
    use bulkhead_domain::container::Engine;
    use bulkhead_domain::measure::Decider;
    use bulkhead_domain::workload::OwnerKind;
    use bulkhead_loader::guard::Who;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn now(secs: u64) -> Now {
        // The machine started 100 s after the epoch.
        Now { wall: Timestamp::from_secs(100 + secs), boot_ns: secs * SECOND }
    }

    fn workload() -> WorkloadName {
        WorkloadName {
            cluster: "local".into(),
            scope: "shop".into(),
            kind: OwnerKind::Image,
            owner: "web".into(),
            container: String::new(),
        }
    }

    fn container(engine_id: &str, cgroup: u64, netns: u64) -> Container {
        Container {
            key: ContainerKey {
                node: "n1".into(),
                boot: "b".into(),
                engine_id: engine_id.into(),
                cgroup,
            },
            workload: workload(),
            engine: Engine::Podman,
            name: engine_id.into(),
            image: "web".into(),
            digest: String::new(),
            cgroup_path: format!("/{engine_id}"),
            pid: 0,
            netns,
            addresses: Vec::new(),
            host_network: false,
            started: Timestamp(0),
        }
    }

    fn measure(id: u64, target: Target, ends: u64) -> Measure {
        Measure {
            id: MeasureId(id),
            cluster: "local".into(),
            target,
            action: Action::Deny("198.51.100.7".parse().unwrap()),
            decider: Decider::Manual { who: "ada".into() },
            reason: "test".into(),
            created: Timestamp(0),
            expires: now(ends).wall,
        }
    }

    fn core() -> Core {
        Core::new("n1", 3)
    }

    #[test]
    fn a_measure_ends_in_boot_time_at_the_instant_that_the_wall_clock_said() {
        let mut core = core();
        let m = measure(1, Target::Workload(workload()), 60);
        assert_eq!(core.set(m.clone(), now(10)), Ok(Change::Applied));
        assert_eq!(core.rules()[0].expires_ns, 60 * SECOND);
        assert_eq!(core.rules()[0].who, Who::Workload(workload().id().0));
        assert_eq!(core.set(m, now(20)), Ok(Change::Known));
        assert_eq!(core.rules().len(), 1);
    }

    #[test]
    fn nothing_is_in_force_past_its_end() {
        let mut core = core();
        core.set(measure(1, Target::Workload(workload()), 60), now(10)).unwrap();
        assert!(core.expire(now(59)).is_empty());
        assert_eq!(core.expire(now(60)).len(), 1);
        assert!(core.rules().is_empty());
        let late = measure(2, Target::Workload(workload()), 60);
        assert_eq!(core.set(late, now(60)), Err(Refused::Expired));
    }

    #[test]
    fn another_nodes_container_is_not_ours() {
        let mut key = container("e", 1, 1).key;
        key.node = "n2".into();
        let m = measure(1, Target::Container(key), 60);
        assert_eq!(core().set(m, now(0)), Err(Refused::OtherNode));
    }

    #[test]
    fn the_node_holds_no_more_than_its_bound() {
        let mut core = core();
        for id in 1..=3 {
            core.set(measure(id, Target::Workload(workload()), 60), now(0)).unwrap();
        }
        let refused = core.set(measure(4, Target::Workload(workload()), 60), now(0));
        assert_eq!(refused, Err(Refused::TooMany { held: 3 }));
        // One that is known may still change.
        core.set(measure(3, Target::Workload(workload()), 90), now(0)).unwrap();
        assert!(matches!(core.release(MeasureId(1)), Change::Released(_)));
        assert_eq!(core.release(MeasureId(1)), Change::Absent);
        core.set(measure(4, Target::Workload(workload()), 60), now(0)).unwrap();
    }

    #[test]
    fn what_a_person_disarmed_does_not_come_back_from_the_log() {
        let mut core = core();
        let m = measure(1, Target::Workload(workload()), 60);
        core.set(m.clone(), now(0)).unwrap();
        core.disarm(MeasureId(1), now(10));
        assert_eq!(core.set(m.clone(), now(20)), Err(Refused::Disarmed));
        let mut restarted = Core::new("n1", 3);
        restarted.restore([], core.ended(), now(30));
        assert_eq!(restarted.set(m, now(30)), Err(Refused::Disarmed));
        restarted.expire(now(60));
        assert_eq!(restarted.ended().count(), 0, "its time is up: no need to remember");
    }

    #[test]
    fn a_reboot_takes_its_time_off_a_lease() {
        let m = measure(1, Target::Workload(workload()), 60);
        // 50 s later on the wall, 5 s after the next start of the machine.
        let rebooted = Now { wall: now(50).wall, boot_ns: 5 * SECOND };
        let mut core = core();
        core.restore([(m.clone(), None)], [], rebooted);
        assert_eq!(core.rules()[0].expires_ns, 15 * SECOND);
        let mut late = self::core();
        late.restore([(m, None)], [], Now { wall: now(61).wall, boot_ns: 5 * SECOND });
        assert!(late.rules().is_empty());
    }

    #[test]
    fn within_a_boot_a_restart_changes_no_end_even_if_the_clock_was_set() {
        let m = measure(1, Target::Workload(workload()), 60);
        let set_back = Now { wall: Timestamp::from_secs(1), boot_ns: 30 * SECOND };
        let mut core = core();
        core.restore([(m, Some(60 * SECOND))], [], set_back);
        assert_eq!(core.rules()[0].expires_ns, 60 * SECOND);
    }

    #[test]
    fn a_restarted_container_is_under_the_same_rule() {
        let mut core = core();
        let before = container("e", 1, 1);
        core.set(measure(1, Target::Container(before.key.clone()), 60), now(0)).unwrap();
        core.started(before.clone());
        let rules = core.rules();
        core.stopped(&before.key);
        let after = container("e", 2, 2);
        core.started(after.clone());
        assert_eq!(core.rules(), rules);
        assert_eq!(core.walls().0, [&after]);
    }

    #[test]
    fn a_shared_interface_gets_a_wall_only_when_all_behind_it_are_under_the_same_measures() {
        let mut core = core();
        let (one, two) = (container("one", 1, 7), container("two", 2, 7));
        core.started(one.clone());
        core.started(two.clone());
        core.set(measure(1, Target::Container(one.key.clone()), 60), now(0)).unwrap();
        let (walls, weak) = core.walls();
        assert!(walls.is_empty());
        assert!(weak[0].1.contains("two"), "{weak:?}");
        core.set(measure(2, Target::Container(two.key), 60), now(0)).unwrap();
        let (walls, weak) = core.walls();
        assert_eq!((walls.len(), weak.len()), (1, 0));
    }

    #[test]
    fn a_container_on_the_hosts_network_is_named_as_weak() {
        let mut core = core();
        let mut host = container("h", 1, 7);
        host.host_network = true;
        core.started(host);
        assert!(core.walls().1.is_empty(), "without a measure there is nothing to say");
        core.set(measure(1, Target::Workload(workload()), 60), now(0)).unwrap();
        let (walls, weak) = core.walls();
        assert!(walls.is_empty());
        assert!(weak[0].1.contains("host's network"));
    }
}
