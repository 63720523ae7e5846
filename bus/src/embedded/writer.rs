//! The one thread that writes: takes what waits, commits it together, answers each.

use std::collections::VecDeque;

use tokio::sync::{mpsc, oneshot};

use super::store::{Ends, Store, Write, refusal};
use crate::contract::{BusError, Commit, Outgoing, Position};

/// Bytes after which a transaction takes no further write.
const TRANSACTION_BYTES_MAX: usize = 4 << 20;

/// Writes in one transaction.
const TRANSACTION_JOBS_MAX: usize = 256;

/// One write that waits.
pub(super) struct Job {
    pub(super) records: Vec<Outgoing>,
    pub(super) commits: Option<(String, Vec<Commit>)>,
    pub(super) reply: oneshot::Sender<Result<Vec<Position>, BusError>>,
}

impl Job {
    fn write(&self) -> Write<'_> {
        Write {
            records: &self.records,
            commits: self
                .commits
                .as_ref()
                .map(|(group, commits)| (group.as_str(), commits.as_slice())),
        }
    }

    fn bytes(&self) -> usize {
        self.records.iter().map(Outgoing::bytes).sum()
    }
}

/// Writes until every handle is gone.
pub(super) fn run(store: &Store, mut waiting: mpsc::Receiver<Job>) {
    let mut ends = store.ends();
    while let Some(first) = waiting.blocking_recv() {
        let jobs = gather(first, &mut waiting);
        if ends.is_err() {
            // The last write failed: nothing is known of the file until it was opened again.
            ends = store.reopen().and_then(|()| store.ends());
        }
        match &mut ends {
            Ok(known) => {
                if let Err(error) = commit(store, jobs, known) {
                    tracing::error!(error = %error, "a write to the log failed");
                    store.set_health(Err(error.clone()));
                    ends = store.reopen().and(Err(error));
                } else {
                    store.set_health(Ok(()));
                }
            }
            Err(error) => {
                store.set_health(Err(error.clone()));
                for job in jobs {
                    answer(job, Err(error.clone()));
                }
            }
        }
    }
}

fn gather(first: Job, waiting: &mut mpsc::Receiver<Job>) -> VecDeque<Job> {
    let mut bytes = first.bytes();
    let mut jobs = VecDeque::from([first]);
    while bytes < TRANSACTION_BYTES_MAX && jobs.len() < TRANSACTION_JOBS_MAX {
        let Ok(job) = waiting.try_recv() else { break };
        bytes += job.bytes();
        jobs.push_back(job);
    }
    jobs
}

/// Refuses what is wrong by itself, and commits the rest together.
fn commit(store: &Store, jobs: VecDeque<Job>, ends: &mut Ends) -> Result<(), BusError> {
    let mut sound = Vec::with_capacity(jobs.len());
    for job in jobs {
        match refusal(&job.write(), ends) {
            Some(refusal) => answer(job, Err(refusal)),
            None => sound.push(job),
        }
    }
    let writes: Vec<Write<'_>> = sound.iter().map(Job::write).collect();
    let done = if writes.is_empty() { Ok(Vec::new()) } else { store.commit(&writes, ends) };
    drop(writes);
    match done {
        Ok(positions) => {
            for (job, positions) in sound.into_iter().zip(positions) {
                answer(job, Ok(positions));
            }
            Ok(())
        }
        Err(error) => {
            for job in sound {
                answer(job, Err(error.clone()));
            }
            Err(error)
        }
    }
}

/// Tells whoever asked; one that has gone away does not want to know.
fn answer(job: Job, result: Result<Vec<Position>, BusError>) {
    let _ = job.reply.send(result);
}
