//! What needs a container's namespace: walls at its interface, and ending open connections to peers that are denied.
//!
//! It runs on a thread of its own, because both may take milliseconds and the next measure must not wait. What a wall or an
//! abort misses, the verdict at the sockets still refuses.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_domain::container::{Container, ContainerKey};
use bulkhead_loader::guard::{Guard, GuardError, PeerPattern, Wall};
use bulkhead_loader::netns;
use bulkhead_loader::sockets::{self, Whose};
use tokio::sync::mpsc;

/// Jobs that wait at most; walls are asked for again each second, so a lost one is late and not missing.
const JOBS_MAX: usize = 256;
/// Reports that wait at most.
const REPORTS_MAX: usize = 1024;
/// Processes of a container that are tried for its namespace.
const PIDS_MAX: usize = 64;
/// Cgroups below a container's that are looked at.
const CGROUPS_MAX: usize = 256;
/// How long a new container's links may take until its missing wall is a weakness.
const SETTLE: Duration = Duration::from_secs(10);
/// How often a container under a measure is looked at for new links.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A container, as much of it as is needed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Identity.
    pub key: ContainerKey,
    /// Its cgroup directory.
    pub cgroup: PathBuf,
    /// Inode of its network namespace; 0 when unknown.
    pub netns: u64,
    /// A process of it; 0 when unknown.
    pub pid: u32,
    /// On the host's network.
    pub host_network: bool,
    /// Workload's id.
    pub workload: u64,
}

impl Site {
    /// The site of a container below that mount.
    pub fn of(container: &Container, mount: &Path) -> Self {
        Self {
            key: container.key.clone(),
            cgroup: mount.join(container.cgroup_path.trim_start_matches('/')),
            netns: container.netns,
            pid: container.pid,
            host_network: container.host_network,
            workload: container.workload.id().0,
        }
    }

    /// Its namespace, by any process that is in it.
    fn open(&self) -> io::Result<File> {
        let listed = pids(&self.cgroup);
        let pids = [self.pid].into_iter().filter(|pid| *pid != 0).chain(listed);
        for pid in pids.take(PIDS_MAX) {
            // The process may be gone, or its number another's: the inode tells.
            if let Ok(file) = File::open(format!("/proc/{pid}/ns/net"))
                && (self.netns == 0 || file.metadata().is_ok_and(|m| m.ino() == self.netns))
            {
                return Ok(file);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no process of it is left in its network namespace",
        ))
    }
}

/// The cgroup and those below it, breadth first.
fn tree(cgroup: &Path) -> Vec<PathBuf> {
    let mut all = vec![cgroup.to_owned()];
    let mut next = 0;
    while next < all.len() && all.len() < CGROUPS_MAX {
        let below = fs::read_dir(&all[next]).into_iter().flatten().flatten();
        let below: Vec<PathBuf> =
            below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect();
        all.extend(below);
        next += 1;
    }
    all
}

fn pids(cgroup: &Path) -> impl Iterator<Item = u32> {
    tree(cgroup).into_iter().flat_map(|directory| {
        let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<u32>>()
    })
}

/// What there is to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// These containers have walls, and no others.
    Walls(Vec<Site>),
    /// End connections of a container: those to `peers`, all if `None`, but never those to `keep`.
    Abort {
        /// Whose.
        site: Site,
        /// To whom.
        peers: Option<PeerPattern>,
        /// Those that the verdict lets pass.
        keep: Vec<PeerPattern>,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A container's interface has its wall.
    Walled(ContainerKey),
    /// A way stays open.
    Weak(ContainerKey, String),
    /// So many connections were ended.
    Aborted(ContainerKey, usize),
}

/// Where jobs go.
#[derive(Clone, Debug)]
pub struct Hands {
    jobs: SyncSender<Job>,
}

impl Hands {
    /// Starts the thread, which ends when the last handle is dropped.
    pub fn start(pins: &Path) -> Result<(Self, mpsc::Receiver<Report>), GuardError> {
        let guard = Guard::open(pins)?;
        let (jobs, waiting) = sync_channel(JOBS_MAX);
        let (reports, told) = mpsc::channel(REPORTS_MAX);
        let worker = Worker { guard, reports, seen: HashMap::new() };
        thread::Builder::new()
            .name("enforcer-hands".into())
            .spawn(move || worker.run(&waiting))
            .map_err(|source| GuardError::Netlink { what: "start a thread", source })?;
        Ok((Self { jobs }, told))
    }

    /// Hands a job over; whether there was room for it.
    pub fn give(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}

struct Seen {
    first: Instant,
    looked: Instant,
    interfaces: Vec<u32>,
    told_weak: bool,
    told_walled: bool,
}

struct Worker {
    guard: Guard,
    reports: mpsc::Sender<Report>,
    seen: HashMap<ContainerKey, Seen>,
}

impl Worker {
    fn run(mut self, waiting: &Receiver<Job>) {
        while let Ok(job) = waiting.recv() {
            match job {
                Job::Walls(sites) => self.walls(&sites),
                Job::Abort { site, peers, keep } => self.abort(&site, peers.as_ref(), &keep),
            }
        }
    }

    fn tell(&self, report: Report) {
        if self.reports.try_send(report).is_err() {
            tracing::warn!(
                "a report about a container's wall or connections was lost: too many wait"
            );
        }
    }

    fn walls(&mut self, sites: &[Site]) {
        self.seen.retain(|key, _| sites.iter().any(|s| s.key == *key));
        for site in sites {
            self.wall(site);
        }
        let wanted: Vec<u32> = self.seen.values().flat_map(|s| s.interfaces.clone()).collect();
        match self.guard.walls() {
            Ok(walls) => {
                let known = |w: &Wall| sites.iter().any(|s| s.key.cgroup == w.cgroup);
                for (index, wall) in walls {
                    // One of a site that could not be looked at stays: removing it would open the way.
                    if !wanted.contains(&index) && !known(&wall) {
                        self.remove(index);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot list walls"),
        }
    }

    fn remove(&mut self, index: u32) {
        if let Err(error) = self.guard.remove_wall(index) {
            tracing::warn!(%error, index, "cannot remove a wall");
        }
    }

    fn wall(&mut self, site: &Site) {
        let now = Instant::now();
        let seen = self.seen.entry(site.key.clone()).or_insert_with(|| Seen {
            first: now,
            looked: now.checked_sub(LOOK_AGAIN).unwrap_or(now),
            interfaces: Vec::new(),
            told_weak: false,
            told_walled: false,
        });
        if !seen.interfaces.is_empty() && now.duration_since(seen.looked) < LOOK_AGAIN {
            return;
        }
        seen.looked = now;
        let before = seen.interfaces.clone();
        let (found, weakness) = match site.open().and_then(|netns| netns::ends(&netns)) {
            Ok(ends) if ends.elsewhere > 0 => (
                ends.host,
                Some("an interface of it has no end on the host (macvlan, ipvlan, tunnel)".into()),
            ),
            Ok(ends) if ends.host.is_empty() => {
                (ends.host, Some("its network namespace has no link to the host".to_owned()))
            }
            Ok(ends) => (ends.host, None),
            Err(error) => (before.clone(), Some(format!("its interface cannot be found: {error}"))),
        };
        let owner = Wall {
            cgroup: site.key.cgroup,
            container: site.key.lease_scope(),
            workload: site.workload,
        };
        let mut failed = weakness;
        let mut held = Vec::new();
        for index in found {
            if before.contains(&index) {
                held.push(index);
                continue;
            }
            match self.guard.put_wall(index, owner) {
                Ok(()) => held.push(index),
                Err(error) => failed = Some(error.to_string()),
            }
        }
        let seen = self.seen.get_mut(&site.key).expect("it was put there above");
        seen.interfaces = held;
        let report = match failed {
            Some(why) if !seen.told_weak && now.duration_since(seen.first) >= SETTLE => {
                seen.told_weak = true;
                let why =
                    format!("{why}: AF_PACKET and ping may stay open; its sockets are guarded");
                Some(Report::Weak(site.key.clone(), why))
            }
            None if !seen.told_walled => {
                seen.told_walled = true;
                Some(Report::Walled(site.key.clone()))
            }
            _ => None,
        };
        if let Some(report) = report {
            self.tell(report);
        }
    }

    fn abort(&self, site: &Site, peers: Option<&PeerPattern>, keep: &[PeerPattern]) {
        const TCP: u8 = 6;
        let matches = |address, port| {
            peers.is_none_or(|p| p.matches(address, port, TCP))
                && !keep.iter().any(|p| p.matches(address, port, TCP))
        };
        let result = if site.host_network {
            let cgroups: Vec<u64> = tree(&site.cgroup)
                .iter()
                .filter_map(|d| fs::metadata(d).ok())
                .map(|m| m.ino())
                .collect();
            sockets::abort(&Whose::Cgroups(&cgroups), matches)
        } else {
            site.open().and_then(|netns| sockets::abort(&Whose::Namespace(&netns), matches))
        };
        match result {
            Ok(count) => self.tell(Report::Aborted(site.key.clone(), count)),
            // Its packets are dropped all the same: the program learns later.
            Err(error) => tracing::debug!(%error, "open connections were not ended"),
        }
    }
}
