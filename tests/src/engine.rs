//! What Podman and Docker have in common: a command line that runs, inspects and removes containers.

use std::{
    ffi::OsString,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use serde_json::Value;

use crate::{
    address::Block,
    command::{Finished, finish, output},
    error::HarnessError,
    image::Image,
    netns::{Netns, inside},
    requirement::cgroup2,
};

/// How to speak to one engine: its program, the options that make it ours, and the namespace it is at home in.
#[derive(Debug, Clone)]
pub struct Cli {
    pub(crate) program: PathBuf,
    pub(crate) options: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) home: Option<Arc<Netns>>,
}

impl Cli {
    /// A command of the engine, ready to run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = inside(self.home.as_deref(), &self.program);
        command.args(&self.options).args(words).envs(self.environment.iter().cloned());
        command
    }

    /// Runs a command of the engine and returns what it printed.
    pub fn output(&self, words: &[&str]) -> Result<String, HarnessError> {
        output(&mut self.command(words))
    }

    /// What the engine knows about a container.
    pub fn inspect(&self, container: &str) -> Result<Value, HarnessError> {
        let text = self.output(&["inspect", "--type", "container", container])?;
        let parsed: Value = serde_json::from_str(&text)
            .map_err(|error| HarnessError::Unexpected(error.to_string()))?;
        parsed
            .get(0)
            .cloned()
            .ok_or_else(|| HarnessError::Unexpected(format!("{container} is not known")))
    }

    /// Whether the engine holds an image of this name.
    pub fn has_image(&self, name: &str) -> bool {
        self.output(&["image", "inspect", name]).is_ok()
    }

    /// Brings an image in from its archive, once.
    pub fn import(&self, image: &Image) -> Result<(), HarnessError> {
        if self.has_image(image.name()) {
            return Ok(());
        }
        let archive = image.archive().to_string_lossy().into_owned();
        self.output(&["import", &archive, image.name()]).map(drop)
    }

    /// Starts a container and waits until it has its process and its address.
    pub fn run(
        self: &Arc<Self>,
        image: &Image,
        options: &RunOptions,
    ) -> Result<Container, HarnessError> {
        self.import(image)?;
        let mut words = vec!["run".to_owned(), "--detach".to_owned()];
        words.extend(options.words());
        words.push(image.name().to_owned());
        words.extend(options.command.iter().cloned());
        let id = self.output(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
        // The last line: engines put warnings before it.
        let id = id.lines().last().unwrap_or_default().trim().to_owned();
        let mut container = Container {
            engine: Arc::clone(self),
            id,
            name: String::new(),
            pid: 0,
            ip: None,
            ip6: None,
            cgroup: PathBuf::new(),
        };
        container.refresh()?;
        Ok(container)
    }

    /// Runs a container to its end, and takes it away.
    pub fn run_to_end(
        &self,
        image: &Image,
        options: &RunOptions,
    ) -> Result<Finished, HarnessError> {
        let mut command = self.command(&["run", "--rm"]);
        command.args(options.words()).arg(image.name()).args(&options.command);
        finish(&mut command)
    }
}

/// How a container is to run; the default is a plain one on the engine's default network.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Its name; the engine makes one up when there is none.
    pub name: Option<String>,
    /// `host`, `none`, `container:NAME`, or a network that was created before.
    pub network: Option<String>,
    /// Other names it answers to on that network.
    pub aliases: Vec<String>,
    /// Labels, as key and value.
    pub labels: Vec<(String, String)>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Directories and files of the machine that it sees: where they are, and where it sees them. Read only.
    pub volumes: Vec<(PathBuf, PathBuf)>,
    /// Capabilities beyond the engine's own choice.
    pub capabilities: Vec<String>,
    /// Other options of the engine's `run`, as they are typed.
    pub extra: Vec<String>,
    /// What it runs.
    pub command: Vec<String>,
}

impl RunOptions {
    /// A container of this name that runs this command.
    pub fn new(name: &str, command: &[&str]) -> Self {
        Self {
            name: Some(name.to_owned()),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// On this network.
    #[must_use]
    pub fn on(mut self, network: &str) -> Self {
        self.network = Some(network.to_owned());
        self
    }

    /// With this label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With a directory or file of the machine, read only.
    #[must_use]
    pub fn volume(mut self, from: impl AsRef<Path>, to: &str) -> Self {
        self.volumes.push((from.as_ref().to_owned(), to.into()));
        self
    }

    /// With another option of the engine's `run`, as it is typed.
    #[must_use]
    pub fn option(mut self, word: &str) -> Self {
        self.extra.push(word.to_owned());
        self
    }

    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut pair = |option: &str, value: String| words.extend([option.to_owned(), value]);
        if let Some(name) = &self.name {
            pair("--name", name.clone());
            // The host name is what programs print about themselves.
            if !self
                .network
                .as_deref()
                .is_some_and(|network| network == "host" || network.starts_with("container:"))
            {
                pair("--hostname", name.clone());
            }
        }
        if let Some(network) = &self.network {
            pair("--network", network.clone());
        }
        for alias in &self.aliases {
            pair("--network-alias", alias.clone());
        }
        for (key, value) in &self.labels {
            pair("--label", format!("{key}={value}"));
        }
        for (key, value) in &self.environment {
            pair("--env", format!("{key}={value}"));
        }
        for (from, to) in &self.volumes {
            pair("--volume", format!("{}:{}:ro", from.display(), to.display()));
        }
        for capability in &self.capabilities {
            pair("--cap-add", capability.clone());
        }
        words.extend(self.extra.iter().cloned());
        words
    }
}

/// A running container, and how to act on it.
#[derive(Debug, Clone)]
pub struct Container {
    pub(crate) engine: Arc<Cli>,
    /// The engine's id: 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its first process, as the machine sees it.
    pub pid: u32,
    /// Its address on its first network.
    pub ip: Option<Ipv4Addr>,
    /// The same in IPv6.
    pub ip6: Option<std::net::Ipv6Addr>,
    /// Its directory in the cgroup v2 hierarchy.
    pub cgroup: PathBuf,
}

impl Container {
    /// Runs a command inside and returns what it printed; a failure is an error.
    pub fn exec(&self, command: &[&str]) -> Result<String, HarnessError> {
        output(&mut self.exec_command(command))
    }

    /// Runs a command inside, whatever its end is.
    pub fn try_exec(&self, command: &[&str]) -> Result<Finished, HarnessError> {
        finish(&mut self.exec_command(command))
    }

    /// Starts a command inside and leaves it to itself.
    pub fn exec_detached(&self, command: &[&str]) -> Result<(), HarnessError> {
        let mut words = vec!["exec", "--detach", &self.id];
        words.extend(command);
        self.engine.output(&words).map(drop)
    }

    /// The command that would run something inside, to be started by the caller.
    pub fn exec_command(&self, command: &[&str]) -> Command {
        let mut words = vec!["exec", &self.id];
        words.extend(command);
        self.engine.command(&words)
    }

    /// Stops and starts it again; it keeps its id and gets another process and cgroup.
    pub fn restart(&mut self) -> Result<(), HarnessError> {
        self.engine.output(&["restart", "--time", "1", &self.id])?;
        self.refresh()
    }

    /// Kills it and starts it again as itself, without the second that a stop leaves it.
    pub fn kill_and_start(&mut self) -> Result<(), HarnessError> {
        self.engine.output(&["restart", "--time", "0", &self.id])?;
        self.refresh()
    }

    /// Stops it and keeps it.
    pub fn stop(&self) -> Result<(), HarnessError> {
        self.engine.output(&["stop", "--time", "1", &self.id]).map(drop)
    }

    /// Starts it after a stop.
    pub fn start(&mut self) -> Result<(), HarnessError> {
        self.engine.output(&["start", &self.id])?;
        self.refresh()
    }

    /// Sends a signal to its first process, through the engine.
    pub fn signal(&self, name: &str) -> Result<(), HarnessError> {
        self.engine.output(&["kill", "--signal", name, &self.id]).map(drop)
    }

    /// Ends and removes it.
    pub fn remove(self) -> Result<(), HarnessError> {
        self.engine.output(&["rm", "--force", &self.id]).map(drop)
    }

    /// What it wrote to its standard streams so far.
    pub fn logs(&self) -> Result<String, HarnessError> {
        let finished = finish(&mut self.engine.command(&["logs", &self.id]))?;
        Ok(finished.stdout + &finished.stderr)
    }

    /// The id of its cgroup, as the kernel's programs see it.
    pub fn cgroup_id(&self) -> Result<u64, HarnessError> {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(&self.cgroup)
            .map(|directory| directory.ino())
            .map_err(crate::error::io(format!("cannot read {}", self.cgroup.display())))
    }

    /// Reads process, addresses and cgroup again, after the engine changed them.
    pub fn refresh(&mut self) -> Result<(), HarnessError> {
        let known = self.engine.inspect(&self.id)?;
        let pid = known.pointer("/State/Pid").and_then(Value::as_u64).unwrap_or(0);
        if pid == 0 {
            let said = self.logs().unwrap_or_default();
            return Err(HarnessError::Unexpected(format!(
                "container {} has ended: {}",
                self.id,
                said.trim()
            )));
        }
        self.pid = pid as u32;
        let name = known.get("Name").and_then(Value::as_str).unwrap_or_default();
        name.trim_start_matches('/').clone_into(&mut self.name);
        let networks = known.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
        let address = |key: &str| {
            let mut found = networks
                .into_iter()
                .flatten()
                .filter_map(|(_, network)| network.get(key)?.as_str());
            found.find_map(|text| text.parse::<IpAddr>().ok())
        };
        self.ip = address("IPAddress")
            .and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None });
        self.ip6 = address("GlobalIPv6Address")
            .and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None });
        self.cgroup = cgroup_of(self.pid)?;
        Ok(())
    }
}

/// The directory of a process in the cgroup v2 hierarchy.
pub fn cgroup_of(pid: u32) -> Result<PathBuf, HarnessError> {
    let root = cgroup2()
        .ok_or_else(|| HarnessError::Unexpected("no cgroup v2 hierarchy is mounted".to_owned()))?;
    let path = format!("/proc/{pid}/cgroup");
    let text =
        fs::read_to_string(&path).map_err(crate::error::io(format!("cannot read {path}")))?;
    let inner = text.lines().find_map(|line| line.strip_prefix("0::/")).ok_or_else(|| {
        HarnessError::Unexpected(format!("process {pid} is in no cgroup v2 directory"))
    })?;
    Ok(root.join(inner))
}

/// Removes an empty cgroup parent from every hierarchy of the machine.
pub(crate) fn remove_cgroup_parent(name: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(point), Some("cgroup" | "cgroup2")) = (words.next(), words.next()) else {
            continue;
        };
        remove_empty(&Path::new(point).join(name));
    }
}

/// Removes a directory of empty directories, innermost first; a cgroup in use refuses, which is as it should be.
fn remove_empty(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}

/// A network of containers: its name, its bridge and its addresses.
#[derive(Debug)]
pub struct Network {
    /// Its name, for [`RunOptions::on`].
    pub name: String,
    /// The bridge that joins its containers.
    pub bridge: String,
    pub(crate) block: Block,
}

impl Network {
    /// The machine's own address on it, where its resolver listens.
    pub fn gateway(&self) -> Ipv4Addr {
        self.block.container(1)
    }
}
