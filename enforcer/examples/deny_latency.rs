//! Measures how long it takes from a measure committed to the log until the first packet is refused, and prints it as JSON.
//!
//! Everything is real: the embedded log, its socket to the agent, the enforcer's loop, the guards. Controller and agent
//! have a thread each, as they have a process each. A third thread sends without pause on a socket of the container, and
//! notes when the first send fails. Driven by `cargo xtask bench`; the argument is the number of measures.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_bus::socket::{Access, Client, bind, serve};
use bulkhead_bus::{Bus as _, Embedded, Outgoing, Signer, embedded, typed};
use bulkhead_domain::measure::{Action, Decider, Measure, MeasureId, MeasureRecord, Target};
use bulkhead_domain::verdict::Rules;
use bulkhead_domain::workload::OwnerKind;
use bulkhead_domain::{Timestamp, WorkloadName};
use bulkhead_enforcer::Config;
use bulkhead_enforcer::run::{Standing, run};
use bulkhead_loader::cgroup;
use bulkhead_loader::guard::Guard;

/// How long a container keeps its state before the next change, so that one change is measured at a time.
const REST: Duration = Duration::from_millis(20);

/// What the sending thread sees: when (ns since the start, never 0) the last change of its fate was.
struct Fate {
    start: Instant,
    refused_since: AtomicU64,
    end: AtomicBool,
}

fn clock() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(now.as_nanos() as u64)
}

fn workload() -> WorkloadName {
    WorkloadName {
        cluster: "local".into(),
        scope: "bench".into(),
        kind: OwnerKind::Image,
        owner: "bench".into(),
        container: String::new(),
    }
}

fn measure(id: u64, port: u16, signer: &Signer) -> Result<Outgoing, Box<dyn Error>> {
    let measure = Measure {
        id: MeasureId(id),
        cluster: "local".into(),
        target: Target::Workload(workload()),
        action: Action::Deny(format!("127.0.0.1:{port}/udp").parse()?),
        decider: Decider::Manual { who: "bench".into() },
        reason: "bench".into(),
        created: clock(),
        expires: clock().plus(Duration::from_secs(600)),
    };
    Ok(typed::measure(&MeasureRecord::Set(measure), &workload(), signer))
}

fn release(id: u64, signer: &Signer) -> Outgoing {
    let released = MeasureRecord::Released {
        id: MeasureId(id),
        workload: workload(),
        cluster: "local".into(),
        who: "bench".into(),
        why: "bench".into(),
        at: clock(),
    };
    typed::measure(&released, &workload(), signer)
}

/// A socket of the container: made there, used from here.
fn container_socket(mount: &Path, container: &Path) -> Result<UdpSocket, Box<dyn Error>> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|l| l.strip_prefix("0::/")).ok_or("no cgroup v2 membership")?;
    fs::write(container.join("cgroup.procs"), "0")?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    fs::write(mount.join(own).join("cgroup.procs"), "0")?;
    Ok(socket?)
}

fn send(socket: &UdpSocket, port: u16, fate: &Fate) {
    while !fate.end.load(Ordering::Relaxed) {
        let sent = socket.send_to(b"x", (Ipv4Addr::LOCALHOST, port));
        match sent {
            Ok(_) => fate.refused_since.store(0, Ordering::Release),
            Err(_) if fate.refused_since.load(Ordering::Relaxed) == 0 => {
                let at = fate.start.elapsed().as_nanos() as u64;
                fate.refused_since.store(at.max(1), Ordering::Release);
            }
            Err(_) => {}
        }
        thread::sleep(Duration::from_micros(10));
    }
}

fn wait(fate: &Fate, reached: impl Fn(u64) -> bool) -> Result<u64, Box<dyn Error>> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let since = fate.refused_since.load(Ordering::Acquire);
        if reached(since) {
            return Ok(since);
        }
        if Instant::now() > until {
            return Err("a measure never took effect".into());
        }
        thread::sleep(Duration::from_micros(100));
    }
}

struct Place {
    root: PathBuf,
    state: PathBuf,
    pins: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Guard::uninstall(&self.pins);
        for directory in ["bench", "bulkhead-canary", ""] {
            let _ = fs::remove_dir(self.root.join(directory));
        }
        let _ = fs::remove_dir_all(&self.state);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: u64 = std::env::args().nth(1).map_or(Ok(200), |n| n.parse())?;
    let id = std::process::id();
    let mount = cgroup::root()?;
    let place = Place {
        root: mount.join(format!("bulkhead-latency-{id}")),
        state: std::env::temp_dir().join(format!("bulkhead-latency-{id}")),
        pins: PathBuf::from(format!("/sys/fs/bpf/bulkhead-latency-{id}")),
    };
    let container = place.root.join("bench");
    fs::create_dir_all(&container)?;
    fs::create_dir_all(place.state.join("agent"))?;
    let signer = Signer::from_entropy([7; 32]);
    let standing = Standing::prepare(Config {
        cluster: "local".into(),
        node: "bench".into(),
        boot: "bench".into(),
        state: place.state.join("agent"),
        pins: place.pins.clone(),
        cgroup_mount: mount.clone(),
        cgroup_root: place.root.clone(),
        cgroup_parents: Vec::new(),
        hold: Duration::from_secs(5),
        rules: Rules::default(),
        measures_max: 1024,
    })?;
    Guard::open(&place.pins)?.name(cgroup::id(&container)?, 1, workload().id().0)?;
    let sender = container_socket(&mount, &container)?;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = sink.local_addr()?.port();
    let fate = Arc::new(Fate {
        start: Instant::now(),
        refused_since: AtomicU64::new(0),
        end: AtomicBool::new(false),
    });
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let socket = place.state.join("bus.sock");
    let verifier = signer.verifier();
    let agent = {
        let socket = socket.clone();
        let runtime = runtime()?;
        move || {
            runtime.block_on(async {
                run(standing, Client::new(socket), verifier, std::future::pending()).await
            })
        }
    };
    let bus = Embedded::open(embedded::Config::new(place.state.join("log"), clock))?;
    let runtime = runtime()?;
    let latencies = runtime.block_on(async {
        let access = Access { agents: vec![0], controllers: Vec::new() };
        tokio::spawn(serve(bind(&socket)?, bus.clone(), access));
        thread::spawn(agent);
        let sending = {
            let fate = Arc::clone(&fate);
            thread::spawn(move || send(&sender, port, &fate))
        };
        let mut latencies = Vec::new();
        for id in 1..=rounds {
            tokio::time::sleep(REST).await;
            bus.publish(vec![measure(id, port, &signer)?]).await?;
            let committed = fate.start.elapsed().as_nanos() as u64;
            // Off this thread: it serves the agent's socket, as the controller does.
            let waiting = Arc::clone(&fate);
            let seen = |reached: fn(u64) -> bool, fate: Arc<Fate>| {
                tokio::task::spawn_blocking(move || wait(&fate, reached).map_err(|e| e.to_string()))
            };
            let refused = seen(|since| since != 0, waiting).await??;
            latencies.push(refused.saturating_sub(committed));
            bus.publish(vec![release(id, &signer)]).await?;
            seen(|since| since == 0, Arc::clone(&fate)).await??;
        }
        fate.end.store(true, Ordering::Relaxed);
        sending.join().map_err(|_| "the sending thread panicked")?;
        Ok::<_, Box<dyn Error>>(latencies)
    })?;
    let mut sorted = latencies;
    sorted.sort_unstable();
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize] as f64 / 1e6;
    let figures = serde_json::json!({
        "measures": sorted.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0),
    });
    println!("{figures}");
    // The agent's thread would go on for ever.
    drop(place);
    std::process::exit(0)
}
