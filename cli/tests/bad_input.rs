//! Bad input on the real binary: each ends in a clear error or a named degradation, never in a panic, and nothing is lost.
//!
//! What a person types and configures is in `exit.rs`; here it is what a machine does to a service: pins of another
//! version, files that are damaged, a disk that is full, a kernel without type information, an engine that is not there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bulkhead_bus::embedded::{self, Embedded};
use bulkhead_bus::{Bus as _, Topic, typed};
use bulkhead_tests::command::eventually;
use bulkhead_tests::requirement::{Need, cgroup2, met};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A peer that nobody has.
const PEER: &str = "198.51.100.7";

/// Directories, a cgroup with a process in it, and perhaps a service.
struct Scene {
    directory: tempfile::TempDir,
    name: String,
    mount: PathBuf,
    container: Child,
    service: Option<Child>,
}

impl Scene {
    /// `None`, with the cause told, where this machine cannot.
    fn set(tag: &str, more: &str) -> Option<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        if !met("bad input", &[Need::Root, Need::Bpf, Need::Cgroup2]) {
            return None;
        }
        let name = format!("bulkhead-{tag}-{}", std::process::id());
        let mount = cgroup2().unwrap();
        let web = mount.join(&name).join("web");
        fs::create_dir_all(&web).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!(
            "[controller]\nuser = \"64117\"\n[collector]\ncgroup-parents = [\"/{name}\"]\nrunc-roots = []\n{more}"
        );
        fs::write(directory.path().join("config.toml"), config).unwrap();
        let container = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(web.join("cgroup.procs"), container.id().to_string()).unwrap();
        Some(Self { directory, name, mount, container, service: None })
    }

    fn without_engines(tag: &str) -> Option<Self> {
        Self::set(tag, "docker = []\npodman = []\npodman-roots = []\n")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf").join(&self.name)
    }

    fn arguments(&self, words: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        for (flag, value) in [
            ("--config", self.path("config.toml")),
            ("--state", self.path("s")),
            ("--run-dir", self.path("r")),
            ("--pin-dir", self.pins()),
            ("--cgroup-root", self.mount.join(&self.name)),
        ] {
            all.extend([flag.to_owned(), value.display().to_string()]);
        }
        all
    }

    /// A command of the binary, run to its end.
    fn ask(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        command.args(self.arguments(words)).output().unwrap()
    }

    fn json(&self, words: &[&str]) -> Option<Value> {
        let words: Vec<&str> = words.iter().copied().chain(["-o", "json"]).collect();
        serde_json::from_slice(&self.ask(&words).stdout).ok()
    }

    /// Starts the service and waits until the container has a name.
    fn run(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        command.args(self.arguments(&["run"])).stdin(Stdio::null()).stdout(Stdio::null());
        self.service = Some(command.stderr(log).spawn().unwrap());
        let named = || {
            self.json(&["workloads"])
                .is_some_and(|l| l.as_array().unwrap().iter().any(|w| w["containers"] == 1))
        };
        assert!(eventually(PATIENCE, named), "the container has no name: {}", self.log());
    }

    fn stop(&mut self) {
        let mut service = self.service.take().unwrap();
        kill(Pid::from_raw(service.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(service.wait().unwrap().code(), Some(0), "{}", self.log());
    }

    /// Starts the service where it cannot run, and returns what it said when it gave up.
    fn refused(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        command.args(self.arguments(&["run"])).stdin(Stdio::null()).stdout(Stdio::null());
        let said = self.path("refusal");
        let mut service = command.stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = service.try_wait().unwrap() {
                break status;
            }
            if Instant::now() >= end {
                service.kill().unwrap();
                service.wait().unwrap();
                panic!("it runs, although it cannot: {}", fs::read_to_string(said).unwrap());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let said = fs::read_to_string(said).unwrap();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn container_name(&self) -> String {
        format!("/{}/web", self.name)
    }

    fn deny(&self, peer: &str) -> Output {
        self.ask(&["deny", "add", "--container", &self.container_name(), peer])
    }

    fn denied(&self) -> usize {
        self.json(&["deny", "list"]).map_or(0, |list| list.as_array().unwrap().len())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(service) = self.service.as_mut() {
            let _ = kill(Pid::from_raw(service.id().cast_signed()), Signal::SIGTERM);
            let _ = service.wait();
        }
        let _ = self.container.kill();
        let _ = self.container.wait();
        let _ = fs::remove_dir_all(self.pins());
        for part in ["web", ""] {
            let _ = fs::remove_dir(self.mount.join(&self.name).join(part));
        }
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn pins_of_another_abi_are_refused_with_the_remedy_and_the_remedy_brings_measures_back() {
    let Some(mut scene) = Scene::without_engines("abi") else { return };
    scene.run();
    assert!(scene.deny(PEER).status.success());
    scene.stop();
    let map = scene.pins().join("ABI");
    let other = Command::new("bpftool")
        .args(["map", "update", "pinned"])
        .arg(&map)
        .args(["key", "0", "0", "0", "0", "value", "99", "0", "0", "0"])
        .output();
    if !other.is_ok_and(|o| o.status.success()) {
        // A map that is not there is what a maker leaves that was stopped halfway: refused as version 0.
        fs::remove_file(&map).unwrap();
    }
    let remedy = format!("rm -r {}", scene.pins().display());
    let said = scene.refused();
    assert!(said.contains(&remedy) && said.contains("holds guards of ABI"), "{said}");
    for words in [&["status"][..], &["disarm", "--all"]] {
        let output = scene.ask(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(told(&output).contains(&remedy), "{}", told(&output));
    }
    fs::remove_dir_all(scene.pins()).unwrap();
    scene.run();
    let back = || {
        scene.json(&["status"]).is_some_and(|s| s["guards"]["measures"].to_string().contains(PEER))
    };
    assert!(eventually(PATIENCE, back), "{:?}", scene.json(&["status"]));
}

#[test]
fn pins_that_no_bpffs_holds_are_refused_before_anything_is_loaded() {
    let Some(scene) = Scene::without_engines("nobpffs") else { return };
    let pins = scene.path("pins");
    let words = ["run", "--config"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command.args(words).arg(scene.path("config.toml")).arg("--state").arg(scene.path("s"));
    command.arg("--run-dir").arg(scene.path("r")).arg("--pin-dir").arg(&pins);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = told(&output);
    assert!(said.contains("mount -t bpf") && said.contains("no bpffs"), "{said}");
    assert!(!pins.exists(), "it leaves no directory that can never be used");
}

#[test]
fn an_engine_that_is_not_there_is_told_and_costs_nothing_else() {
    let Some(mut scene) = Scene::set(
        "noengine",
        "docker = [\"/nowhere/docker.sock\"]\npodman = []\npodman-roots = []\n",
    ) else {
        return;
    };
    scene.run();
    let alert = || {
        let alerts = scene.json(&["alerts", "list"])?;
        alerts.as_array()?.iter().find(|a| a["class"] == "health").cloned()
    };
    assert!(eventually(PATIENCE, || alert().is_some()), "{}", scene.log());
    let alert = alert().unwrap();
    assert!(alert["title"].as_str().unwrap().contains("engine cannot be reached"), "{alert}");
    assert!(alert["nearest_normal"].as_str().unwrap().contains("/nowhere/docker.sock"), "{alert}");
    let doctor = scene.json(&["doctor"]).unwrap();
    let row = doctor.as_array().unwrap().iter().find(|l| l["name"] == "docker_socket").unwrap();
    assert_eq!(row["state"], "absent");
    assert!(scene.deny(PEER).status.success(), "a container without that engine is guarded");
}

#[test]
fn damaged_files_are_named_with_their_remedy() {
    let Some(mut scene) = Scene::without_engines("damage") else { return };
    scene.run();
    scene.stop();
    for (file, remedy) in [
        ("s/controller/bus.redb", "move it away"),
        ("s/controller/signing.key", "remove it"),
        ("s/controller/epoch", "write into it"),
        ("s/agent/epoch", "write into it"),
        ("s/agent/enforcer-epoch", "write into it"),
        ("s/agent/ledger.json", "move it away"),
    ] {
        let path = scene.path(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&b"\xff\x00 nonsense \x1b[31m"[..], &[0xa5; 300]].concat()).unwrap();
        let said = scene.refused();
        assert!(said.contains(&path.display().to_string()), "{file}: {said}");
        assert!(said.contains(remedy), "{file}: {said}");
        assert!(!said.contains('\x1b'), "{file}: {said}");
        fs::write(&path, whole).unwrap();
    }
    // The public key follows from the private one: it is made again.
    fs::write(scene.path("s/agent/controller.pub"), b"\xff\x00").unwrap();
    scene.run();
    assert!(scene.deny(PEER).status.success());
}

#[test]
fn a_damaged_baseline_is_named_and_learned_anew_and_measures_stay() {
    let Some(mut scene) = Scene::without_engines("snapshot") else { return };
    scene.run();
    assert!(scene.deny(PEER).status.success());
    scene.stop();
    let damaged = damage_baselines(&scene.path("s/controller"));
    assert!(damaged > 0, "a service that stops leaves its baselines in the log");
    give(&scene.path("s/controller"));
    scene.run();
    let log = scene.log();
    assert!(log.contains("its baseline is learned anew"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(scene.denied(), 1, "a measure does not depend on a baseline");
}

/// Puts after each workload's latest baseline one with a byte turned over; how many.
fn damage_baselines(log: &Path) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bus = Embedded::open(embedded::Config::new(log, bulkhead_cli::output::now)).unwrap();
        let batch = bus.fetch(Topic::Baselines, 0, 0).await.unwrap();
        let mut damaged = Vec::new();
        for record in batch.records.iter().filter(|r| r.value.is_some()) {
            let mut snapshot = typed::read_baseline(record).unwrap();
            let middle = snapshot.artifact.len() / 2;
            snapshot.artifact[middle] ^= 0x40;
            damaged.push(typed::baseline(&snapshot));
        }
        let count = damaged.len();
        bus.publish(damaged).await.unwrap();
        count
    })
}

/// What root wrote in the controller's state is the controller's again.
fn give(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        std::os::unix::fs::chown(entry.unwrap().path(), Some(64_117), Some(64_117)).unwrap();
    }
}

/// A small file system under the state directory, unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir_all(&at).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1500k", "tmpfs"])
            .arg(&at)
            .status();
        assert!(done.unwrap().success());
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_by_name_loses_nothing_and_is_over_when_there_is_room() {
    let Some(mut scene) = Scene::without_engines("full") else { return };
    let small = Small::mount(scene.path("s"));
    scene.run();
    assert!(scene.deny(PEER).status.success());

    let fill = small.0.join("fill");
    let zeros = vec![0; 1 << 22];
    assert!(fs::write(&fill, &zeros).is_err(), "the disk is full");
    // What the log's file still has room for is taken too, by decisions that are acknowledged.
    let mut acknowledged = 1;
    let why = "x".repeat(1000);
    let peer = |number: usize| format!("203.0.113.{number}");
    let refusal = loop {
        let name = scene.container_name();
        let output =
            scene.ask(&["deny", "add", "--container", &name, &peer(acknowledged), "--why", &why]);
        if !output.status.success() {
            break output;
        }
        acknowledged += 1;
        assert!(acknowledged < 240, "the disk never fills");
    };
    let said = told(&refusal);
    assert_eq!(refusal.status.code(), Some(1), "{said}");
    assert!(said.contains("no room left on the disk"), "{said}");
    assert_eq!(scene.denied(), acknowledged, "reading goes on");

    fs::remove_file(&fill).unwrap();
    assert!(eventually(PATIENCE, || scene.deny(&peer(250)).status.success()), "{}", scene.log());
    assert_eq!(scene.denied(), acknowledged + 1, "what was acknowledged is there, and no more");
    let in_kernel = || {
        let status = scene.json(&["status"]).unwrap();
        status["guards"]["measures"].as_array().unwrap().len() == acknowledged + 1
    };
    assert!(eventually(PATIENCE, in_kernel), "{:?}\n{}", scene.json(&["status"]), scene.log());
    assert!(!scene.log().contains("panicked"), "{}", scene.log());
    println!("{acknowledged} acknowledged: {}", scene.log());
    scene.stop();
}

#[test]
fn a_kernel_without_type_information_is_told_as_such() {
    let Some(scene) = Scene::without_engines("nobtf") else { return };
    // In a mount namespace of its own, this kernel shows none.
    let hidden = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg("mount -t tmpfs tmpfs /sys/kernel/btf && exec \"$@\"").arg("sh");
        command.arg(env!("CARGO_BIN_EXE_bulkhead")).args(scene.arguments(words));
        command.output().unwrap()
    };
    let doctor = hidden(&["doctor"]);
    let report = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(doctor.status.code(), Some(1), "{report}");
    assert!(
        report.contains("btf (NEEDED)") && report.contains("CONFIG_DEBUG_INFO_BTF"),
        "{report}"
    );
    let run = hidden(&["run"]);
    assert_eq!(run.status.code(), Some(1));
    let said = told(&run);
    assert!(said.contains("bulkhead doctor") && !said.contains("panicked"), "{said}");
}
