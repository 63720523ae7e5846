//! The supervisor and the controller as processes: whose they are, what they may do, and what happens when one dies.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_tests::requirement::{Need, met};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// No account has it: the controller may run as a number.
const CONTROLLER: u32 = 64_117;

/// Groups without an entry, by number.
const READERS: u32 = 64_200;
const WRITERS: u32 = 64_201;

/// Whether this machine can: only root gives a process to another user.
fn root() -> bool {
    met("supervision", &[Need::Root])
}

/// A daemon with directories of its own.
struct Daemon {
    directory: tempfile::TempDir,
    supervisor: Child,
}

impl Daemon {
    fn command(directory: &tempfile::TempDir) -> Command {
        let path = |name: &str| directory.path().join(name);
        let config = path("config.toml");
        let text = format!(
            "[controller]\nuser = \"{CONTROLLER}\"\n[api]\nread-group = \"{READERS}\"\nwrite-group = \"{WRITERS}\"\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        command.args(["run", "--roles", "detector,planner,api"]);
        for (flag, value) in
            [("--config", config), ("--state", path("s")), ("--run-dir", path("r"))]
        {
            command.arg(flag).arg(value);
        }
        command.stdin(Stdio::null()).env_remove("CI");
        command
    }

    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The controller's user has to get to its state.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let supervisor = Self::command(&directory).stderr(Stdio::null()).spawn().unwrap();
        let daemon = Self { directory, supervisor };
        daemon.wait_until_served();
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("r/api.sock")
    }

    fn wait_until_served(&self) {
        eventually(|| std::os::unix::net::UnixStream::connect(self.socket()).is_ok().then_some(()));
    }

    /// The pid of the only child.
    fn controller(&self) -> i32 {
        let pid = self.supervisor.id();
        eventually(|| {
            let path = format!("/proc/{pid}/task/{pid}/children");
            fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
        })
    }

    fn stop(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.supervisor.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.supervisor.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Reaped already where a test stopped it.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

fn eventually<T>(attempt: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "it did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn status(pid: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|l| l.starts_with(&format!("{field}:"))).unwrap();
    line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_controller_is_its_own_user_without_capabilities_or_a_way_back() {
    if !root() {
        return;
    }
    let daemon = Daemon::start();
    let pid = daemon.controller();
    for field in ["Uid", "Gid"] {
        assert_eq!(status(pid, field), vec![CONTROLLER.to_string(); 4].join(" "), "{field}");
    }
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&status(pid, field), 16), Ok(0), "{field}");
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(daemon.stop(), Some(0), "a wish to stop is no failure");
}

#[test]
fn a_killed_controller_comes_back_and_serves_again() {
    if !root() {
        return;
    }
    let daemon = Daemon::start();
    let first = daemon.controller();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    eventually(|| (daemon.controller() != first).then_some(()));
    daemon.wait_until_served();
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn the_controller_does_not_outlive_its_supervisor() {
    if !root() {
        return;
    }
    let mut daemon = Daemon::start();
    let controller = daemon.controller();
    daemon.supervisor.kill().unwrap();
    daemon.supervisor.wait().unwrap();
    eventually(|| (!alive(controller)).then_some(()));
}

/// Whether a process runs; one that waits to be reaped does not.
fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z")))
}

#[test]
fn a_second_daemon_is_told_who_is_first_and_harms_nothing() {
    if !root() {
        return;
    }
    let daemon = Daemon::start();
    let second = Daemon::command(&daemon.directory).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let line = String::from_utf8(second.stderr).unwrap();
    assert!(line.contains(&format!("in use by pid {}", daemon.supervisor.id())), "{line}");
    daemon.wait_until_served();
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_controller_that_cannot_start_stops_everything_and_has_said_why() {
    if !root() {
        return;
    }
    let daemon = Daemon::start();
    let directory = daemon.directory.path().to_owned();
    kill(Pid::from_raw(daemon.supervisor.id().cast_signed()), Signal::SIGTERM).unwrap();
    eventually(|| fs::File::open(directory.join("s/lock")).ok()?.try_lock().ok());
    fs::write(directory.join("s/controller/signing.key"), "nonsense").unwrap();
    let output = Daemon::command(&daemon.directory).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(line.contains("signing.key") && line.contains("remove it"), "{line}");
}

/// Runs the command line as another user, from a copy that every user may execute.
fn as_user(daemon: &Daemon, gid: u32, words: &[&str]) -> (Option<i32>, String) {
    let path = |name: &str| daemon.directory.path().join(name);
    if !path("bulkhead").exists() {
        fs::copy(env!("CARGO_BIN_EXE_bulkhead"), path("bulkhead")).unwrap();
    }
    let output = Command::new(path("bulkhead"))
        .args(words)
        .arg("--config")
        .arg(path("config.toml"))
        .arg("--run-dir")
        .arg(path("r"))
        .uid(64_300)
        .gid(gid)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn rights_follow_the_callers_groups_as_the_kernel_tells_them() {
    if !root() {
        return;
    }
    let daemon = Daemon::start();
    let mode = ["mode", "web", "detect"];
    let (code, line) = as_user(&daemon, 64_299, &["workloads"]);
    assert_eq!(code, Some(3), "a stranger does not get past the socket's mode");
    assert!(line.contains("permission denied"), "{line}");
    assert_eq!(as_user(&daemon, READERS, &["workloads"]).0, Some(0));
    let (code, line) = as_user(&daemon, READERS, &mode);
    assert_eq!(code, Some(1));
    assert!(line.contains(&format!("needs group `{WRITERS}`")), "{line}");

    // Who reaches the socket by other means is still nobody by its credentials.
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let (code, line) = as_user(&daemon, 64_299, &["workloads"]);
    assert_eq!(code, Some(1));
    assert!(line.contains(&format!("needs group `{READERS}`")), "{line}");
    let (code, line) = as_user(&daemon, WRITERS, &mode);
    assert_eq!(code, Some(1), "a writer is heard; there is no such workload");
    assert!(line.contains("is not known here"), "{line}");
}
