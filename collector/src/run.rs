//! The loop: cgroups, engines, the kernel's ring and the clock go into the [`Core`], and what it says is done.
//!
//! One task owns everything; engines and the bus have tasks of their own behind bounded channels, so that neither's
//! slowness holds the ring up.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_bus::Bus;
use bulkhead_domain::Timestamp;
use bulkhead_domain::health::Condition;
use bulkhead_domain::text::printable;
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::{Config, OUTBOX_MAX};
use crate::core::{Core, Message, Parts, Todo, World};
use crate::epoch::{self, EpochError, Ids};
use crate::kernel::{Flows, Kernel, KernelError};
use crate::mounts;
use crate::naming::cgroup;
use crate::naming::engine::{Follower, follow};
use crate::naming::event::Told;
use crate::naming::facts;
use crate::naming::runc;
use crate::naming::tree::{Change, Tree, inode};
use crate::naming::workload::Place;
use crate::processes::{self, Looked};
use crate::publish;
use crate::registry::{Node, Registry};
use crate::seen::{Seen, What};
use crate::slots::Slots;
use crate::windows::{Counters, Sequences};

/// Reports taken from the ring before anything else has its turn.
const TURN_MAX: usize = 4_096;

/// Words of engines that wait for the loop.
const TOLD_MAX: usize = 1_024;

/// How often time is told to the core, ms; the shorter one while a bare runtime may still claim a cgroup.
const TICK_MS: u64 = 100;
const TICK_UNCLAIMED_MS: u64 = 10;

/// How long after a cgroup was made a bare runtime's state is looked for often, ms.
const BARE_MS: u64 = 2_000;

/// How often who waits for a name is asked for again, ms.
const ASK_MS: u64 = 500;

/// When a container is measured again after its name, ms: its namespaces and addresses come in the first moments.
const MEASURE_MS: [u64; 5] = [100, 500, 1_500, 4_000, 10_000];

/// How often afterwards, ms.
const MEASURE_LATER_MS: u64 = 30_000;

/// How long a program that runs when the sequences turn may still write to the former half, ms.
const SETTLE_MS: u64 = 5;

/// How long the last records may take to reach the bus when the loop ends.
const FLUSH_SECS_MAX: u64 = 3;

/// Why the collector ended, or could not begin.
#[derive(Debug, Error)]
pub enum RunError {
    /// No epoch.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The cgroup tree cannot be watched.
    #[error("cannot watch the cgroups below {path}")]
    Tree {
        /// The root.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// No boot id.
    #[error("cannot read the boot id: is /proc mounted?")]
    Boot,
    /// The ring cannot be waited for.
    #[error("cannot wait for the kernel's reports")]
    Ring(#[source] std::io::Error),
    /// A map or ring failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The publishing task is gone.
    #[error("the task that publishes ended before its time")]
    Publisher,
}

/// Collects until `stop` is done; closes the last windows then.
pub async fn run<K: Kernel, B: Bus>(
    config: Config,
    kernel: K,
    bus: B,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let boot = facts::boot_id().ok_or(RunError::Boot)?;
    let epoch = epoch::next(&config.state)?;
    let fail = |source| RunError::Tree { path: config.cgroup_root.clone(), source };
    let tree = Tree::new(&config.cgroup_mount, &config.cgroup_root).map_err(fail)?;
    let tree = readable(tree).map_err(fail)?;
    let ring = readable(Ring(kernel)).map_err(RunError::Ring)?;
    let (sender, told) = mpsc::channel(TOLD_MAX);
    let followers =
        config.sources.iter().map(|source| follow(source.clone(), sender.clone())).collect();
    let (batches, to_publish) = mpsc::channel(1);
    let publisher = tokio::spawn(publish::run(bus, to_publish));

    let place = Place { cluster: config.cluster.clone(), node: config.node.clone() };
    let registry = Registry::new(Node { place, boot }, Slots::new(config.containers_max + 1));
    let core = Core::new(Parts {
        registry,
        ids: Ids::new(&config.cluster, &config.node, epoch),
        cluster: config.cluster.clone(),
        node: config.node.clone(),
        step_ms: millis(config.step),
        outbox_max: OUTBOX_MAX,
    });
    let mut state = State {
        host: Host { mount: config.cgroup_mount.clone(), paths: HashMap::new() },
        host_netns: facts::netns("1").or_else(|| facts::netns("self")).unwrap_or(0),
        host_mounts: std::fs::read_to_string("/proc/1/mountinfo").unwrap_or_default(),
        config,
        core,
        tree,
        ring,
        followers,
        measures: HashMap::new(),
        mounts_told: HashSet::new(),
        asked: Instant::now(),
        bare_until: Instant::now(),
        turned_away: HashMap::new(),
        at_start: true,
    };
    state.begin()?;
    let outcome = state.turns(told, &batches, stop).await;
    let closed = state.close_windows(wall()).await;
    state.flush(batches).await;
    // What the bus does not take by now is lost, as it would be with the machine.
    let _ = timeout(Duration::from_secs(FLUSH_SECS_MAX), publisher).await;
    outcome.and(closed)
}

/// What happens next.
enum Event {
    /// The kernel reports.
    Ring,
    /// Cgroups came or went.
    Tree,
    /// An engine speaks.
    Told(Told),
    /// The publisher has room.
    Publish(mpsc::OwnedPermit<Vec<Message>>),
    /// A moment passed.
    Tick,
    /// A step ended.
    Window(Timestamp),
    /// It is over.
    Stop,
}

struct State<K: Kernel> {
    config: Config,
    core: Core,
    tree: AsyncFd<Tree>,
    ring: AsyncFd<Ring<K>>,
    followers: Vec<Follower>,
    host: Host,
    host_netns: u64,
    host_mounts: String,
    /// How often each container was measured since its name, and when it is next.
    measures: HashMap<u64, (usize, Instant)>,
    mounts_told: HashSet<(u64, String)>,
    asked: Instant,
    /// Until when a bare runtime's state is looked for often.
    bare_until: Instant,
    /// Containers for which no slot was left.
    turned_away: HashMap<u64, String>,
    /// Those that ran before are being taken in.
    at_start: bool,
}

impl<K: Kernel> State<K> {
    /// Takes in the containers that run already.
    fn begin(&mut self) -> Result<(), RunError> {
        self.set_clock();
        let changes = self.tree.get_mut().scan();
        for change in changes {
            // One without processes has yet to start.
            if let Change::Made { cgroup, path } = &change
                && cgroup::recognise(path, &self.config.watch).is_some()
                && facts::is_populated(&self.host.directory(path))
            {
                self.kernel().mark_started(*cgroup)?;
            }
            self.changed(change)?;
        }
        self.claim_bare()?;
        self.at_start = false;
        Ok(())
    }

    /// Turns until it is told to stop.
    async fn turns(
        &mut self,
        mut told: mpsc::Receiver<Told>,
        batches: &mpsc::Sender<Vec<Message>>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        tokio::pin!(stop);
        let length = self.config.step;
        let mut next_window = next_boundary(wall(), length);
        let mut next_tick = Instant::now();
        loop {
            let window_at = Instant::now() + next_window.since(wall());
            let outbox_waits = !self.core.outbox().is_empty();
            let event = tokio::select! {
                () = &mut stop => Event::Stop,
                () = sleep_until(window_at) => Event::Window(next_window),
                ready = self.ring.readable() => {
                    ready.map_err(RunError::Ring)?.retain_ready();
                    Event::Ring
                }
                ready = self.tree.readable() => {
                    ready.map_err(RunError::Ring)?.retain_ready();
                    Event::Tree
                }
                Some(told) = told.recv() => Event::Told(told),
                permit = batches.clone().reserve_owned(), if outbox_waits => {
                    Event::Publish(permit.map_err(|_| RunError::Publisher)?)
                }
                () = sleep_until(next_tick) => Event::Tick,
            };
            match event {
                Event::Stop => return Ok(()),
                Event::Ring => self.drain().await?,
                Event::Tree => self.read_tree().await?,
                Event::Told(told) => {
                    let todos = self.core.told(told, wall(), &self.host);
                    self.perform(todos)?;
                }
                Event::Publish(permit) => {
                    permit.send(self.core.outbox().take(publish::BATCH_MAX));
                }
                Event::Tick => {
                    self.tick()?;
                    let pause = if self.may_be_claimed() { TICK_UNCLAIMED_MS } else { TICK_MS };
                    next_tick = Instant::now() + Duration::from_millis(pause);
                }
                Event::Window(end) => {
                    self.set_clock();
                    self.drain().await?;
                    self.close_windows(end).await?;
                    self.core.sweep(wall(), |pid| Path::new(&format!("/proc/{pid}")).exists());
                    // Notices may have been dropped: look at everything now and then.
                    let changes = self.tree.get_mut().scan();
                    self.all_changed(changes)?;
                    self.take_in()?;
                    next_window = next_boundary(wall(), length);
                }
            }
        }
    }

    /// Takes what the ring holds, one turn's worth.
    async fn drain(&mut self) -> Result<(), RunError> {
        for _ in 0..TURN_MAX {
            match self.ring.get_mut().0.next() {
                Some(seen) => self.seen(seen)?,
                None => return clear(&self.ring).await,
            }
        }
        Ok(())
    }

    fn seen(&mut self, seen: Seen) -> Result<(), RunError> {
        let What::CgroupMade { path } = seen.what else {
            self.core.seen(seen, wall(), &self.host);
            return Ok(());
        };
        // The ring has it in order: the slot is there before the container's first report is looked at.
        let directory = self.host.directory(&path);
        if directory.starts_with(&self.config.cgroup_root) && inode(&directory) == Some(seen.cgroup)
        {
            return self.changed(Change::Made { cgroup: seen.cgroup, path });
        }
        Ok(())
    }

    async fn read_tree(&mut self) -> Result<(), RunError> {
        let path = self.config.cgroup_root.clone();
        let changes =
            self.tree.get_mut().read().map_err(|source| RunError::Tree { path, source })?;
        if changes.is_empty() {
            clear(&self.tree).await?;
        }
        self.all_changed(changes)
    }

    fn all_changed(&mut self, changes: Vec<Change>) -> Result<(), RunError> {
        if changes.iter().any(|change| matches!(change, Change::Gone { .. })) {
            // What the container did last is in the ring still.
            for _ in 0..TURN_MAX {
                let Some(seen) = self.ring.get_mut().0.next() else { break };
                self.seen(seen)?;
            }
        }
        changes.into_iter().try_for_each(|change| self.changed(change))
    }

    fn changed(&mut self, change: Change) -> Result<(), RunError> {
        match change {
            Change::Made { cgroup, path } => {
                let recognised = cgroup::recognise(&path, &self.config.watch);
                let is_container = recognised.is_some();
                if !is_container {
                    if self.at_start || is_inner(&path) || self.config.runc_roots.is_empty() {
                        return Ok(());
                    }
                    // A bare runtime may claim it when it has written its state; until then it only has a slot if it
                    // has the name of a container in the making. A slot for the directory above one would hide it.
                    self.bare_until = Instant::now() + Duration::from_millis(BARE_MS);
                    if !self.is_in_the_making(&path) {
                        return Ok(());
                    }
                }
                let kept = self.kernel().kept(cgroup);
                self.host.paths.insert(cgroup, path.clone());
                let todos = self.core.appeared(cgroup, &path, recognised, kept, wall(), &self.host);
                self.perform(todos)
            }
            Change::Gone { cgroup } => {
                let last = match self.core.registry().index(cgroup) {
                    Some(index) if self.core.registry().container(cgroup).is_some() => {
                        self.last_words(index)
                    }
                    _ => None,
                };
                let todos = self.core.gone(cgroup, last, wall(), &self.host);
                self.turned_away.remove(&cgroup);
                self.measures.remove(&cgroup);
                self.mounts_told.retain(|(told, _)| *told != cgroup);
                self.perform(todos)?;
                self.host.paths.remove(&cgroup);
                Ok(())
            }
        }
    }

    /// Whether a bare runtime has made the directory of a container by a cgroup's name.
    fn is_in_the_making(&self, path: &str) -> bool {
        path.rsplit_once('/').is_some_and(|(_, leaf)| {
            !leaf.is_empty() && self.config.runc_roots.iter().any(|root| root.join(leaf).is_dir())
        })
    }

    /// Tries those again for which no slot was left.
    fn take_in(&mut self) -> Result<(), RunError> {
        if !self.core.registry().has_room() {
            return Ok(());
        }
        let turned_away = std::mem::take(&mut self.turned_away);
        turned_away
            .into_iter()
            .try_for_each(|(cgroup, path)| self.changed(Change::Made { cgroup, path }))
    }

    /// The counters of a container that ended; its sequences since the last window are not complete, and left out.
    fn last_words(&mut self, index: u32) -> Option<(Counters, Sequences)> {
        let kernel = self.kernel();
        let read = kernel
            .flows()
            .and_then(|mut flows| kernel.counters(index, &mut flows))
            .map(|counters| (counters, Sequences::default()));
        read.map_err(|error| tracing::warn!(cause = %error, index, "last window not read")).ok()
    }

    fn may_be_claimed(&self) -> bool {
        self.core.registry().has_unclaimed() || Instant::now() < self.bare_until
    }

    fn tick(&mut self) -> Result<(), RunError> {
        let now = wall();
        let todos = self.core.tick(now, &self.host);
        self.perform(todos)?;
        if self.may_be_claimed() {
            self.claim_bare()?;
        }
        if self.asked.elapsed() >= Duration::from_millis(ASK_MS) {
            self.asked = Instant::now();
            let asks = self.core.waiting();
            self.perform(asks)?;
        }
        let due: Vec<u64> = self
            .measures
            .iter()
            .filter(|(_, (_, at))| *at <= Instant::now())
            .map(|(cgroup, _)| *cgroup)
            .collect();
        due.into_iter().try_for_each(|cgroup| self.measure(cgroup))
    }

    /// Lets bare runtimes claim their cgroups.
    fn claim_bare(&mut self) -> Result<(), RunError> {
        for bare in runc::list(&self.config.runc_roots) {
            let Ok(below) = bare.cgroup.strip_prefix(&self.config.cgroup_mount) else { continue };
            if !bare.cgroup.starts_with(&self.config.cgroup_root) {
                continue;
            }
            let path = format!("/{}", below.to_string_lossy());
            let engine_named = match cgroup::recognise(&path, &self.config.watch) {
                Some(cgroup::Recognised::Container { engine, .. }) => engine.is_some(),
                Some(_) => true,
                None => false,
            };
            if engine_named || is_inner(&path) {
                continue;
            }
            let Some(cgroup) = inode(&bare.cgroup) else { continue };
            self.host.paths.insert(cgroup, path.clone());
            let todos = self.core.claimed(cgroup, &path, &bare.description, wall(), &self.host);
            self.perform(todos)?;
        }
        Ok(())
    }

    fn perform(&mut self, todos: Vec<Todo>) -> Result<(), RunError> {
        let mut todos = std::collections::VecDeque::from(todos);
        while let Some(todo) = todos.pop_front() {
            match todo {
                Todo::Claim { cgroup, index, container, workload } => {
                    if !self.core.has_begun(cgroup) {
                        let kernel = self.kernel();
                        let before = kernel.counters(index, &mut Flows::new())?;
                        let is_new = !self.at_start;
                        self.core.begin(cgroup, before, is_new, wall());
                    }
                    if let Err(error) = self.kernel().claim(cgroup, index, container, workload) {
                        // One container less is no reason to observe none.
                        let detail =
                            format!("a container is not observed: {error}: {}", error.source);
                        self.core.report(Condition::SlotsExhausted, Some(cgroup), detail, wall());
                    }
                }
                Todo::Release { cgroup, .. } => {
                    if let Err(error) = self.kernel().release(cgroup) {
                        tracing::warn!(cause = %error.source, cgroup, "{error}");
                    }
                }
                Todo::Ask { engine, id } => {
                    for follower in &self.followers {
                        if engine.is_none_or(|engine| engine == follower.engine) {
                            // A full queue is asked again by the tick.
                            follower.ask(&id);
                        }
                    }
                }
                Todo::Measure(cgroup) => {
                    self.measures.insert(cgroup, (0, Instant::now()));
                    self.measure(cgroup)?;
                }
            }
        }
        Ok(())
    }

    /// Asks `/proc` about a container, and plans when to ask again.
    fn measure(&mut self, cgroup: u64) -> Result<(), RunError> {
        let Some((times, _)) = self.measures.get(&cgroup).copied() else { return Ok(()) };
        let Some(container) = self.core.registry().container(cgroup) else {
            self.measures.remove(&cgroup);
            return Ok(());
        };
        let directory = self.host.directory(&container.cgroup_path);
        let facts = facts::measure(&directory, container.pid, self.host_netns);
        let now = wall();
        let todos = self.core.measured(cgroup, &facts, now, &self.host);
        if facts.pid != 0 {
            let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", facts.pid));
            let found = mounts::host_mounts(&table.unwrap_or_default(), &self.host_mounts);
            let fresh: Vec<String> = found
                .into_iter()
                .filter(|path| self.mounts_told.insert((cgroup, path.clone())))
                .collect();
            self.core.mounts(cgroup, fresh, now);
        }
        let pause = MEASURE_MS.get(times).copied().unwrap_or(MEASURE_LATER_MS);
        let next = Instant::now() + Duration::from_millis(pause);
        self.measures.insert(cgroup, (times + 1, next));
        self.perform(todos)
    }

    async fn close_windows(&mut self, end: Timestamp) -> Result<(), RunError> {
        let containers: Vec<(u64, u32)> = {
            let registry = self.core.registry();
            let index = |cgroup: &u64| Some((*cgroup, registry.index(*cgroup)?));
            registry.named().iter().filter_map(index).collect()
        };
        if containers.is_empty() {
            return Ok(());
        }
        self.kernel().turn_sequences()?;
        let mut flows = self.kernel().flows()?;
        // A program that began before the turn may still be marking the half that is read next.
        sleep(Duration::from_millis(SETTLE_MS)).await;
        for (cgroup, index) in containers {
            let counters = self.kernel().counters(index, &mut flows)?;
            let sequences = self.kernel().sequences(index)?;
            self.core.window(cgroup, counters, sequences, end);
        }
        Ok(())
    }

    /// Hands the last records to the publisher, as long as it takes them in time.
    async fn flush(&mut self, batches: mpsc::Sender<Vec<Message>>) {
        let flush = async {
            while !self.core.outbox().is_empty() {
                let batch = self.core.outbox().take(publish::BATCH_MAX);
                if batches.send(batch).await.is_err() {
                    return;
                }
            }
        };
        if timeout(Duration::from_secs(FLUSH_SECS_MAX), flush).await.is_err() {
            tracing::warn!("the bus did not take the last records in time");
        }
    }

    fn kernel(&mut self) -> &mut K {
        &mut self.ring.get_mut().0
    }

    fn set_clock(&mut self) {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let boot_ns = boot.tv_sec.cast_unsigned() * 1_000_000_000 + boot.tv_nsec.cast_unsigned();
        self.core.set_clock(wall(), boot_ns);
    }
}

/// Lets tokio wait for a descriptor.
#[expect(
    deprecated,
    reason = "its successor is unsafe, and both values own the descriptor they return"
)]
fn readable<T: AsRawFd>(value: T) -> std::io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(value, Interest::READABLE)
}

/// Forgets that a descriptor was readable, after it was emptied.
async fn clear<T: AsRawFd>(fd: &AsyncFd<T>) -> Result<(), RunError> {
    if let Ok(ready) = timeout(Duration::ZERO, fd.readable()).await {
        ready.map_err(RunError::Ring)?.clear_ready();
    }
    Ok(())
}

/// Whether a path lies inside a container that an engine's id names.
fn is_inner(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(parent, _)| {
        parent
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([parent.len()])
            .any(|end| cgroup::recognise(&parent[..end], &cgroup::Watch::default()).is_some())
    })
}

/// The machine as the core asks about it.
struct Host {
    mount: PathBuf,
    paths: HashMap<u64, String>,
}

/// Processes of a container that are looked through for one by its inner id.
const INSIDE_MAX: usize = 512;

impl Host {
    fn directory(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }
}

impl World for Host {
    fn look(&self, pid: u32) -> Option<Looked> {
        processes::look(pid)
    }

    fn inside(&self, cgroup: u64, pid: u32) -> Option<String> {
        let directory = self.directory(self.paths.get(&cgroup)?);
        let procs = std::fs::read_to_string(directory.join("cgroup.procs")).ok()?;
        let outer = procs.lines().take(INSIDE_MAX).find(|outer| {
            let status = std::fs::read_to_string(format!("/proc/{outer}/status"));
            status.is_ok_and(|status| {
                status
                    .lines()
                    .find_map(|line| line.strip_prefix("NSpid:"))
                    .and_then(|ids| ids.split_whitespace().next_back()?.parse::<u32>().ok())
                    == Some(pid)
            })
        })?;
        Some(printable(&processes::look(outer.parse().ok()?)?.executable, 512))
    }
}

/// A kernel that tokio can wait for.
struct Ring<K>(K);

impl<K: Kernel> AsRawFd for Ring<K> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The wall clock; the loop is where clocks are read.
fn wall() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Timestamp(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned())
}

/// The next whole multiple of the step on the wall clock.
fn next_boundary(now: Timestamp, step: Duration) -> Timestamp {
    let step = millis(step) * 1_000_000;
    Timestamp((now.0 / step + 1) * step)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_at_multiples_of_the_step() {
        let step = Duration::from_secs(5);
        let at = Timestamp::from_secs;
        assert_eq!(next_boundary(Timestamp(at(1_001).0 + 7), step), at(1_005));
        assert_eq!(next_boundary(at(1_005), step), at(1_010), "a boundary ends one window only");
    }

    #[test]
    fn what_lies_inside_a_container_is_told_by_its_path() {
        let id = "0cd273a3b8dc35f837ec2ecb40b72417200aeb86c849398a7eb1510d9f3c5be3";
        assert!(is_inner(&format!("/docker/{id}/init.scope/x")));
        assert!(!is_inner(&format!("/docker/{id}")));
        assert!(!is_inner("/runc/web"));
    }
}
