//! Runs long commands with their progress in one line each, and their words kept in a log.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bulkhead_tests::command::line;

use crate::workspace;

/// How often a running step says that it still runs.
const STILL_RUNNING: Duration = Duration::from_secs(20);

/// How long any step may take: the slowest, a cold build, takes a few minutes on two cores.
const STEP_MAX: Duration = Duration::from_secs(25 * 60);

/// Lines of a failed step that are shown.
const TAIL_LINES: usize = 60;

/// How a step ended, and everything it wrote.
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) output: String,
    /// Where its words are kept.
    pub(crate) log: PathBuf,
}

/// Runs a command with its output in `target/logs/<name>.log`; shows the end of it when it failed.
pub(crate) fn logged(name: &str, command: &mut Command) -> anyhow::Result<Ended> {
    let path = workspace::root().join("target/logs").join(format!("{name}.log"));
    fs::create_dir_all(path.parent().expect("a log is in a folder"))?;
    let mut log =
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(log, "$ {}", line(command))?;
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    let mut told = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() >= STEP_MAX {
            child.kill()?;
            child.wait()?;
            bail!(
                "{name} did not end within {} minutes; its words are in {}",
                STEP_MAX.as_secs() / 60,
                path.display()
            );
        }
        if told.elapsed() >= STILL_RUNNING {
            println!("    … {name}: {} s so far", started.elapsed().as_secs());
            told = Instant::now();
        }
        thread::sleep(Duration::from_millis(20));
    };
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let output = String::from_utf8_lossy(&bytes).into_owned();
    if !status.success() {
        let lines: Vec<_> = output.lines().collect();
        for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
            eprintln!("    | {line}");
        }
    }
    Ok(Ended { success: status.success(), output, log: path })
}

/// Runs a command whose words matter only when it fails.
pub(crate) fn quietly(name: &str, command: &mut Command) -> anyhow::Result<()> {
    let ended = logged(name, command)?;
    if !ended.success {
        bail!("`{}` failed; all of its words are in {}", line(command), ended.log.display());
    }
    Ok(())
}
