//! The product as an operator runs it: `bulkhead run` in a place of its own, and its command line for everything else.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    command::{Guarded, eventually, finish, line},
    error::{HarnessError, io},
};

/// Where one run of the product works, apart from any other on the machine.
#[derive(Debug, Clone)]
pub struct Place {
    /// For state, sockets, configuration and log. It has to be there, and open to the controller's user.
    pub directory: PathBuf,
    /// The subtree of the cgroup v2 hierarchy that it watches and guards.
    pub cgroup_root: PathBuf,
    /// The directory on a bpffs that it pins guards and leases in.
    pub pins: PathBuf,
    /// The product's binary: the one that cargo put beside the program that runs this, unless it is set.
    pub program: PathBuf,
}

impl Place {
    /// One for the containers of an engine, whose cgroup parent it takes as its root.
    pub fn beside(directory: &Path, cgroup_parent: &str) -> Result<Self, HarnessError> {
        let hierarchy = crate::requirement::cgroup2().ok_or_else(|| {
            HarnessError::Unexpected("no cgroup v2 hierarchy is mounted".to_owned())
        })?;
        let cgroup_root = hierarchy.join(cgroup_parent);
        fs::create_dir_all(&cgroup_root)
            .map_err(io(format!("cannot make {}", cgroup_root.display())))?;
        fs::create_dir_all(directory)
            .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o755)))
            .map_err(io(format!("cannot open {} to the controller", directory.display())))?;
        Ok(Self {
            directory: directory.to_owned(),
            cgroup_root,
            pins: Path::new("/sys/fs/bpf").join(cgroup_parent),
            program: binary(),
        })
    }
}

/// A running `bulkhead run`. Dropping it stops it, ends its measures and removes its pins.
#[derive(Debug)]
pub struct Service {
    place: Place,
    config: PathBuf,
    process: Option<Guarded>,
}

impl Service {
    /// Starts it with these configuration files, each over the ones before it.
    pub fn start(place: &Place, configuration: &[&str]) -> Result<Self, HarnessError> {
        let folder = place.directory.join("config");
        let more = folder.join("config.d");
        fs::create_dir_all(&more).map_err(io(format!("cannot make {}", more.display())))?;
        let config = folder.join("config.toml");
        for (number, text) in configuration.iter().enumerate() {
            let path =
                if number == 0 { config.clone() } else { more.join(format!("{number:02}.toml")) };
            fs::write(&path, text).map_err(io(format!("cannot write {}", path.display())))?;
        }
        let mut service = Self { place: place.clone(), config, process: None };
        service.run()?;
        Ok(service)
    }

    /// Starts it again after it was killed or stopped, over the state it left.
    pub fn run(&mut self) -> Result<(), HarnessError> {
        let path = self.log();
        let failed = |source| io(format!("cannot write {}", path.display()))(source);
        let log = File::options().create(true).append(true).open(&path).map_err(failed)?;
        let again = log.try_clone().map_err(failed)?;
        let mut command = self.command(&["run"]);
        command.stdin(Stdio::null()).stdout(log).stderr(again);
        self.process = Some(Guarded::spawn(&mut command)?);
        Ok(())
    }

    /// Waits until it answers; an error with its last words when it ends instead, or never does.
    pub fn wait(&mut self, limit: Duration) -> Result<(), HarnessError> {
        let answered = eventually(limit, || !self.is_alive() || self.ask(&["workloads"]).is_ok());
        if answered && self.is_alive() {
            return Ok(());
        }
        Err(HarnessError::Unexpected(format!("bulkhead does not answer: {}", self.last_words())))
    }

    /// Whether its supervisor runs.
    pub fn is_alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(Guarded::is_alive)
    }

    /// Its processes: the supervisor first, then the agent and the controller.
    pub fn pids(&self) -> Vec<u32> {
        let supervisor = self.process.as_ref().map(Guarded::pid);
        supervisor.into_iter().flat_map(|pid| std::iter::once(pid).chain(children(pid))).collect()
    }

    /// Asks through the command line, in JSON. An exit code of 1 says that something was found: an answer all the same.
    pub fn ask(&self, words: &[&str]) -> Result<Value, HarnessError> {
        let mut command = self.command(words);
        let finished = finish(command.args(["--output", "json"]))?;
        let cause = if !matches!(finished.status.code(), Some(0 | 1))
            || finished.stdout.trim().is_empty()
        {
            finished.stderr.trim().to_owned()
        } else {
            match serde_json::from_str(&finished.stdout) {
                Ok(value) => return Ok(value),
                Err(error) => error.to_string(),
            }
        };
        Err(HarnessError::Command { command: line(&command), cause })
    }

    /// A command of it in this place, to be run by the caller.
    pub fn command(&self, words: &[&str]) -> Command {
        let Place { directory, cgroup_root, pins, program } = &self.place;
        let mut command = Command::new(program);
        command.args(words).arg("--config").arg(&self.config);
        command
            .arg("--state")
            .arg(directory.join("state"))
            .arg("--run-dir")
            .arg(directory.join("run"));
        command.arg("--pin-dir").arg(pins).arg("--cgroup-root").arg(cgroup_root);
        command
    }

    /// Kills every process of it at once, as a crash would, and says how many there were.
    pub fn kill(&mut self) -> Result<usize, HarnessError> {
        let all = self.pids();
        let Some(mut process) = self.process.take() else { return Ok(0) };
        // The supervisor first: it would start the others again.
        for pid in all.iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            // One of them may have noticed the end of another already.
            let _ = kill_process(pid, Signal::KILL);
        }
        process.child().wait().map_err(io("cannot wait for the supervisor"))?;
        Ok(all.len())
    }

    /// Ends it as an operator would; measures stay in force.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Duration::from_secs(10));
        }
    }

    /// Where its log is.
    pub fn log(&self) -> PathBuf {
        self.place.directory.join("bulkhead.log")
    }

    /// What it said last.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
        // Nothing to do is no error here: there may be no measure, and no pin.
        let _ = finish(&mut self.command(&["disarm", "--all"]));
        let _ = fs::remove_dir_all(&self.place.pins);
    }
}

/// Where cargo put the binary: beside the program that runs this, or one up from a test program.
pub fn binary() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new(""));
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.join("bulkhead")
}

/// The processes that a process started.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_looked_for_where_cargo_puts_it() {
        assert!(!binary().parent().unwrap().ends_with("deps"));
        assert!(binary().ends_with("bulkhead"));
    }

    #[test]
    fn the_children_of_a_process_are_found() {
        let child = Guarded::spawn(Command::new("sleep").arg("30")).unwrap();
        // The list is of one thread's children; a test runs on a thread of its own, the program's main one has none.
        let thread = fs::read_to_string("/proc/thread-self/children").unwrap();
        assert!(thread.split_whitespace().any(|pid| pid == child.pid().to_string()), "{thread}");
    }
}
