//! A real application in real containers: nginx, two replicas of a Python app, Redis, an object store, visitors.
//!
//! Its sources are in `deploy/demo/app`. The demo runs on it, and so do the tests of what a workload normally does.
//! Addresses are fixed, so that a replica that restarts comes back where its peers expect it.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    command::{eventually, output},
    engine::{Container, RunOptions},
    error::{HarnessError, io},
    image::{Image, workspace},
    podman::Podman,
};

/// What every container of the application carries, as compose tools put it.
const PROJECT: (&str, &str) = ("com.docker.compose.project", "shop");

/// The network it runs on. It is made with the application, unless it is there already.
pub const NETWORK: &str = "shop";

/// The application, up and under load. Its containers end with the Podman that runs them.
#[derive(Debug)]
pub struct Shop {
    /// nginx, in front.
    pub web: Container,
    /// The two replicas of the app.
    pub replicas: [Container; 2],
    /// Redis.
    pub redis: Container,
    /// The object store that receipts go to.
    pub store: Container,
    /// The load.
    pub visitors: Container,
    gateway: Ipv4Addr,
    resolver: PathBuf,
    control: PathBuf,
    requests: AtomicU32,
}

/// How the visitors fared in one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visits {
    /// The second, since the epoch.
    pub unix_s: u64,
    /// Requests that were answered.
    pub ok: u64,
    /// Requests that were not.
    pub failed: u64,
}

impl Shop {
    /// Brings it up on a network of its own, and waits until visitors are answered.
    pub fn open(podman: &mut Podman, directory: &Path) -> Result<Self, HarnessError> {
        let image = Image::debian()?;
        podman.import(&image)?;
        if podman.network(NETWORK).is_none() {
            podman.network_create(NETWORK)?;
        }
        let network = podman.network(NETWORK).expect("it was created just now at the latest");
        let gateway = network.gateway();
        let address = |host: u8| network.block.container(host);
        let (web, shops, redis, store, visitors) =
            (address(10), [address(11), address(12)], address(20), address(30), address(40));
        let control = directory.join("control");
        fs::create_dir_all(&control).map_err(io(format!("cannot make {}", control.display())))?;
        let app = workspace().join("deploy/demo/app");

        let run = |name: &str, service: &str, ip: Ipv4Addr, command: &[&str]| {
            let mut options = RunOptions::new(name, command)
                .on(NETWORK)
                .label(PROJECT.0, PROJECT.1)
                .label("com.docker.compose.service", service)
                .volume(&app, "/app")
                .option("--ip")
                .option(&ip.to_string());
            if service == "visitors" {
                options = options.volume(&control, "/control");
            }
            podman.run(&image, &options)
        };
        let python = |script: &'static str| ["python3", "-u", script];
        let redis = run(
            "redis",
            "redis",
            redis,
            &[
                "redis-server",
                "--protected-mode",
                "no",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                "/tmp",
            ],
        )?;
        let store = run("store", "store", store, &python("/app/store.py"))?;
        let replicas = [
            run("shop-1", "shop", shops[0], &python("/app/shop.py"))?,
            run("shop-2", "shop", shops[1], &python("/app/shop.py"))?,
        ];
        // Podman's resolver learns of a new container a moment later, and nginx gives up on a name that is not there yet.
        for name in ["shop-1", "shop-2"] {
            if !eventually(Duration::from_secs(30), || resolves(&store, name)) {
                return Err(HarnessError::Unexpected(format!("nobody answers for {name}")));
            }
        }
        let web = run("web", "web", web, &["nginx", "-c", "/app/nginx.conf"])?;
        let visitors = run("visitors", "visitors", visitors, &python("/app/visitors.py"))?;
        let shop = Self {
            web,
            replicas,
            redis,
            store,
            visitors,
            gateway,
            resolver: podman.resolver(),
            control,
            requests: AtomicU32::new(0),
        };
        if !eventually(Duration::from_secs(30), || {
            shop.visits().is_ok_and(|all| all.iter().any(|v| v.ok > 5))
        }) {
            let said = shop.web.logs().unwrap_or_default();
            return Err(HarnessError::Unexpected(format!(
                "the shop does not answer its visitors: {said}"
            )));
        }
        Ok(shop)
    }

    /// Every container of it.
    pub fn containers(&self) -> [&Container; 6] {
        let [one, two] = &self.replicas;
        [&self.web, one, two, &self.redis, &self.store, &self.visitors]
    }

    /// Where its resolver listens.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Waits until the replicas have names again, after one of them restarted.
    ///
    /// Podman's resolver reads its files on a signal, and may miss the second of two: it is told again then.
    pub fn settle(&self) -> Result<(), HarnessError> {
        let all = || ["shop-1", "shop-2"].iter().all(|name| resolves(&self.store, name));
        if eventually(Duration::from_secs(5), all) {
            return Ok(());
        }
        let pid = fs::read_to_string(&self.resolver)
            .map_err(io(format!("cannot read {}", self.resolver.display())))?;
        output(Command::new("kill").args(["-HUP", pid.trim()]))?;
        if eventually(Duration::from_secs(20), all) {
            return Ok(());
        }
        Err(HarnessError::Unexpected("a replica that restarted has no name".to_owned()))
    }

    /// Sets how many requests a second the visitors make.
    pub fn set_rate(&self, per_second: u32) -> Result<(), HarnessError> {
        self.order("rate", &per_second.to_string())
    }

    /// Sends code through the hole in replica 0 or 1, as a visitor.
    pub fn inject(&self, replica: usize, code: &str) -> Result<(), HarnessError> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let request =
            json!({ "path": format!("/{}/report", replica + 1), "body": code, "number": number });
        self.order("request", &request.to_string())
    }

    /// How the visitors fared, second by second, since they came.
    pub fn visits(&self) -> Result<Vec<Visits>, HarnessError> {
        let text = self.visitors.logs()?;
        let number = |line: &Value, key: &str| line.get(key).and_then(Value::as_u64);
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|line| {
                Some(Visits {
                    unix_s: number(&line, "unix")?,
                    ok: number(&line, "ok")?,
                    failed: number(&line, "failed")?,
                })
            })
            .collect())
    }

    /// Puts a file where the visitors look for orders, whole or not at all.
    fn order(&self, name: &str, text: &str) -> Result<(), HarnessError> {
        let partial = self.control.join(".partial");
        fs::write(&partial, text)
            .and_then(|()| fs::rename(&partial, self.control.join(name)))
            .map_err(io(format!("cannot write the order {name}")))
    }
}

/// Whether a name is answered where a container asks. Nothing runs in the container itself: the process stays in this one's
/// cgroup.
fn resolves(container: &Container, name: &str) -> bool {
    let pid = container.pid.to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid, "--net", "--mount", "getent", "hosts", name]);
    output(&mut command).is_ok()
}
