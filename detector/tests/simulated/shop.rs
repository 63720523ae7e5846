//! A seeded shop under load: nginx, two replicas of an application, a cache, an object store and a load generator.
//!
//! Load is autocorrelated, requests are Poisson, objects log-normal, rare code paths Zipf. Time is an argument, so an hour
//! takes a moment, and a seed names a run for ever.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bulkhead_detector::config::Learning;
use bulkhead_detector::{Config, Engine, Output};
use bulkhead_domain::alert::Alert;
use bulkhead_domain::behaviour::{Act, Behaviour};
use bulkhead_domain::container::{Container, Engine as EngineKind};
use bulkhead_domain::feature::{self, FeatureId, feature_set};
use bulkhead_domain::net::{Peer, Protocol};
use bulkhead_domain::observation::Body;
use bulkhead_domain::process::{Origin, Process};
use bulkhead_domain::window::{Arch, Direction, Loss, PeerTraffic};
use bulkhead_domain::workload::OwnerKind;
use bulkhead_domain::{
    AlertId, ContainerKey, EventId, Mode, Observation, Timestamp, Window, WorkloadName,
};

/// Window step, seconds.
pub(crate) const STEP: u64 = 5;

/// The settings of a run of minutes: short blocks, a loose bound.
pub(crate) fn short_run() -> Config {
    Config {
        block: Duration::from_secs(10),
        novelty_per_day: Some(4000.0),
        learning: Learning {
            until_mature: true,
            at_most: Some(Duration::from_secs(150)),
            at_least: Duration::from_secs(60),
            then: Mode::Enforce,
        },
        ..Config::default()
    }
}

/// A small deterministic generator (PCG's multiplier), enough for a simulation.
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 ^ (self.0 >> 27)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    pub(crate) fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 50.0 {
            return (mean + mean.sqrt() * self.normal()).max(0.0).round() as u64;
        }
        let (limit, mut product, mut n) = ((-mean).exp(), self.uniform(), 0);
        while product > limit {
            product *= self.uniform();
            n += 1;
        }
        n
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Role {
    Proxy,
    App1,
    App2,
    Cache,
    Store,
    Load,
}

pub(crate) const ROLES: [Role; 6] =
    [Role::Proxy, Role::App1, Role::App2, Role::Cache, Role::Store, Role::Load];

/// What one container does beyond its habit in the coming step.
#[derive(Default, Clone)]
pub(crate) struct Extra {
    pub(crate) features: Vec<(FeatureId, f64)>,
    pub(crate) peers: Vec<PeerTraffic>,
    pub(crate) ngrams: Vec<u16>,
    pub(crate) behaviours: Vec<Behaviour>,
    pub(crate) loss: Loss,
}

pub(crate) struct Shop {
    pub(crate) engine: Engine,
    pub(crate) now: u64,
    pub(crate) draw: Draw,
    pub(crate) alerts: BTreeMap<AlertId, Alert>,
    pub(crate) modes: Vec<(WorkloadName, Mode)>,
    pub(crate) log: Vec<Observation>,
    /// Multiplies the load.
    pub(crate) burst: f64,
    pub(crate) extra: BTreeMap<Role, Extra>,
    level: f64,
    sequence: u64,
    generation: BTreeMap<Role, u64>,
}

impl Shop {
    /// A shop whose containers have just started, or had been running for an hour.
    pub(crate) fn open(config: Config, seed: u64, fresh: bool) -> Self {
        let mut shop = Self {
            engine: Engine::new(config),
            now: 1_800_000_000,
            draw: Draw(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            alerts: BTreeMap::new(),
            modes: Vec::new(),
            log: Vec::new(),
            burst: 1.0,
            extra: BTreeMap::new(),
            level: 0.0,
            sequence: 0,
            generation: ROLES.iter().map(|r| (*r, 1)).collect(),
        };
        for role in ROLES {
            let started = if fresh { shop.now } else { shop.now - 3600 };
            shop.publish(role, Body::Started(shop.container(role, started)));
            if fresh {
                shop.start_up(role);
            }
        }
        shop
    }

    pub(crate) fn at(&self) -> Timestamp {
        Timestamp::from_secs(self.now)
    }

    pub(crate) fn workload(role: Role) -> WorkloadName {
        let owner = match role {
            Role::Proxy => "proxy",
            Role::App1 | Role::App2 => "app",
            Role::Cache => "redis",
            Role::Store => "objectstore",
            Role::Load => "load",
        };
        WorkloadName {
            cluster: "local".into(),
            scope: "shop".into(),
            kind: OwnerKind::Service,
            owner: owner.into(),
            container: String::new(),
        }
    }

    pub(crate) fn address(role: Role) -> IpAddr {
        [10, 89, 0, 2 + role as u8].into()
    }

    pub(crate) fn key(&self, role: Role) -> ContainerKey {
        ContainerKey {
            node: "n1".into(),
            boot: "b".into(),
            engine_id: format!("{:064x}", role as u64 + 1),
            cgroup: 100 + role as u64 + 1000 * self.generation[&role],
        }
    }

    pub(crate) fn container(&self, role: Role, started: u64) -> Container {
        Container {
            key: self.key(role),
            workload: Self::workload(role),
            engine: EngineKind::Podman,
            name: format!("{role:?}").to_lowercase(),
            image: format!("localhost/shop-{}", Self::workload(role).owner),
            digest: "sha256:1".into(),
            cgroup_path: String::new(),
            pid: 1,
            netns: 1,
            addresses: vec![Self::address(role)],
            host_network: false,
            started: Timestamp::from_secs(started),
        }
    }

    pub(crate) fn publish(&mut self, role: Role, body: Body) {
        self.sequence += 1;
        let observation = Observation {
            id: EventId { producer: 7, epoch: 1, sequence: self.sequence },
            workload: Self::workload(role),
            at: self.at(),
            body,
        };
        self.feed(&observation);
        self.log.push(observation);
    }

    fn feed(&mut self, observation: &Observation) {
        for output in self.engine.handle(observation) {
            match output {
                Output::Alert(alert) => {
                    self.alerts.insert(alert.id, *alert);
                }
                Output::ModeChanged { workload, to, .. } => self.modes.push((workload, to)),
                Output::SnapshotDue(_) => {}
            }
        }
    }

    pub(crate) fn act(&mut self, role: Role, act: Act, process: Option<Process>) {
        let key = self.key(role);
        self.publish(role, Body::Behaviour(key, Behaviour { act, process, count: 1 }));
    }

    pub(crate) fn own(executable: &str, parent: &str) -> Process {
        Process {
            pid: 4242,
            executable: executable.into(),
            parent: parent.into(),
            uid: 0,
            origin: Origin::Spawned,
            engine_exec: false,
        }
    }

    /// What a container does when it starts: none of it recurs until it starts again.
    fn start_up(&mut self, role: Role) {
        let started = |executable: &str| {
            Some(Process {
                executable: executable.into(),
                origin: Origin::Started,
                ..Process::default()
            })
        };
        for path in ["/docker-entrypoint.sh", "/usr/bin/find", "/usr/bin/server"] {
            let path = format!("{path}-{}", Self::workload(role).owner);
            self.act(role, Act::Exec { path: path.clone() }, started(&path));
        }
        let port = match role {
            Role::Proxy => Some(80),
            Role::App1 | Role::App2 => Some(8080),
            Role::Cache => Some(6379),
            Role::Store => Some(9000),
            Role::Load => None,
        };
        if let Some(port) = port {
            self.act(
                role,
                Act::Listen { port, protocol: Protocol::TCP },
                started("/usr/bin/server"),
            );
        }
        if matches!(role, Role::App1 | Role::App2) {
            self.act(
                role,
                Act::Dns { name: "redis.dns.podman".into() },
                started("/usr/bin/server"),
            );
            let peer = tcp(Role::Cache, 6379);
            let act = Act::Connect { peer, name: Some("redis.dns.podman".into()), refused: false };
            self.act(role, act, started("/usr/bin/server"));
        }
        let extra = self.extra.entry(role).or_default();
        extra.features.extend([
            (feature::EXECS, 12.0),
            (feature::FORKS, 15.0),
            (feature::SYSCALL_KINDS, 60.0),
        ]);
        extra.ngrams.extend((0..400).map(|i| 20_000 + i));
    }

    /// Restarts a container in its engine: another cgroup, the same id and address.
    pub(crate) fn restart(&mut self, role: Role) {
        let key = self.key(role);
        self.publish(role, Body::Stopped(key));
        *self.generation.get_mut(&role).expect("every role has a generation") += 1;
        let container = self.container(role, self.now);
        self.publish(role, Body::Started(container));
        self.start_up(role);
    }

    /// An operator's command through the engine, with the children that it starts.
    pub(crate) fn engine_exec(&mut self, role: Role, path: &str, children: &[&str]) {
        let entered = Process {
            pid: 900 + self.sequence as u32,
            executable: path.into(),
            origin: Origin::Entered,
            engine_exec: true,
            ..Process::default()
        };
        self.act(role, Act::Exec { path: path.into() }, Some(entered));
        for child in children {
            let process = Process {
                pid: 5000 + self.sequence as u32,
                origin: Origin::Entered,
                engine_exec: true,
                ..Self::own(child, path)
            };
            self.act(role, Act::Exec { path: (*child).into() }, Some(process));
        }
        let extra = self.extra.entry(role).or_default();
        extra
            .features
            .extend([(feature::EXECS, 1.0 + children.len() as f64), (feature::FORKS, 2.0)]);
        extra.ngrams.extend((0..150).map(|i| 24_000 + i));
    }

    /// One step: every container's habitual behaviours, then its window.
    pub(crate) fn step(&mut self) {
        self.now += STEP;
        self.level = 0.9 * self.level + 0.12 * self.draw.normal();
        let requests = self.draw.poisson(150.0 * self.level.exp() * self.burst) as f64;
        let split = 0.5 + 0.03 * self.draw.normal();
        let puts = [
            self.draw.poisson(0.5 * self.burst) as f64,
            self.draw.poisson(0.5 * self.burst) as f64,
        ];
        let object = 20_000.0 * (0.7 * self.draw.normal()).exp();
        for role in ROLES {
            self.window(role, requests, split, puts, object);
        }
        self.extra.clear();
    }

    pub(crate) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds / STEP {
            self.step();
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm per container reads best in one place")]
    fn window(&mut self, role: Role, requests: f64, split: f64, puts: [f64; 2], object: f64) {
        let extra = self.extra.remove(&role).unwrap_or_default();
        let mut f: BTreeMap<FeatureId, f64> = BTreeMap::new();
        let mut peers = Vec::new();
        let mut habits = Vec::new();
        let share = |r: Role| if r == Role::App1 { split } else { 1.0 - split };
        match role {
            Role::Load => {
                peers.push(flow(
                    Role::Proxy,
                    80,
                    Direction::Outbound,
                    0,
                    [requests * 350.0, requests * 2600.0],
                    requests,
                ));
                habits.push(connect(Role::Proxy, 80, "proxy.dns.podman"));
                habits.push(Act::Dns { name: "proxy.dns.podman".into() });
                f.extend([
                    (feature::CONNECTS, requests),
                    (feature::CONNECT_PORTS, 1.0),
                    (feature::CONNECT_ADDRESSES, 1.0),
                ]);
                f.extend([
                    (feature::DNS_QUESTIONS, requests * 2.0),
                    (feature::DNS_NAMES, 1.0),
                    (feature::DNS_NAME_BYTES, 16.0),
                ]);
            }
            Role::Proxy => {
                peers.push(flow(
                    Role::Load,
                    0,
                    Direction::Inbound,
                    80,
                    [requests * 2600.0, requests * 350.0],
                    requests,
                ));
                habits.push(Act::Inbound { peer: tcp(Role::Load, 0), port: 80 });
                for app in [Role::App1, Role::App2] {
                    let n = requests * share(app);
                    peers.push(flow(app, 8080, Direction::Outbound, 0, [n * 500.0, n * 2400.0], n));
                    habits.push(Act::Connect { peer: tcp(app, 8080), name: None, refused: false });
                }
                f.extend([
                    (feature::CONNECTS, requests),
                    (feature::CONNECT_PORTS, 1.0),
                    (feature::CONNECT_ADDRESSES, 2.0),
                ]);
            }
            Role::App1 | Role::App2 => {
                let n = requests * share(role);
                let put = puts[usize::from(role == Role::App2)];
                peers.push(flow(
                    Role::Proxy,
                    0,
                    Direction::Inbound,
                    8080,
                    [n * 2400.0, n * 500.0],
                    n,
                ));
                peers.push(flow(
                    Role::Cache,
                    6379,
                    Direction::Outbound,
                    0,
                    [n * 90.0, n * 600.0],
                    0.0,
                ));
                habits.push(Act::Inbound { peer: tcp(Role::Proxy, 0), port: 8080 });
                if put > 0.0 {
                    peers.push(flow(
                        Role::Store,
                        9000,
                        Direction::Outbound,
                        0,
                        [put * object, put * 700.0],
                        put,
                    ));
                    habits.push(connect(Role::Store, 9000, "objectstore.dns.podman"));
                    habits.push(Act::Dns { name: "objectstore.dns.podman".into() });
                    f.extend([
                        (feature::DNS_QUESTIONS, put * 2.0),
                        (feature::DNS_NAMES, 1.0),
                        (feature::DNS_NAME_BYTES, 22.0),
                    ]);
                }
                f.extend([
                    (feature::CONNECTS, put),
                    (feature::CONNECT_PORTS, put.min(1.0)),
                    (feature::CONNECT_ADDRESSES, put.min(1.0)),
                ]);
            }
            Role::Cache => {
                for app in [Role::App1, Role::App2] {
                    let n = requests * share(app);
                    peers.push(flow(app, 0, Direction::Inbound, 6379, [n * 600.0, n * 90.0], 0.0));
                }
            }
            Role::Store => {
                for (app, put) in [(Role::App1, puts[0]), (Role::App2, puts[1])] {
                    if put > 0.0 {
                        peers.push(flow(
                            app,
                            0,
                            Direction::Inbound,
                            9000,
                            [put * 700.0, put * object],
                            put,
                        ));
                        habits.push(Act::Inbound { peer: tcp(app, 0), port: 9000 });
                    }
                }
            }
        }
        let base = 3000 * role as u16;
        let mut ngrams: Vec<u16> = (0..220).map(|i| base + i).collect();
        for rare in 0..60_u16 {
            if self.draw.uniform() < 0.8 / f64::from(rare + 1) {
                ngrams.push(base + 1000 + rare);
            }
        }
        // Under pressure some error paths are taken that were never needed.
        if self.burst > 1.0 {
            ngrams.extend((0..4).map(|i| base + 2000 + i));
        }
        ngrams.extend(&extra.ngrams);
        ngrams.sort_unstable();
        ngrams.dedup();
        peers.extend(extra.peers.iter().cloned());
        f.insert(feature::SYSCALLS, requests * 40.0 + 200.0);
        f.insert(feature::SYSCALL_KINDS, 35.0 + self.draw.poisson(3.0) as f64);
        f.insert(feature::NGRAMS, ngrams.len() as f64);
        f.insert(feature::BYTES_OUT, peers.iter().map(|p| p.bytes_out as f64).sum());
        let initiated = peers
            .iter()
            .filter(|p| p.direction == Direction::Outbound)
            .map(|p| p.bytes_out as f64)
            .sum();
        f.insert(feature::BYTES_OUT_INITIATED, initiated);
        for (id, value) in &extra.features {
            let v = f.entry(*id).or_insert(0.0);
            *v = match *id {
                feature::DNS_NAME_BYTES | feature::DNS_ENTROPY | feature::SYSCALL_KINDS => {
                    v.max(*value)
                }
                _ => *v + value,
            };
        }
        for act in habits {
            self.act(role, act, Some(Self::own("/usr/bin/server", "/usr/bin/server")));
        }
        for behaviour in extra.behaviours {
            let key = self.key(role);
            self.publish(role, Body::Behaviour(key, behaviour));
        }
        let n = (requests * 10.0) as u64 + 30;
        let window = Window {
            start: Timestamp::from_secs(self.now - STEP),
            step_ms: STEP * 1000,
            feature_set: feature_set(STEP * 1000),
            features: f,
            arch: Arch::X86_64,
            syscalls: BTreeMap::new(),
            bigrams: vec![
                ((0, 1), n),
                ((1, 44), n),
                ((44, 45), n),
                ((45, 0), n),
                ((45, 3), n / 10 + 1),
            ],
            ngrams,
            runs: Vec::new(),
            peers,
            rest: [0; 5],
            loss: extra.loss,
        };
        let key = self.key(role);
        self.publish(role, Body::Window(key, window));
    }

    pub(crate) fn mode(&self, role: Role) -> Mode {
        self.engine
            .view()
            .workloads
            .into_iter()
            .find(|w| w.name == Self::workload(role))
            .expect("the workload is known")
            .mode
    }

    /// Learns until every workload has gone on by itself.
    pub(crate) fn learn(&mut self) {
        for _ in 0..300 {
            self.step();
            if self.engine.view().workloads.iter().all(|w| w.mode != Mode::Learn) {
                return;
            }
        }
        panic!("learning did not end in 1500 s: {:#?}", self.engine.view().workloads);
    }

    /// What was raised, for a failure's message.
    pub(crate) fn told(&self) -> Vec<String> {
        self.alerts
            .values()
            .map(|a| {
                let top: Vec<String> = a
                    .contributions
                    .iter()
                    .take(4)
                    .map(|c| {
                        format!(
                            "{:.0}% {}: {} (expected {})",
                            c.share * 100.0,
                            c.subject,
                            c.observed,
                            c.expected
                        )
                    })
                    .collect();
                format!(
                    "{:?} {} score {:.1} over {:.1}: {top:#?}",
                    a.class, a.title, a.score.0, a.threshold.score.0
                )
            })
            .collect()
    }

    pub(crate) fn alerts_of(&self, role: Role) -> Vec<&Alert> {
        self.alerts
            .values()
            .filter(|a| {
                a.container.as_ref().is_some_and(|c| c.engine_id == self.key(role).engine_id)
            })
            .collect()
    }
}

pub(crate) fn tcp(role: Role, port: u16) -> Peer {
    Peer { address: Shop::address(role), port, protocol: Protocol::TCP }
}

pub(crate) fn connect(role: Role, port: u16, name: &str) -> Act {
    Act::Connect { peer: tcp(role, port), name: Some(name.into()), refused: false }
}

pub(crate) fn flow(
    peer: Role,
    port: u16,
    direction: Direction,
    local_port: u16,
    bytes: [f64; 2],
    connections: f64,
) -> PeerTraffic {
    let [bytes_out, bytes_in] = bytes.map(|b| b.max(0.0) as u64);
    PeerTraffic {
        peer: tcp(peer, port),
        direction,
        local_port,
        bytes_out,
        bytes_in,
        packets_out: bytes_out / 1000 + 1,
        packets_in: bytes_in / 1000 + 1,
        connections: connections.round() as u64,
    }
}
