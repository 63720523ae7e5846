//! Ends the demo tidily when a person interrupts it.
//!
//! An interrupt ends a process without its destructors, and containers and pins would stay. So the demo runs in a process
//! of its own, in a process group of its own: an interrupt ends only the one that attends, the pipe between them closes,
//! and the demo takes everything down.

use std::{
    io::Read as _,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// Starts the demo in a process of its own, waits for it, and ends as it ended.
pub(crate) fn run() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--attended")
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot start the demo")?;
    // Held open until the child has ended: its end of the pipe is how it knows that someone attends.
    let pipe = child.stdin.take();
    let status = child.wait()?;
    drop(pipe);
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => std::process::exit(code),
        None => bail!("the demo was killed: {status}"),
    }
}

/// Whether someone still attends.
#[derive(Debug, Clone)]
pub(crate) struct Attended(Arc<AtomicBool>);

impl Attended {
    /// Watches standard input, which closes when the attending process ends.
    pub(crate) fn begin() -> Self {
        let attended = Self::alone();
        let flag = Arc::clone(&attended.0);
        thread::spawn(move || {
            let mut byte = [0];
            while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
            flag.store(false, Ordering::Relaxed);
        });
        attended
    }

    /// Nobody has to attend: the demo is a stage of something that cannot be interrupted by hand.
    pub(crate) fn alone() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Waits, unless nobody attends any more.
    pub(crate) fn pause(&self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        loop {
            if !self.0.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// Asks until there is an answer or the time is over.
    pub(crate) fn until<T>(
        &self,
        limit: Duration,
        mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<Option<T>> {
        let end = Instant::now() + limit;
        loop {
            if let Some(answer) = ask()? {
                return Ok(Some(answer));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            self.pause(Duration::from_millis(250))?;
        }
    }
}
