//! The collector without its I/O: what engines, cgroups and the kernel tell goes in, records for the bus come out.
//!
//! No clock, no socket, no map: time is an argument, `/proc` is asked through [`World`], counters are handed in as read.
//! So the rules that matter (nothing without its workload, an act once a window, an entered process waits for its engine's
//! word) are tested without a kernel.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bulkhead_domain::behaviour::{Act, Behaviour};
use bulkhead_domain::container::{Container, Engine};
use bulkhead_domain::health::{Condition, Health};
use bulkhead_domain::inventory::{InventoryRecord, LifeState};
use bulkhead_domain::observation::{Body, Observation};
use bulkhead_domain::process::{Origin, Process};
use bulkhead_domain::text::printable;
use bulkhead_domain::workload::OwnerKind;
use bulkhead_domain::{Timestamp, WorkloadName};

use crate::acts;
use crate::dns;
use crate::epoch::Ids;
use crate::names::Names;
use crate::naming::cgroup::Recognised;
use crate::naming::event::{Exec, Told};
use crate::outbox::{Outbox, Worth};
use crate::processes::{Executed, Looked, Processes, Session};
use crate::registry::{Effect, Ended, Registry};
use crate::seen::{Actor, Seen, What};
use crate::vouch::{self, Vouchers};
use crate::windows::{self, Counters, Sequences, Span, Tally};

/// Acts of one container that are told apart within one window; further ones are published each time.
const ACTS_MAX: usize = 4096;

/// Behaviours that wait for an engine's word at most; past it they are published without.
const WAITING_MAX: usize = 1024;

/// What goes to the bus.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A record of the detector's input.
    Observation(Box<Observation>),
    /// A record of which node runs what.
    Inventory(Box<InventoryRecord>),
}

/// What the core asks about processes.
pub trait World {
    /// What `/proc` says of a process.
    fn look(&self, pid: u32) -> Option<Looked>;
    /// The executable of a process by its id inside a container's pid namespace.
    fn inside(&self, cgroup: u64, pid: u32) -> Option<String>;
}

/// What the loop is to do for the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Todo {
    /// Write a slot, and hand in its counters by [`Core::begin`] when it is new.
    Claim {
        /// The cgroup.
        cgroup: u64,
        /// Its index.
        index: u32,
        /// Scope of container leases; 0 while unnamed.
        container: u64,
        /// Scope of workload leases; 0 while unnamed.
        workload: u64,
    },
    /// Take a slot back.
    Release {
        /// The cgroup.
        cgroup: u64,
        /// Its index.
        index: u32,
    },
    /// Ask an engine, or all.
    Ask {
        /// Which; `None` is all.
        engine: Option<Engine>,
        /// The engine's id.
        id: String,
    },
    /// Measure a container in `/proc` and look at its mounts: it was just named.
    Measure(u64),
}

/// An act of a container within the current window.
#[derive(PartialEq, Eq, Hash)]
struct ActKey {
    act: Act,
    executable: String,
}

/// What is kept of one container between two windows.
struct Track {
    start: Timestamp,
    before: Counters,
    tally: Tally,
    /// Acts reported in this window, with how often they happened since.
    reported: HashMap<ActKey, u64>,
    /// Repeats of acts of former windows, to be told with the next report.
    repeats: HashMap<ActKey, u64>,
    names: Names,
    /// The container was made under our eyes.
    is_new: bool,
    has_executed: bool,
}

/// A behaviour that waits for an engine's word.
struct Waiting {
    cgroup: u64,
    behaviour: Behaviour,
    session: Session,
    at: Timestamp,
    until: Timestamp,
}

/// The collector's state.
pub struct Core {
    registry: Registry<Seen>,
    processes: Processes,
    vouchers: Vouchers,
    tracks: HashMap<u64, Track>,
    waiting: VecDeque<Waiting>,
    ids: Ids,
    outbox: Outbox<Message>,
    node_workload: WorkloadName,
    step_ms: u64,
    /// Added to boot time to give wall-clock time, ns.
    boot_to_wall_ns: u64,
    foreign: u64,
}

/// What a core is made of.
pub struct Parts {
    /// Containers.
    pub registry: Registry<Seen>,
    /// Ids of what is published.
    pub ids: Ids,
    /// Cluster and node.
    pub cluster: String,
    /// Node.
    pub node: String,
    /// Step of windows, ms.
    pub step_ms: u64,
    /// Records that wait for the bus at most.
    pub outbox_max: usize,
}

impl Core {
    /// An empty core.
    pub fn new(parts: Parts) -> Self {
        Self {
            registry: parts.registry,
            processes: Processes::default(),
            vouchers: Vouchers::default(),
            tracks: HashMap::new(),
            waiting: VecDeque::new(),
            ids: parts.ids,
            outbox: Outbox::new(parts.outbox_max),
            node_workload: node_workload(&parts.cluster, &parts.node),
            step_ms: parts.step_ms,
            boot_to_wall_ns: 0,
            foreign: 0,
        }
    }

    /// Containers.
    pub fn registry(&self) -> &Registry<Seen> {
        &self.registry
    }

    /// What waits for the bus.
    pub fn outbox(&mut self) -> &mut Outbox<Message> {
        &mut self.outbox
    }

    /// Reports that belonged to no container, since the start: processes of the host under a slot of their own.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Sets what turns the kernel's boot time into wall-clock time.
    pub fn set_clock(&mut self, wall: Timestamp, boot_ns: u64) {
        self.boot_to_wall_ns = wall.0.saturating_sub(boot_ns);
    }

    /// A cgroup was made or found.
    pub fn appeared(
        &mut self,
        cgroup: u64,
        path: &str,
        recognised: Option<Recognised>,
        kept: Option<u32>,
        now: Timestamp,
        world: &impl World,
    ) -> Vec<Todo> {
        let effects = self.registry.appeared(cgroup, path, recognised, kept, now);
        self.apply(effects, now, world)
    }

    /// A bare runtime says whose cgroup this is.
    pub fn claimed(
        &mut self,
        cgroup: u64,
        path: &str,
        by: &crate::naming::description::Description,
        now: Timestamp,
        world: &impl World,
    ) -> Vec<Todo> {
        let effects = self.registry.claimed(cgroup, path, by, now);
        self.apply(effects, now, world)
    }

    /// A container's slot is new: its counters begin at these. `is_new` when its cgroup was made under our eyes.
    pub fn begin(&mut self, cgroup: u64, before: Counters, is_new: bool, now: Timestamp) {
        self.tracks.entry(cgroup).or_insert_with(|| Track {
            start: now,
            before,
            tally: Tally::default(),
            reported: HashMap::new(),
            repeats: HashMap::new(),
            names: Names::default(),
            is_new,
            has_executed: false,
        });
    }

    /// Whether a container's counters have begun.
    pub fn has_begun(&self, cgroup: u64) -> bool {
        self.tracks.contains_key(&cgroup)
    }

    /// Who waits for a name: to be asked for again.
    pub fn waiting(&self) -> Vec<Todo> {
        self.registry
            .waiting()
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Ask { engine, id } => Some(Todo::Ask { engine, id }),
                _ => None,
            })
            .collect()
    }

    /// An engine says something.
    pub fn told(&mut self, told: Told, now: Timestamp, world: &impl World) -> Vec<Todo> {
        let effects = match told {
            Told::Described(description) => self.registry.described(*description),
            Told::Removed(id) => {
                self.registry.removed(&id);
                Vec::new()
            }
            // The cgroup's end says when it is over; a container that nobody knows is named by the tick.
            Told::Ended(_) | Told::Absent(..) => Vec::new(),
            Told::Exec(exec) => {
                self.exec_told(exec, now);
                Vec::new()
            }
            Told::Lost(engine, detail) => {
                self.report(
                    Condition::EngineLost,
                    None,
                    format!("{}: {detail}", word(engine)),
                    now,
                );
                Vec::new()
            }
            Told::Back(engine) => {
                self.report(
                    Condition::EngineBack,
                    None,
                    format!("{} answers again", word(engine)),
                    now,
                );
                self.registry.waiting()
            }
        };
        self.apply(effects, now, world)
    }

    /// What `/proc` says of a container, and the host's paths that are mounted in it.
    pub fn measured(
        &mut self,
        cgroup: u64,
        facts: &crate::naming::facts::Facts,
        now: Timestamp,
        world: &impl World,
    ) -> Vec<Todo> {
        let effects = self.registry.measured(cgroup, facts);
        self.apply(effects, now, world)
    }

    /// The host's paths that a container mounts: each is an act that repetition never makes normal.
    pub fn mounts(&mut self, cgroup: u64, paths: impl IntoIterator<Item = String>, now: Timestamp) {
        for path in paths {
            self.act(cgroup, acts::host_mount(&path), None, 1, now, now);
        }
    }

    /// The kernel reports something.
    pub fn seen(&mut self, seen: Seen, now: Timestamp, world: &impl World) {
        let cgroup = if self.registry.index(seen.cgroup).is_some() {
            seen.cgroup
        } else if let Some(cgroup) = self.registry.cgroup(seen.slot) {
            cgroup
        } else {
            self.foreign += 1;
            return;
        };
        match self.registry.hold(cgroup, seen) {
            Ok(()) => {}
            Err(seen) => self.handle(cgroup, seen, now, world),
        }
    }

    /// A cgroup is gone; `last` are its counters, where they could still be read.
    pub fn gone(
        &mut self,
        cgroup: u64,
        last: Option<(Counters, Sequences)>,
        now: Timestamp,
        world: &impl World,
    ) -> Vec<Todo> {
        self.release_waiting(now, |waiting| waiting.cgroup == cgroup);
        if let Some((counters, sequences)) = last {
            self.window(cgroup, counters, sequences, now);
        }
        let effects = self.registry.gone(cgroup);
        let todos = self.apply(effects, now, world);
        self.tracks.remove(&cgroup);
        todos
    }

    /// Forgets processes that are there no longer.
    pub fn sweep(&mut self, now: Timestamp, alive: impl Fn(u32) -> bool) {
        self.processes.sweep(now, alive);
    }

    /// Time goes on.
    pub fn tick(&mut self, now: Timestamp, world: &impl World) -> Vec<Todo> {
        self.release_waiting(now, |waiting| waiting.until <= now);
        self.vouchers.expire(now);
        self.processes.expire(now);
        let effects = self.registry.tick(now);
        self.apply(effects, now, world)
    }

    /// Closes a container's window with the counters as they are now; `end` is the next window's start.
    pub fn window(
        &mut self,
        cgroup: u64,
        counters: Counters,
        sequences: Sequences,
        end: Timestamp,
    ) {
        let shed = self.outbox.take_shed(cgroup);
        let Some(track) = self.tracks.get_mut(&cgroup) else { return };
        if end <= track.start {
            return;
        }
        let Some(container) = self.registry.container(cgroup) else { return };
        for (cause, count) in shed {
            track.tally.lose(cause, count);
        }
        let length = end.since(track.start);
        let span = Span {
            start: track.start,
            length_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(1),
            step_ms: self.step_ms,
        };
        let window = windows::build(span, &track.before, &counters, &track.tally, sequences);
        track.start = end;
        track.before = counters;
        track.tally = Tally::default();
        for (key, count) in track.reported.drain().filter(|(_, count)| *count > 0) {
            *track.repeats.entry(key).or_default() += count;
        }
        if track.repeats.len() > ACTS_MAX {
            // What never came back is in the windows' counts.
            track.repeats.clear();
        }
        let body = Body::Window(container.key.clone(), window);
        let workload = container.workload.clone();
        self.observe(Worth::Window, cgroup, workload, body, end);
    }

    /// Says something about the node or one of its containers.
    pub fn report(
        &mut self,
        condition: Condition,
        cgroup: Option<u64>,
        detail: String,
        now: Timestamp,
    ) {
        let container = cgroup.and_then(|cgroup| self.registry.container(cgroup));
        let workload = container.map_or_else(|| self.node_workload.clone(), |c| c.workload.clone());
        let health = Health {
            node: self.node_workload.scope.clone(),
            condition,
            container: container.map(|container| container.key.clone()),
            detail,
        };
        self.observe(Worth::Life, cgroup.unwrap_or(0), workload, Body::Health(health), now);
    }

    fn apply(&mut self, effects: Vec<Effect>, now: Timestamp, world: &impl World) -> Vec<Todo> {
        let mut todos = Vec::new();
        for effect in effects {
            match effect {
                Effect::Claim { cgroup, index, container, workload } => {
                    todos.push(Todo::Claim { cgroup, index, container, workload });
                }
                Effect::Ask { engine, id } => todos.push(Todo::Ask { engine, id }),
                Effect::Named(cgroup) => {
                    self.named(cgroup, now, world);
                    todos.push(Todo::Measure(cgroup));
                }
                Effect::Renamed(former) => self.stopped(&former, now),
                Effect::Changed(cgroup) => {
                    if let Some(container) = self.registry.container(cgroup).cloned() {
                        // The detector knows neighbours by their addresses, which come after the name.
                        let (workload, facts) = (container.workload.clone(), container.clone());
                        self.observe(Worth::Life, cgroup, workload, Body::Started(facts), now);
                        self.inventory(container, LifeState::Running, now);
                    }
                }
                Effect::Ended(ended) => {
                    let Ended { container, index } = *ended;
                    self.stopped(&container, now);
                    let cgroup = container.key.cgroup;
                    self.inventory(container, LifeState::Stopped, now);
                    todos.push(Todo::Release { cgroup, index });
                }
                Effect::Dropped { cgroup, index } => {
                    self.tracks.remove(&cgroup);
                    todos.push(Todo::Release { cgroup, index });
                }
                Effect::Exhausted(path) => {
                    let detail = format!(
                        "no slot is left for {}: it is not observed; raise collector.containers-max",
                        printable(&path, 200)
                    );
                    self.report(Condition::SlotsExhausted, None, detail, now);
                }
                Effect::Unresolved(cgroup) => {
                    let detail = "no engine named it in time: it goes by its cgroup's name; \
                        check that its engine answers (`bulkhead doctor`)";
                    self.report(Condition::UnresolvedPassed, Some(cgroup), detail.into(), now);
                }
            }
        }
        todos
    }

    /// A container has its name: its start goes out, and then what it did meanwhile.
    fn named(&mut self, cgroup: u64, now: Timestamp, world: &impl World) {
        let Some(container) = self.registry.container(cgroup).cloned() else { return };
        let workload = container.workload.clone();
        let started = Body::Started(container.clone());
        self.observe(Worth::Life, cgroup, workload, started, now);
        self.inventory(container, LifeState::Running, now);
        let (held, lost) = self.registry.take_held(cgroup);
        if lost > 0
            && let Some(track) = self.tracks.get_mut(&cgroup)
        {
            track.tally.lose("unnamed", lost);
        }
        for seen in held {
            self.handle(cgroup, seen, now, world);
        }
    }

    fn stopped(&mut self, container: &Container, now: Timestamp) {
        let body = Body::Stopped(container.key.clone());
        self.observe(Worth::Life, container.key.cgroup, container.workload.clone(), body, now);
    }

    fn exec_told(&mut self, exec: Exec, now: Timestamp) {
        self.vouchers.note(exec, now);
        // Whoever waits for this word need not wait any longer.
        let vouched: Vec<usize> =
            (0..self.waiting.len()).filter(|at| self.user_of(*at).is_some()).collect();
        for at in vouched.into_iter().rev() {
            if let Some(mut waiting) = self.waiting.remove(at) {
                if let Some(process) = &mut waiting.behaviour.process {
                    process.engine_exec = true;
                }
                self.behaviour(waiting.cgroup, waiting.behaviour, waiting.at);
            }
        }
    }

    fn user_of(&mut self, at: usize) -> Option<String> {
        let waiting = self.waiting.get(at)?;
        let engine_id = &self.registry.container(waiting.cgroup)?.key.engine_id;
        let session = waiting.session;
        self.vouchers.vouch(engine_id, session.pid, session.entered).map(str::to_owned)
    }

    /// Publishes those whose wait is over, without the engine's word.
    fn release_waiting(&mut self, _now: Timestamp, over: impl Fn(&Waiting) -> bool) {
        let (released, still): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(over);
        self.waiting = still;
        for waiting in released {
            self.behaviour(waiting.cgroup, waiting.behaviour, waiting.at);
        }
    }

    fn handle(&mut self, cgroup: u64, seen: Seen, now: Timestamp, world: &impl World) {
        let at = Timestamp(seen.time_ns.saturating_add(self.boot_to_wall_ns));
        let Some(track) = self.tracks.get_mut(&cgroup) else { return };
        track.tally.event();
        match seen.what {
            What::Exec { pid, parent, uid, origin, path, socket_stdio, memfd } => {
                let first = !std::mem::replace(&mut track.has_executed, true);
                // It may have come in before its slot was there: then the kernel could not tell, but nobody was before it.
                let origin = if first && track.is_new && origin == Origin::Unknown {
                    Origin::Started
                } else {
                    origin
                };
                let exec = Executed { pid, parent, path, uid, origin, at };
                let process = self.processes.executed(&exec, |pid| world.look(pid));
                let path = process.0.executable.as_str();
                let acts = acts::execution(acts::Execution { path, socket_stdio, memfd });
                for act in acts {
                    self.act(cgroup, act, Some(process.clone()), 1, at, now);
                }
            }
            // The loop takes these before they come here.
            What::CgroupMade { .. } => {}
            What::Call { pid, abi, number, arguments, path } => {
                let call = acts::Call { abi, number, arguments, path: &path };
                if let Some(act) = acts::call(call, |pid| world.inside(cgroup, pid)) {
                    let process = self.processes.of(pid, |pid| world.look(pid));
                    self.act(cgroup, act, process, 1, at, now);
                }
            }
            What::Connect { peer, protocol, refused, count, actor } => {
                let peer = acts::peer(peer, protocol);
                if let Some(act) = acts::connection(peer, track.names.of(peer.address), refused) {
                    let process = self.process_of(actor, world);
                    self.act(cgroup, act, process, count, at, now);
                }
            }
            What::Listen { port, protocol, ephemeral, actor } => {
                if let Some(act) = acts::listening(port, protocol, ephemeral) {
                    let process = self.process_of(actor, world);
                    self.act(cgroup, act, process, 1, at, now);
                }
            }
            What::Inbound { peer, port, protocol, count, actor } => {
                let act = acts::inbound(acts::peer(peer, protocol), port);
                let process = self.process_of(actor, world);
                self.act(cgroup, act, process, count, at, now);
            }
            What::Dns { answer, message, actor } => {
                // What is no DNS on that port is still a flow; there is no name in it.
                let Ok(message) = dns::parse(&message) else { return };
                if answer != message.response {
                    return;
                }
                if answer {
                    track.names.learn(&message.name, &message.addresses);
                    return;
                }
                track.tally.question(&message.name);
                let process = self.process_of(actor, world);
                self.act(cgroup, acts::question(&message.name), process, 1, at, now);
            }
        }
    }

    fn process_of(
        &mut self,
        actor: Option<Actor>,
        world: &impl World,
    ) -> Option<(Process, Option<Session>)> {
        let actor = actor?;
        self.processes.of(actor.pid, |pid| world.look(pid)).or_else(|| {
            // It is gone, and never executed anything that was seen: its own word for itself is what is left.
            let executable = printable(&actor.comm, 32);
            Some((
                Process { pid: actor.pid, uid: actor.uid, executable, ..Process::default() },
                None,
            ))
        })
    }

    /// An act: told at once the first time in a window, counted the other times.
    fn act(
        &mut self,
        cgroup: u64,
        act: Act,
        process: Option<(Process, Option<Session>)>,
        count: u64,
        at: Timestamp,
        now: Timestamp,
    ) {
        let (process, session) = match process {
            Some((process, session)) => (Some(process), session),
            None => (None, None),
        };
        let Some(track) = self.tracks.get_mut(&cgroup) else { return };
        let executable = process.as_ref().map(|p| p.executable.clone()).unwrap_or_default();
        let key = ActKey { act, executable };
        if let Some(times) = track.reported.get_mut(&key) {
            *times += count;
            return;
        }
        let count = count + track.repeats.remove(&key).unwrap_or(0);
        let act = key.act.clone();
        if track.reported.len() < ACTS_MAX {
            track.reported.insert(key, 0);
        }
        let mut behaviour = Behaviour { act, process, count };
        if let Some(session) = session
            && let Some(process) = &mut behaviour.process
        {
            let Some(container) = self.registry.container(cgroup) else { return };
            let vouch = self.vouchers.vouch(&container.key.engine_id, session.pid, session.entered);
            let until = session.entered.plus(Duration::from_millis(vouch::WAIT_MS));
            if vouch.is_some() {
                process.engine_exec = true;
            } else if has_engine(container) && now < until && self.waiting.len() < WAITING_MAX {
                self.waiting.push_back(Waiting { cgroup, behaviour, session, at, until });
                return;
            }
        }
        self.behaviour(cgroup, behaviour, at);
    }

    fn behaviour(&mut self, cgroup: u64, behaviour: Behaviour, at: Timestamp) {
        let Some(container) = self.registry.container(cgroup) else { return };
        let workload = container.workload.clone();
        let body = Body::Behaviour(container.key.clone(), behaviour);
        self.observe(Worth::Behaviour, cgroup, workload, body, at);
    }

    fn inventory(&mut self, container: Container, state: LifeState, at: Timestamp) {
        let cgroup = container.key.cgroup;
        let record = InventoryRecord { container, state, at };
        self.outbox.push(Worth::Life, cgroup, Message::Inventory(Box::new(record)));
    }

    fn observe(
        &mut self,
        worth: Worth,
        cgroup: u64,
        workload: WorkloadName,
        body: Body,
        at: Timestamp,
    ) {
        let observation = Observation { id: self.ids.take(), workload, at, body };
        self.outbox.push(worth, cgroup, Message::Observation(Box::new(observation)));
    }
}

/// Whether a container has an engine that could vouch for who enters it.
fn has_engine(container: &Container) -> bool {
    matches!(container.engine, Engine::Docker | Engine::Podman)
}

fn word(engine: Engine) -> &'static str {
    match engine {
        Engine::Docker => "docker",
        Engine::Podman => "podman",
        Engine::Cgroup => "cgroup",
        Engine::Systemd => "systemd",
    }
}

/// The workload under which a node speaks of itself.
pub fn node_workload(cluster: &str, node: &str) -> WorkloadName {
    WorkloadName {
        cluster: cluster.into(),
        scope: node.into(),
        kind: OwnerKind::Unit,
        owner: "bulkhead.service".into(),
        container: String::new(),
    }
}

#[cfg(test)]
mod tests;
