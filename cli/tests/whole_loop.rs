//! The whole loop on this kernel, without an engine: a process in a cgroup of its own is observed, denied, quarantined and
//! released, while daemons are killed and come back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_tests::requirement::{Need, cgroup2, met};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Set for the process that plays the container: where its cgroup is, and whom it calls.
const ACT: &str = "BULKHEAD_TEST_ACT";

/// What a refused call gets, on every architecture.
const EPERM: i32 = nix::errno::Errno::EPERM as i32;

/// Not a test by itself: what runs in the container. It calls its peer for ever and says how it went.
#[test]
fn act() {
    let Ok(act) = std::env::var(ACT) else { return };
    let (cgroup, peer) = act.split_once(' ').unwrap();
    fs::write(format!("{cgroup}/cgroup.procs"), std::process::id().to_string()).unwrap();
    let peer = peer.parse().unwrap();
    loop {
        let said = match TcpStream::connect_timeout(&peer, Duration::from_millis(500)) {
            Ok(_) => "ok".to_owned(),
            Err(error) if error.raw_os_error() == Some(EPERM) => "EPERM".to_owned(),
            Err(error) => format!("{:?}", error.kind()),
        };
        println!("call {} {said}", now_ns());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

/// One attempt of the container.
#[derive(Clone, Debug)]
struct Call {
    at_ns: u64,
    said: String,
}

/// Directories, a cgroup, and what runs in them.
struct Scene {
    directory: tempfile::TempDir,
    name: String,
    mount: PathBuf,
    supervisor: Option<Child>,
    actor: Option<Child>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Scene {
    fn new(tag: &str) -> Self {
        let name = format!("bulkhead-{tag}-{}", std::process::id());
        let mount = cgroup2().unwrap();
        fs::create_dir_all(mount.join(&name).join("web")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!(
            "[controller]\nuser = \"64117\"\n[collector]\ncgroup-parents = [\"/{name}\"]\ndocker = []\npodman = []\n"
        );
        fs::write(directory.path().join("config.toml"), config).unwrap();
        let calls = Arc::default();
        let mut scene = Self { directory, name, mount, supervisor: None, actor: None, calls };
        scene.act();
        scene
    }

    fn container(&self) -> String {
        format!("/{}/web", self.name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let path = |name: &str| self.directory.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        command.args(words);
        for (flag, value) in [
            ("--config", path("config.toml")),
            ("--state", path("s")),
            ("--run-dir", path("r")),
            ("--pin-dir", PathBuf::from("/sys/fs/bpf").join(&self.name)),
            ("--cgroup-root", self.mount.join(&self.name)),
        ] {
            command.arg(flag).arg(value);
        }
        command
    }

    /// Starts the daemons and waits until they have named the container.
    fn run(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let mut command = self.command(&["run"]);
        self.supervisor =
            Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        self.eventually("the container is named", || {
            let list = self.json(&["workloads"])?;
            let named = list.as_array()?.iter().any(|w| w["containers"] == 1);
            named.then_some(())
        });
    }

    fn children(&self) -> Vec<i32> {
        let pid = self.supervisor.as_ref().unwrap().id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Kills all three as a crash would: the supervisor first, or it would start the others again.
    fn crash(&mut self) {
        let children = self.children();
        let mut supervisor = self.supervisor.take().unwrap();
        supervisor.kill().unwrap();
        for child in &children {
            // It may have noticed the supervisor's end.
            let _ = kill(Pid::from_raw(*child), Signal::SIGKILL);
        }
        supervisor.wait().unwrap();
        self.eventually("all are dead", || {
            let dead = |pid: &i32| {
                fs::read_to_string(format!("/proc/{pid}/stat"))
                    .map_or(true, |s| s.rsplit_once(')').is_none_or(|(_, r)| r.starts_with(" Z")))
            };
            children.iter().all(dead).then_some(())
        });
    }

    fn act(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap();
        std::thread::spawn(move || for _ in listener.incoming() {});
        let mut actor = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "act", "--nocapture"])
            .env(ACT, format!("{} {peer}", self.mount.join(&self.name).join("web").display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(actor.stdout.take().unwrap());
        self.actor = Some(actor);
        let calls = Arc::clone(&self.calls);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let words: Vec<&str> = line.split(' ').collect();
                if let ["call", at, said] = words[..] {
                    let call = Call { at_ns: at.parse().unwrap(), said: said.to_owned() };
                    calls.lock().unwrap().push(call);
                }
            }
        });
    }

    /// Waits for a call made after this moment whose outcome is as wanted.
    fn call(&self, wanted: &str, from_ns: u64) -> Call {
        self.eventually(&format!("a call ends with {wanted}"), || {
            let calls = self.calls.lock().unwrap();
            calls.iter().find(|c| c.at_ns >= from_ns && c.said == wanted).cloned()
        })
    }

    fn output(&self, words: &[&str]) -> Output {
        self.command(words).args(["-o", "json"]).output().unwrap()
    }

    fn json(&self, words: &[&str]) -> Option<Value> {
        serde_json::from_slice(&self.output(words).stdout).ok()
    }

    fn eventually<T>(&self, what: &str, attempt: impl Fn() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(value) = attempt() {
                return value;
            }
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.path().join("log"));
                panic!("not within a minute: {what}\n{}", log.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ids of the measures that the kernel holds.
    fn in_force(&self) -> Vec<String> {
        let status = self.json(&["status"]).unwrap();
        let measures = status["guards"]["measures"].as_array().cloned().unwrap_or_default();
        measures.iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for mut child in [self.supervisor.take(), self.actor.take()].into_iter().flatten() {
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(PathBuf::from("/sys/fs/bpf").join(&self.name));
        let root = self.mount.join(&self.name);
        // Its directories are the only entries of a cgroup that can be removed; the tasks in them have just ended.
        for _ in 0..100 {
            let inner = fs::read_dir(&root).into_iter().flatten().flatten();
            for entry in inner.filter(|e| e.path().is_dir()) {
                let _ = fs::remove_dir(entry.path());
            }
            if fs::remove_dir(&root).is_ok() || !root.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn able() -> bool {
    met("whole loop", &[Need::Root, Need::Bpf, Need::Cgroup2])
}

/// The number of a line of `/proc/PID/status`.
fn status(pid: i32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|l| l.starts_with(&format!("{field}:"))).unwrap();
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

#[test]
fn a_denied_connect_fails_at_once_is_explained_and_holds_and_ends_with_every_daemon_dead() {
    if !able() {
        return;
    }
    let mut scene = Scene::new("deny");
    scene.run();
    scene.call("ok", 0);

    // The agent is root by its user id and has only what the agent keeps.
    let kept = bulkhead_cli::run::privilege::AGENT_KEEPS.bits();
    let agent = scene.children().into_iter().find(|pid| status(*pid, "Uid") == 0).unwrap();
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status(agent, set) & !kept, 0, "{set}");
    }
    assert_eq!(status(agent, "NoNewPrivs"), 1);
    assert_eq!(status(agent, "Seccomp"), 2);

    let container = scene.container();
    let asked = now_ns();
    let words =
        ["deny", "add", "--container", &container, "127.0.0.1", "--for", "8s", "--why", "test"];
    let done = scene.json(&words).unwrap();
    let id = done["done"]["measure"].as_str().unwrap().to_owned();
    scene.call("EPERM", asked);
    let why = scene.json(&["why", &container, "127.0.0.1:80"]).unwrap();
    assert_eq!(why["step"], "manual-lease");
    assert_eq!(why["measure"]["id"], *id);
    let expires = why["measure"]["expires"].as_u64().unwrap();

    scene.crash();
    assert_eq!(scene.in_force(), [id], "the pins tell with every daemon dead");
    scene.call("EPERM", now_ns());
    let back = scene.call("ok", now_ns());
    assert!(back.at_ns >= expires, "it ended {} ms early", (expires - back.at_ns) / 1_000_000);
    assert!(scene.in_force().is_empty());
}

#[test]
fn a_crashed_daemon_comes_back_knows_what_it_learned_and_does_not_bring_back_what_was_disarmed() {
    if !able() {
        return;
    }
    let mut scene = Scene::new("crash");
    scene.run();
    let container = scene.container();
    let words = ["quarantine", "add", "--container", &container, "--why", "test"];
    let done = scene.json(&words).unwrap();
    let id = done["done"]["measure"].as_str().unwrap().to_owned();
    scene.call("EPERM", now_ns());
    let version = |scene: &Scene| {
        let list = scene.json(&["workloads"]).unwrap();
        list.as_array().unwrap().iter().filter_map(|w| w["baseline_version"].as_u64()).max()
    };
    let learned = version(&scene).unwrap();

    scene.crash();
    scene.run();
    assert_eq!(scene.in_force(), [id.as_str()], "once, as before");
    assert!(version(&scene).unwrap() >= learned);
    scene.call("EPERM", now_ns());

    scene.crash();
    let disarmed = scene.output(&["disarm", &id]);
    assert!(disarmed.status.success(), "{}", String::from_utf8_lossy(&disarmed.stderr));
    scene.call("ok", now_ns());
    let again = scene.output(&["disarm", &id]);
    assert_eq!(again.status.code(), Some(1), "it is not in force any more");
    scene.run();
    // The log still has the measure: the mark is what keeps it away. Give it the time that an apply takes, twice.
    let words = ["deny", "add", "--container", &container, "203.0.113.9", "--for", "1m"];
    let later = scene.json(&words).unwrap()["done"]["measure"].as_str().unwrap().to_owned();
    scene.eventually("a later measure is in force", || {
        scene.in_force().contains(&later).then_some(())
    });
    assert_eq!(scene.in_force(), [later]);
    scene.call("ok", now_ns());
    let audit = fs::read_to_string(scene.directory.path().join("s/agent/audit.jsonl")).unwrap();
    assert!(audit.lines().any(|l| l.contains("\"disarm\"") && l.contains(&id)), "{audit}");
}
