//! The supervisor: starts the two processes, starts them again when they die, and passes on the wish to stop.
//!
//! It parses nothing from outside and holds no map, so it is what may stay root with everything. It speaks to its children
//! by signals and exit statuses alone.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::restart::{End, History, Next};
use super::stop::Stop;
use crate::args::Process;

/// How long children have to stop by themselves.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// One of the two processes under supervision.
#[derive(Debug)]
struct Charge {
    process: Process,
    history: History,
    started: Instant,
    child: Child,
}

/// What happened.
enum Event {
    Stop,
    Ended(usize, ExitStatus),
    Due(usize),
}

/// Runs these processes until told to stop, or until one of them cannot start; the result is the exit status.
pub async fn run(processes: &[Process]) -> anyhow::Result<i32> {
    let mut stop_signal = Stop::listen()?;
    let mut charges = Vec::new();
    for process in processes {
        charges.push(Charge {
            process: *process,
            history: History::default(),
            started: Instant::now(),
            child: spawn(*process)?,
        });
    }
    let mut due: Vec<Option<Instant>> = vec![None; charges.len()];
    loop {
        let event = tokio::select! {
            () = stop_signal.wished() => Event::Stop,
            (index, status) = first_end(&mut charges, &due) => Event::Ended(index, status?),
            index = first_due(&due) => Event::Due(index),
        };
        match event {
            Event::Stop => {
                tracing::info!("stopping");
                stop(&mut charges, &due).await;
                return Ok(0);
            }
            Event::Ended(index, status) => {
                let charge = &mut charges[index];
                let lived = charge.started.elapsed();
                match charge.history.ended(lived, end(status)) {
                    Next::GiveUp(code) => {
                        due[index] = Some(Instant::now());
                        stop(&mut charges, &due).await;
                        return Ok(code);
                    }
                    Next::Restart(pause) => {
                        tracing::warn!(process = name(charge.process), %status, ?pause, "ended; will be started again");
                        due[index] = Some(Instant::now() + pause);
                    }
                }
            }
            Event::Due(index) => {
                let charge = &mut charges[index];
                charge.child = spawn(charge.process)?;
                charge.started = Instant::now();
                due[index] = None;
            }
        }
    }
}

/// The first child to end among those that run.
async fn first_end(
    charges: &mut [Charge],
    due: &[Option<Instant>],
) -> (usize, std::io::Result<ExitStatus>) {
    std::future::poll_fn(|context| {
        for (index, charge) in charges.iter_mut().enumerate() {
            if due[index].is_some() {
                continue;
            }
            let wait = std::pin::pin!(charge.child.wait());
            if let std::task::Poll::Ready(status) = wait.poll(context) {
                return std::task::Poll::Ready((index, status));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// The first restart that is due; never, when none is.
async fn first_due(due: &[Option<Instant>]) -> usize {
    let first = due.iter().enumerate().filter_map(|(i, at)| at.map(|at| (at, i))).min();
    match first {
        Some((at, index)) => {
            tokio::time::sleep_until(at).await;
            index
        }
        None => std::future::pending().await,
    }
}

/// Asks those that run to stop, the agent first so that its last records still find a log, and insists after a while.
async fn stop(charges: &mut [Charge], due: &[Option<Instant>]) {
    charges.sort_by_key(|c| c.process == Process::Controller);
    for charge in charges.iter_mut() {
        let Some(pid) = charge.child.id().and_then(|id| i32::try_from(id).ok()) else { continue };
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            // Fails only for a child that has just ended.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(STOP_TIMEOUT, charge.child.wait()).await.is_err() {
            tracing::warn!(process = name(charge.process), "did not stop in time; killed");
            if let Err(error) = charge.child.kill().await {
                tracing::warn!(process = name(charge.process), %error, "cannot be killed");
            }
        }
    }
    tracing::debug!(restarts_pending = due.iter().flatten().count(), "stopped");
}

/// This very binary, with the same arguments, as one of the two.
fn spawn(process: Process) -> anyhow::Result<Child> {
    let binary = std::env::current_exe().context("cannot find the running binary")?;
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    arguments.extend(["--process".into(), name(process).into()]);
    Command::new(&binary)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {} as {}", binary.display(), name(process)))
}

fn end(status: ExitStatus) -> End {
    status.code().map_or_else(
        || {
            tracing::debug!(signal = status.signal(), "killed");
            End::Killed
        },
        End::Exited,
    )
}

/// The word for a process.
pub fn name(process: Process) -> &'static str {
    match process {
        Process::Agent => "agent",
        Process::Controller => "controller",
    }
}
