//! Runs other programs, bounded in time, with their words in the error.

use std::{
    ffi::OsStr,
    io::Read,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::error::HarnessError;

/// How long any one command may take before the harness gives up on it; a cold `docker import` takes seconds.
pub const COMMAND_SECONDS_MAX: u64 = 180;

/// How long a command may take that downloads and unpacks a distribution on a slow, busy machine.
pub const DOWNLOAD_SECONDS_MAX: u64 = 1200;

/// What a finished command left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs a command to its end and returns its standard output; a failure is an error with its words.
pub fn output(command: &mut Command) -> Result<String, HarnessError> {
    let finished = finish(command)?;
    if finished.status.success() {
        return Ok(finished.stdout);
    }
    let said = if finished.stderr.trim().is_empty() { &finished.stdout } else { &finished.stderr };
    Err(HarnessError::Command {
        command: line(command),
        cause: format!("{}: {}", finished.status, said.trim()),
    })
}

/// Runs a command to its end, whatever the end is.
pub fn finish(command: &mut Command) -> Result<Finished, HarnessError> {
    finish_within(command, Duration::from_secs(COMMAND_SECONDS_MAX))
}

/// Runs a command to its end, and gives up on it after `limit`.
pub fn finish_within(command: &mut Command, limit: Duration) -> Result<Finished, HarnessError> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| HarnessError::Command {
            command: line(command),
            cause: error.to_string(),
        })?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = wait(&mut child, limit)
        .map_err(|cause| HarnessError::Command { command: line(command), cause })?;
    // A daemon that the command left running may hold the pipes: what was read until the grace ends is enough.
    let stdout = collect(stdout);
    let stderr = collect(stderr);
    Ok(Finished { status, stdout, stderr })
}

/// The command line as a person would type it, for messages.
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(OsStr::to_string_lossy).map(String::from));
    words.join(" ")
}

/// Whether a program of this name is on the path.
pub fn exists(program: &str) -> bool {
    find(program).is_some()
}

/// Where a program of this name is, on the path or in the administrator's directories.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// Asks until the answer is yes or the time is over; says whether it was yes.
pub fn eventually(limit: Duration, mut ask: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if ask() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A process of the harness's own that ends with its owner.
#[derive(Debug)]
pub struct Guarded(Child);

impl Guarded {
    /// Starts a command in the background.
    pub fn spawn(command: &mut Command) -> Result<Self, HarnessError> {
        let child = command.spawn().map_err(|error| HarnessError::Command {
            command: line(command),
            cause: error.to_string(),
        })?;
        Ok(Self(child))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// The child itself, to talk to its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Asks it to end, and kills it when it has not after a while.
    pub fn stop(&mut self, grace: Duration) {
        if !self.is_alive() {
            return;
        }
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id().cast_signed()) {
            // It may have ended by itself meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if wait(&mut self.0, grace).is_err() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(10));
    }
}

/// Waits for a child, not longer than `limit`; past it the child is killed.
fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus, String> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(3)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no end after {} s", limit.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Reads a pipe to its end on a thread of its own, so that a full pipe never stops the child.
fn drain(pipe: Option<impl Read + Send + 'static>) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    if let Some(mut pipe) = pipe {
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

/// Everything a pipe gave, waiting only briefly once the command itself has ended.
fn collect(receiver: std::sync::mpsc::Receiver<Vec<u8>>) -> String {
    let mut bytes = Vec::new();
    while let Ok(chunk) = receiver.recv_timeout(Duration::from_millis(500)) {
        bytes.extend(chunk);
    }
    drop(receiver);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_words_of_the_command() {
        let error = output(Command::new("sh").args(["-c", "echo no such harbour >&2; exit 4"]))
            .unwrap_err();
        assert!(error.to_string().contains("no such harbour"), "{error}");
    }

    #[test]
    fn a_daemon_that_keeps_the_pipe_does_not_hold_the_harness() {
        let said = output(Command::new("sh").args(["-c", "sleep 20 & echo ready"])).unwrap();
        assert_eq!(said.trim(), "ready");
    }

    #[test]
    fn a_guarded_process_ends_with_its_owner() {
        let guarded = Guarded::spawn(Command::new("sleep").arg("60")).unwrap();
        let proc = format!("/proc/{}", guarded.pid());
        assert!(std::path::Path::new(&proc).exists());
        drop(guarded);
        assert!(!std::path::Path::new(&proc).exists());
    }
}
