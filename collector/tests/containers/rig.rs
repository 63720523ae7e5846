//! A collector on the real kernel and an embedded log, below a cgroup of its own.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use bulkhead_bus::embedded::{self, Embedded};
use bulkhead_bus::signature::Signer;
use bulkhead_bus::{Bus, Topic, typed};
use bulkhead_collector::config::Config;
use bulkhead_collector::naming::cgroup::Watch;
use bulkhead_collector::naming::engine::Source;
use bulkhead_collector::naming::tree;
use bulkhead_collector::observer::Observed;
use bulkhead_collector::run;
use bulkhead_domain::behaviour::Behaviour;
use bulkhead_domain::container::Container;
use bulkhead_domain::inventory::{InventoryRecord, LifeState};
use bulkhead_domain::observation::{Body, Observation};
use bulkhead_domain::{Timestamp, Window};
use bulkhead_loader::guard::{self, Guard};
use bulkhead_loader::observe::{self, Observer};
use bulkhead_tests::requirement::cgroup2;
use bulkhead_tests::scratch;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Longest wait for anything: a slow machine is no failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Step of the windows in these tests.
const STEP: Duration = Duration::from_secs(1);

/// A running collector; it ends when this is dropped.
pub(crate) struct Rig {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    bus: Embedded,
    runtime: tokio::runtime::Runtime,
    signer: Signer,
    state: PathBuf,
    pins: Option<Pins>,
    directory: Option<TempDir>,
}

/// Pinned guards that end with the test.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = Guard::uninstall(&self.0) {
            eprintln!("the guards stay behind: {error:?}");
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What to collect.
pub(crate) struct Scene {
    /// The cgroup below which containers are, relative to the mount.
    pub(crate) parent: String,
    /// Engines.
    pub(crate) sources: Vec<Source>,
    /// Roots of bare runtimes.
    pub(crate) runc_roots: Vec<PathBuf>,
    /// Watched parents and units.
    pub(crate) watch: Watch,
}

impl Scene {
    /// Below this cgroup, with no engine.
    pub(crate) fn below(parent: &str) -> Self {
        Self {
            parent: parent.into(),
            sources: Vec::new(),
            runc_roots: Vec::new(),
            watch: Watch::default(),
        }
    }
}

fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is past 1970");
    Timestamp(since.as_nanos() as u64)
}

impl Rig {
    /// Starts a collector with a log of its own.
    pub(crate) fn start(scene: Scene) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the state");
        let state = directory.path().to_owned();
        let bus = Embedded::open(embedded::Config::new(state.join("log"), clock)).expect("a log");
        Self::launch(scene, state, bus, Some(directory))
    }

    /// Ends the collector and starts another one on the same log and state.
    pub(crate) fn restart(mut self, scene: Scene) -> Self {
        self.end();
        drop(self.pins.take());
        let directory = self.directory.take();
        Self::launch(scene, self.state.clone(), self.bus.clone(), directory)
    }

    fn launch(scene: Scene, state: PathBuf, bus: Embedded, directory: Option<TempDir>) -> Self {
        let mount = cgroup2().expect("the requirement was checked");
        let root = mount.join(&scene.parent);
        std::fs::create_dir_all(&root).expect("a cgroup of our own");
        // The guards mark a new container's cgroup at its creation, as they do on a node.
        let pins = Path::new("/sys/fs/bpf").join(format!("bulkhead-{}", scratch::unique()));
        std::fs::create_dir(&pins).expect("a bpffs is mounted");
        let hold = Duration::from_secs(5);
        let guards = guard::Config { cgroup_root: root.clone(), pin_dir: pins.clone(), hold };
        let mut guard =
            Guard::install(&guards).unwrap_or_else(|error| panic!("the guards load: {error:?}"));
        for parent in &scene.watch.parents {
            let parent = tree::inode(&mount.join(parent.trim_start_matches('/')));
            guard.watch_parent(parent.expect("it is there")).expect("the guards take it");
        }
        let pins = Pins(pins);
        let observer = Observer::load(&observe::Config {
            cgroup_root: root.clone(),
            pin_dir: Some(pins.0.clone()),
            slots_max: 32,
        })
        .unwrap_or_else(|error| panic!("the observers load: {error:?}"));
        let config = Config {
            cluster: "local".into(),
            node: "harbour".into(),
            state: state.join("agent"),
            cgroup_mount: mount,
            cgroup_root: root,
            sources: scene.sources,
            runc_roots: scene.runc_roots,
            watch: scene.watch,
            step: STEP,
            containers_max: 32,
        };
        let (stop, stopped) = oneshot::channel();
        let to = bus.clone();
        let thread = std::thread::spawn(move || {
            let runtime = runtime();
            let stopped = async { drop(stopped.await) };
            runtime
                .block_on(run::run(config, Observed::new(observer), to, stopped))
                .unwrap_or_else(|error| panic!("the collector runs: {error:?}"));
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
            bus,
            runtime: runtime(),
            signer: Signer::from_entropy([7; 32]),
            state,
            pins: Some(pins),
            directory,
        }
    }

    /// Everything in the log of observations.
    pub(crate) fn observations(&self) -> Vec<Observation> {
        let verifier = self.signer.verifier();
        self.records(Topic::Observations)
            .iter()
            .map(|record| typed::read_observation(record, &verifier).expect("it reads back"))
            .collect()
    }

    /// The latest word of inventory about each container.
    pub(crate) fn inventory(&self) -> Vec<InventoryRecord> {
        let mut latest: Vec<InventoryRecord> = Vec::new();
        for record in self.records(Topic::Inventory) {
            let record = typed::read_inventory(&record).expect("it reads back");
            latest.retain(|known| known.container.key != record.container.key);
            latest.push(record);
        }
        latest
    }

    fn records(&self, topic: Topic) -> Vec<bulkhead_bus::Record> {
        self.runtime.block_on(async {
            let (mut records, mut from) = (Vec::new(), 0);
            loop {
                let batch = self.bus.fetch(topic, 0, from).await.expect("the log reads");
                if batch.records.is_empty() {
                    return records;
                }
                from = batch.next;
                records.extend(batch.records);
            }
        })
    }

    /// Waits until the observations show something, and returns it.
    ///
    /// # Panics
    ///
    /// When it does not come in time; what came instead is in the message.
    pub(crate) fn wait_for<T>(&self, what: &str, find: impl Fn(&[Observation]) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let observations = self.observations();
            if let Some(found) = find(&observations) {
                return found;
            }
            assert!(
                Instant::now() < end,
                "{what} did not come; there is: {:#?}",
                brief(&observations)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for a container's start.
    pub(crate) fn started(&self, name: &str) -> Container {
        self.wait_for(&format!("the start of {name}"), |all| {
            all.iter().rev().find_map(|observation| match &observation.body {
                Body::Started(container) if container.name == name => Some(container.clone()),
                _ => None,
            })
        })
    }

    /// Waits for an act of a container, in the words of its display.
    pub(crate) fn act(&self, container: &Container, act: &str) -> Behaviour {
        self.wait_for(act, |all| {
            behaviours(all, container).find(|behaviour| behaviour.act.to_string() == act).cloned()
        })
    }

    /// Waits for a window of a container that fits.
    pub(crate) fn window(
        &self,
        container: &Container,
        what: &str,
        fits: impl Fn(&Window) -> bool,
    ) -> Window {
        self.wait_for(what, |all| windows(all, container).find(|window| fits(window)).cloned())
    }

    /// Waits until inventory says that a container runs or not, and more about it.
    pub(crate) fn in_inventory(
        &self,
        engine_id: &str,
        state: LifeState,
        fits: impl Fn(&Container) -> bool,
    ) -> Container {
        let end = Instant::now() + PATIENCE;
        loop {
            let inventory = self.inventory();
            let found = inventory.iter().find(|record| {
                record.container.key.engine_id == engine_id
                    && record.state == state
                    && fits(&record.container)
            });
            if let Some(found) = found {
                return found.container.clone();
            }
            assert!(Instant::now() < end, "inventory is {inventory:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the collector, and waits for its last words.
    pub(crate) fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the collector ended well");
            }
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.end();
    }
}

/// The behaviours of a container.
pub(crate) fn behaviours<'a>(
    all: &'a [Observation],
    container: &'a Container,
) -> impl Iterator<Item = &'a Behaviour> {
    all.iter().filter_map(|observation| match &observation.body {
        Body::Behaviour(key, behaviour) if key.cgroup == container.key.cgroup => {
            assert_eq!(observation.workload, container.workload);
            Some(behaviour)
        }
        _ => None,
    })
}

/// The windows of a container.
pub(crate) fn windows<'a>(
    all: &'a [Observation],
    container: &'a Container,
) -> impl Iterator<Item = &'a Window> {
    all.iter().filter_map(|observation| match &observation.body {
        Body::Window(key, window) if key.cgroup == container.key.cgroup => Some(window),
        _ => None,
    })
}

/// One line for each record.
fn brief(all: &[Observation]) -> Vec<String> {
    all.iter()
        .map(|observation| match &observation.body {
            Body::Started(container) => {
                format!("started {} of {}", container.name, observation.workload)
            }
            Body::Stopped(key) => format!("stopped {}", key.short()),
            Body::Behaviour(_, behaviour) => {
                let process = behaviour.process.as_ref();
                let process = process
                    .map(|p| format!("{} {:?} vouched {}", p.executable, p.origin, p.engine_exec));
                format!("{} by {process:?}", behaviour.act)
            }
            Body::Window(_, window) => {
                format!("window of {} ms: {} features", window.step_ms, window.features.len())
            }
            Body::Health(health) => format!("{:?}: {}", health.condition, health.detail),
            Body::Intent(_) => "intent".into(),
        })
        .collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A cgroup of our own that is removed at the end.
pub(crate) struct OwnCgroup(pub(crate) String);

impl OwnCgroup {
    /// Makes one.
    pub(crate) fn new() -> Self {
        let name = format!("bulkhead-{}", scratch::unique());
        let own = Self(name);
        std::fs::create_dir_all(own.path()).expect("a cgroup of our own");
        own
    }

    /// Its directory.
    pub(crate) fn path(&self) -> PathBuf {
        cgroup2().expect("the requirement was checked").join(&self.0)
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        remove(&self.path());
    }
}

fn remove(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    // The last process may be ending still.
    for _ in 0..100 {
        if std::fs::remove_dir(directory).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
