//! Podman with every bit of its state in a directory of its own.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::json;

use crate::{
    address::{Block, Range},
    command::{Finished, Guarded, eventually, finish, output},
    engine::{Cli, Container, Network, RunOptions, remove_cgroup_parent},
    error::{HarnessError, io},
    image::Image,
    netns::Netns,
    scratch::{container_id, unique},
};

/// How a Podman is to be set up.
#[derive(Debug, Default)]
pub struct PodmanOptions {
    /// The namespace that bridges and resolver live in; the machine's own when there is none.
    pub home: Option<Arc<Netns>>,
    /// Where the resolver of its networks asks about names that are not containers. Without one it asks a
    /// documentation address that nobody answers for: never the machine's resolver.
    pub upstream: Option<Ipv4Addr>,
    /// The cgroup above its containers; one of its own when there is none.
    pub cgroup_parent: Option<String>,
}

/// A Podman of our own. Dropping it removes its containers, networks and files.
#[derive(Debug)]
pub struct Podman {
    cli: Arc<Cli>,
    directory: PathBuf,
    cgroup_parent: String,
    networks: Vec<Network>,
    service: Option<Guarded>,
}

/// Where distributions put Podman's network helpers.
const HELPERS: [&str; 3] = ["/usr/lib/podman", "/usr/libexec/podman", "/usr/local/libexec/podman"];

/// Where a helper of Podman is installed.
pub fn helper(name: &str) -> Option<PathBuf> {
    HELPERS.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

impl Podman {
    /// Sets one up in an existing, empty directory.
    pub fn start(directory: &Path, options: PodmanOptions) -> Result<Self, HarnessError> {
        for part in ["root", "run", "tmp", "networks", "helpers", "dns"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(io(format!("cannot make {}", path.display())))?;
        }
        let cgroup_parent =
            options.cgroup_parent.unwrap_or_else(|| format!("bulkhead-{}", unique()));
        // 203.0.113.0 is the one documentation address that no block contains.
        let upstream = options.upstream.unwrap_or(Ipv4Addr::new(203, 0, 113, 0));
        write_helpers(directory, upstream)?;
        let config = directory.join("containers.conf");
        fs::write(&config, containers_conf(directory))
            .map_err(io("cannot write containers.conf"))?;
        let path = |part: &str| directory.join(part).into_os_string();
        let mut cli = Cli {
            program: "podman".into(),
            options: vec![
                "--root".into(),
                path("root"),
                "--runroot".into(),
                path("run"),
                "--tmpdir".into(),
                path("tmp"),
                "--network-config-dir".into(),
                path("networks"),
                "--storage-driver".into(),
                "overlay".into(),
            ],
            environment: vec![("CONTAINERS_CONF".into(), config.into_os_string())],
            home: options.home,
        };
        if cli.output(&["info"]).is_err() {
            // Overlays cannot stand on every file system; plain copies can.
            let driver = cli.options.last_mut().expect("the options end with the driver");
            *driver = "vfs".into();
            let root = directory.join("root");
            fs::remove_dir_all(&root).map_err(io(format!("cannot empty {}", root.display())))?;
            cli.output(&["info"])?;
        }
        Ok(Self {
            cli: Arc::new(cli),
            directory: directory.to_owned(),
            cgroup_parent,
            networks: Vec::new(),
            service: None,
        })
    }

    /// Its command line, for what the harness has no function for.
    pub fn cli(&self) -> &Arc<Cli> {
        &self.cli
    }

    /// The cgroup above its containers, relative to the root of each hierarchy.
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    /// Makes a network with a resolver; containers on it find one another by name.
    pub fn network_create(&mut self, name: &str) -> Result<&Network, HarnessError> {
        let block = Block::claim(Range::Containers)?;
        let bridge = format!("bhp{}", unique());
        let whole = self.whole_name(name);
        // Written as Podman keeps it: its command line cannot name the bridge before 4.4.
        let network = json!({
            "name": whole,
            "id": container_id(),
            "driver": "bridge",
            "network_interface": bridge,
            "created": "2026-01-01T00:00:00Z",
            "subnets": [
                { "subnet": format!("{}/24", block.container(0)), "gateway": block.container(1) },
                { "subnet": format!("{}/64", block.container6(0)), "gateway": block.container6(1) },
            ],
            "ipv6_enabled": true,
            "internal": false,
            "dns_enabled": true,
            "ipam_options": { "driver": "host-local" },
        });
        let path = self.directory.join("networks").join(format!("{whole}.json"));
        fs::write(&path, network.to_string())
            .map_err(io(format!("cannot write {}", path.display())))?;
        // Containers ask this resolver and no other; Podman would add the machine's own as a second.
        let resolv = format!("nameserver {}\noptions timeout:2 attempts:2\n", block.container(1));
        let path = self.resolv_conf(name);
        fs::write(&path, resolv).map_err(io(format!("cannot write {}", path.display())))?;
        self.networks.push(Network { name: name.to_owned(), bridge, block });
        Ok(self.networks.last().expect("it was pushed just now"))
    }

    /// A network that was made before.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
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

    /// The same options, with our cgroup, network and resolver.
    fn placed(&self, options: &RunOptions) -> RunOptions {
        let mut options = options.clone();
        options.extra.extend(["--cgroup-parent".to_owned(), format!("/{}", self.cgroup_parent)]);
        if let Some(network) =
            self.networks.iter().find(|network| Some(&network.name) == options.network.as_ref())
        {
            options.volumes.push((self.resolv_conf(&network.name), "/etc/resolv.conf".into()));
            options.network = Some(self.whole_name(&network.name));
        }
        options
    }

    /// Starts its API service and returns the socket. It ends with this value.
    pub fn service(&mut self) -> Result<PathBuf, HarnessError> {
        let socket = self.directory.join("podman.sock");
        let address = format!("unix://{}", socket.display());
        let mut command = self.cli.command(&["system", "service", "--time", "0", &address]);
        self.service = Some(Guarded::spawn(
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()),
        )?);
        if eventually(Duration::from_secs(20), || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        }) {
            return Ok(socket);
        }
        Err(HarnessError::Unexpected(format!(
            "podman's service does not answer on {}",
            socket.display()
        )))
    }

    /// Stops its API service, as an engine's restart would.
    pub fn stop_service(&mut self) {
        self.service = None;
    }

    /// A network's name with this run's own in it.
    ///
    /// Podman keeps the addresses that are taken in one file for the whole machine, by the network's name: what a run that
    /// was killed took would stay taken for the next one.
    fn whole_name(&self, network: &str) -> String {
        format!("{network}-{}", self.cgroup_parent.replace('/', "-"))
    }

    /// The file in which the resolver of its networks keeps its own process id.
    pub(crate) fn resolver(&self) -> PathBuf {
        self.directory.join("dns/aardvark-dns/aardvark.pid")
    }

    fn resolv_conf(&self, network: &str) -> PathBuf {
        self.directory.join("dns").join(format!("{network}.resolv.conf"))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.service = None;
        // Each step on its own: what one leaves, the next may still take.
        let _ = self.cli.output(&["rm", "--all", "--force", "--time", "0"]);
        for network in &self.networks {
            let _ = self.cli.output(&["network", "rm", "--force", &self.whole_name(&network.name)]);
            let _ = output(crate::netns::inside(self.cli.home.as_deref(), "ip".as_ref()).args([
                "link",
                "del",
                &network.bridge,
            ]));
        }
        stop_resolver(&self.directory.join("dns"));
        let _ = finish(Command::new("umount").arg(self.directory.join("root/overlay")));
        remove_cgroup_parent(&self.cgroup_parent);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Ends the resolver that serves these networks, found by the file in which it keeps its own process id.
fn stop_resolver(dns: &Path) {
    let file = dns.join("aardvark-dns/aardvark.pid");
    let Some(pid) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) else {
        return;
    };
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return };
    let comm =
        fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    // The id may have gone to another process since.
    if comm.trim() == "aardvark-dns" {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn containers_conf(directory: &Path) -> String {
    let helpers: Vec<_> = std::iter::once(directory.join("helpers").display().to_string())
        .chain(HELPERS.map(str::to_owned))
        .map(|path| format!("{path:?}"))
        .collect();
    // runc because crun refuses the hybrid cgroup layout; limits that do not need CAP_SYS_RESOURCE to set.
    format!(
        "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=30000:30000\"]\n\
         [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
         helper_binaries_dir = [{}]\n[network]\nnetwork_backend = \"netavark\"\n",
        helpers.join(", ")
    )
}

/// Puts two small scripts before Podman's own network helpers.
///
/// Netavark keeps the state of its resolver in one place for the whole machine, and the resolver asks whoever the
/// machine asks. The scripts give it a place of ours, and an upstream that is a test's.
fn write_helpers(directory: &Path, upstream: Ipv4Addr) -> Result<(), HarnessError> {
    let find = |name: &str| {
        helper(name).ok_or_else(|| HarnessError::Unexpected(format!("{name} is not installed")))
    };
    let (netavark, aardvark) = (find("netavark")?, find("aardvark-dns")?);
    let helpers = directory.join("helpers");
    let dns = directory.join("dns");
    let resolv = helpers.join("resolv.conf");
    fs::write(&resolv, format!("nameserver {upstream}\noptions timeout:1 attempts:1\n"))
        .map_err(io("cannot write resolv.conf"))?;
    let script = format!(
        "#!/bin/sh\n# Podman names the machine's place for resolver state as the first option; ours instead.\n\
         if [ \"$1\" = --config ]; then shift 2; set -- --config '{}' \"$@\"; fi\nexec '{}' \"$@\"\n",
        dns.display(),
        netavark.display()
    );
    executable(&helpers.join("netavark"), &script)?;
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind \"{}\" /etc/resolv.conf && exec \"{}\" \"$@\"' sh \"$@\"\n",
        resolv.display(),
        aardvark.display()
    );
    executable(&helpers.join("aardvark-dns"), &script)
}

fn executable(path: &Path, text: &str) -> Result<(), HarnessError> {
    let failed = || io(format!("cannot write {}", path.display()));
    fs::write(path, text).map_err(failed())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed())
}
