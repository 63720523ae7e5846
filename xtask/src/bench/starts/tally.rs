//! Starts containers from several threads until there are enough, and counts how they ended.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Instant,
};

use super::{Goal, world::World};

/// Containers started, and how they ended.
pub(super) struct Tally {
    pub(super) started: u32,
    /// Those that ended with 0: the free peer answered.
    pub(super) succeeded: u32,
    pub(super) seconds: f64,
    /// What the first of the others said.
    pub(super) first_failure: Option<String>,
}

/// Failed starts after which there is no sense in going on.
const FAILURES_MAX: u32 = 100;

pub(super) fn start_many(world: &World, goal: Goal) -> Tally {
    let since = Instant::now();
    let (next, succeeded, failed) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let first_failure = Mutex::new(None);
    // Each waits for its container most of the time, so there are more of them than processors.
    let workers = 2 * thread::available_parallelism().map_or(2, usize::from);
    let script = world.call_denied_then_free();
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) < FAILURES_MAX
                    && !goal.reached(next.fetch_add(1, Ordering::Relaxed), since)
                {
                    let words = match world.runtime.run_to_end(&script) {
                        Ok(finished) if finished.status.success() => {
                            succeeded.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        Ok(finished) => format!("{}: {}", finished.status, finished.stderr.trim()),
                        Err(error) => error.to_string(),
                    };
                    failed.fetch_add(1, Ordering::Relaxed);
                    let mut first = first_failure.lock().expect("no thread panics with it");
                    first.get_or_insert(words);
                }
            });
        }
    });
    let (succeeded, failed) = (succeeded.into_inner(), failed.into_inner());
    Tally {
        started: succeeded + failed,
        succeeded,
        seconds: since.elapsed().as_secs_f64(),
        first_failure: first_failure.into_inner().expect("no thread panicked with it"),
    }
}
