//! A Docker daemon of our own, with its socket, its data and its bridges apart from any other.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use crate::{
    address::{Block, Range},
    command::{Finished, Guarded, eventually},
    engine::{Cli, Container, Network, RunOptions, remove_cgroup_parent},
    error::{HarnessError, io},
    image::Image,
    netns::{Netns, inside},
    scratch::unique,
};

/// How a Docker daemon is to be set up.
#[derive(Debug, Default)]
pub struct DockerOptions {
    /// The namespace that its bridges live in; one of its own when there is none.
    ///
    /// Never the machine's: Docker changes the forwarding policy of the namespace it runs in and leaves it so.
    pub home: Option<Arc<Netns>>,
    /// Where its resolver asks about names that are not containers. Without one it asks a documentation address
    /// that nobody answers for: never the machine's resolver.
    pub upstream: Option<Ipv4Addr>,
}

/// A Docker daemon. Dropping it removes its containers and networks, ends it and removes its files.
#[derive(Debug)]
pub struct Docker {
    cli: Arc<Cli>,
    directory: PathBuf,
    socket: PathBuf,
    cgroup_parent: String,
    networks: Vec<Network>,
    upstream: Ipv4Addr,
    daemon: Option<Guarded>,
}

impl Docker {
    /// Starts one in an existing, empty directory, and waits until it answers.
    pub fn start(directory: &Path, options: DockerOptions) -> Result<Self, HarnessError> {
        let home = match options.home {
            Some(home) => home,
            None => Arc::new(Netns::new("dkr")?),
        };
        let socket = directory.join("docker.sock");
        // Debian's client goes with Debian's daemon; another may come first on the path.
        let debian = Path::new("/usr/bin/docker");
        let cli = Cli {
            program: if debian.is_file() { debian.to_owned() } else { "docker".into() },
            options: vec!["--host".into(), format!("unix://{}", socket.display()).into()],
            environment: vec![("DOCKER_CONFIG".into(), directory.join("client").into_os_string())],
            home: Some(home),
        };
        let mut docker = Self {
            cli: Arc::new(cli),
            directory: directory.to_owned(),
            socket,
            cgroup_parent: format!("bulkhead-{}", unique()),
            networks: Vec::new(),
            upstream: options.upstream.unwrap_or(Ipv4Addr::new(203, 0, 113, 0)),
            daemon: None,
        };
        docker.start_daemon()?;
        Ok(docker)
    }

    /// Its command line, for what the harness has no function for.
    pub fn cli(&self) -> &Arc<Cli> {
        &self.cli
    }

    /// Its API socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The cgroup above its containers, relative to the root of each hierarchy.
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    /// Makes a network; containers on it find one another by name.
    pub fn network_create(&mut self, name: &str) -> Result<&Network, HarnessError> {
        let block = Block::claim(Range::Containers)?;
        let bridge = format!("bhd{}", unique());
        self.cli.output(&[
            "network",
            "create",
            "--subnet",
            &format!("{}/24", block.container(0)),
            "--gateway",
            &block.container(1).to_string(),
            "--opt",
            &format!("com.docker.network.bridge.name={bridge}"),
            name,
        ])?;
        self.networks.push(Network { name: name.to_owned(), bridge, block });
        Ok(self.networks.last().expect("it was pushed just now"))
    }

    /// Brings an image in, once.
    pub fn import(&self, image: &Image) -> Result<(), HarnessError> {
        self.cli.import(image)
    }

    /// Starts a container.
    pub fn run(&self, image: &Image, options: &RunOptions) -> Result<Container, HarnessError> {
        self.cli.run(image, &self.placed(options))
    }

    /// Runs a container to its end, and takes it away: one command, for many short ones in a row.
    pub fn run_to_end(
        &self,
        image: &Image,
        options: &RunOptions,
    ) -> Result<Finished, HarnessError> {
        self.cli.run_to_end(image, &self.placed(options))
    }

    /// The same options, with our cgroup and resolver.
    fn placed(&self, options: &RunOptions) -> RunOptions {
        let mut options = options.clone();
        options.extra.extend(["--cgroup-parent".to_owned(), format!("/{}", self.cgroup_parent)]);
        options.extra.extend(["--dns".to_owned(), self.upstream.to_string()]);
        options
    }

    /// Ends the daemon and starts it again over the same state, as an upgrade would; containers end with it.
    pub fn restart_daemon(&mut self) -> Result<(), HarnessError> {
        self.stop_daemon();
        self.start_daemon()
    }

    /// Ends the daemon.
    pub fn stop_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.stop(Duration::from_secs(20));
        }
    }

    /// Starts the daemon over the state it left.
    pub fn start_daemon(&mut self) -> Result<(), HarnessError> {
        let log_path = self.directory.join("dockerd.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(io(format!("cannot write {}", log_path.display())))?;
        let again = log.try_clone().map_err(io("cannot share the daemon's log"))?;
        let part = |name: &str| self.directory.join(name);
        let mut command = inside(self.cli.home.as_deref(), "dockerd".as_ref());
        command
            .args([
                "--host".as_ref(),
                format!("unix://{}", self.socket.display()).as_ref() as &std::ffi::OsStr,
            ])
            .args(["--data-root".as_ref(), part("data").as_os_str()])
            .args(["--exec-root".as_ref(), part("exec").as_os_str()])
            .args(["--pidfile".as_ref(), part("dockerd.pid").as_os_str()])
            .args(["--bridge", "none", "--exec-opt", "native.cgroupdriver=cgroupfs"])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again);
        let mut daemon = Guarded::spawn(&mut command)?;
        let answers = eventually(Duration::from_secs(60), || {
            !daemon.is_alive() || self.cli.output(&["version"]).is_ok()
        });
        if answers && daemon.is_alive() {
            self.daemon = Some(daemon);
            return Ok(());
        }
        let log = fs::read_to_string(&log_path).unwrap_or_default();
        Err(HarnessError::Unexpected(format!(
            "dockerd did not start: {}",
            log.lines().last().unwrap_or("no word")
        )))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Ok(all) = self.cli.output(&["ps", "--all", "--quiet"]) {
            for id in all.lines() {
                let _ = self.cli.output(&["rm", "--force", id]);
            }
        }
        for network in &self.networks {
            let _ = self.cli.output(&["network", "rm", &network.name]);
        }
        self.stop_daemon();
        remove_cgroup_parent(&self.cgroup_parent);
        let _ = fs::remove_dir_all(&self.directory);
    }
}
