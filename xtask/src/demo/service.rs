//! The product itself, as an operator runs it: `bulkhead run`, and its own command line for everything else.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use bulkhead_tests::command::{Guarded, finish, line};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{scene::Place, settings::Settings};
use crate::build;

/// A running `bulkhead run`, with a place of its own. Dropping it stops it and removes its pins.
#[derive(Debug)]
pub(crate) struct Service {
    place: Place,
    config: PathBuf,
    process: Option<Guarded>,
}

impl Service {
    /// Starts it with the checked-in configuration, and with what only this run can know beside it.
    pub(crate) fn start(place: &Place) -> anyhow::Result<Self> {
        let folder = place.directory.join("config");
        fs::create_dir_all(folder.join("config.d"))?;
        let config = folder.join("config.toml");
        fs::copy(Settings::path(), &config).context("cannot copy the configuration")?;
        fs::write(folder.join("config.d/run.toml"), of_this_run(place))?;
        let mut service = Self { place: place.clone(), config, process: None };
        service.run()?;
        Ok(service)
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let log = File::create(self.log())?;
        let mut command = self.command(&["run"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(Guarded::spawn(&mut command)?);
        Ok(())
    }

    /// Whether it answers; an error when it has ended instead.
    pub(crate) fn answers(&mut self) -> anyhow::Result<Option<()>> {
        if self.process.as_mut().is_none_or(|process| !process.is_alive()) {
            bail!("bulkhead has ended: {}", self.last_words());
        }
        Ok(self.ask(&["workloads"]).ok().map(drop))
    }

    /// Asks through the command line, in JSON.
    pub(crate) fn ask(&self, words: &[&str]) -> anyhow::Result<Value> {
        let mut command = self.command(words);
        let finished = finish(command.args(["--output", "json"]))?;
        // 1 says that something was found: an answer all the same.
        if !matches!(finished.status.code(), Some(0 | 1)) || finished.stdout.trim().is_empty() {
            bail!("`{}`: {}", line(&command), finished.stderr.trim());
        }
        serde_json::from_str(&finished.stdout)
            .with_context(|| format!("`{}` is not understood", line(&command)))
    }

    /// Kills every process of it at once, as a crash would.
    pub(crate) fn kill(&mut self) -> anyhow::Result<usize> {
        let Some(mut process) = self.process.take() else { return Ok(0) };
        let supervisor = process.pid();
        // The supervisor first: it would start the others again.
        let all: Vec<_> = std::iter::once(supervisor).chain(children(supervisor)).collect();
        for pid in all.iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            // One of them may have noticed the end of another already.
            let _ = kill_process(pid, Signal::KILL);
        }
        process.child().wait()?;
        Ok(all.len())
    }

    /// What it said last, for an error.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    /// Where its log is.
    pub(crate) fn log(&self) -> PathBuf {
        self.place.directory.join("bulkhead.log")
    }

    /// Ends it as an operator would, and removes what it keeps in the kernel on purpose.
    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop(Duration::from_secs(10));
        }
        // Nothing to do is no error here: there may be no measure, and no pin.
        let _ = finish(&mut self.command(&["disarm", "--all"]));
        let _ = fs::remove_dir_all(&self.place.pins);
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(build::binary());
        let Place { directory, cgroup_root, pins, .. } = &self.place;
        command
            .args(words)
            .arg("--config")
            .arg(&self.config)
            .arg("--state")
            .arg(directory.join("state"))
            .arg("--run-dir")
            .arg(directory.join("run"))
            .arg("--pin-dir")
            .arg(pins)
            .arg("--cgroup-root")
            .arg(cgroup_root);
        command
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where this run's engine and resolver are: the part of a configuration that is not the same twice.
fn of_this_run(place: &Place) -> String {
    format!(
        "[collector]\ndocker = []\npodman = [{:?}]\npodman-roots = []\nrunc-roots = []\n\n\
         [guardrails]\nprotected = [\"{}:53\"]\n",
        place.podman_socket.display().to_string(),
        place.resolver
    )
}

/// The processes that a process started.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_this_run_is_a_configuration_by_itself() {
        let place = Place {
            directory: "/d".into(),
            cgroup_root: "/c".into(),
            pins: "/p".into(),
            podman_socket: "/d/podman.sock".into(),
            resolver: [10, 213, 1, 1].into(),
        };
        let table: toml::Table = of_this_run(&place).parse().unwrap();
        assert_eq!(table["collector"]["podman"][0].as_str(), Some("/d/podman.sock"));
        assert_eq!(table["guardrails"]["protected"][0].as_str(), Some("10.213.1.1:53"));
    }
}
