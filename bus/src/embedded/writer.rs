//! The one thread that writes: takes what waits, commits it together, answers each.

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
            // The last write failed and so did opening again: perhaps there is room by now.
            ends = store.reopen().and_then(|()| store.ends());
        }
        let answers = match &mut ends {
            Ok(known) => commit(store, &jobs, known),
            Err(error) => Err(error.clone()),
        };
        store.set_health(answers.as_ref().map(|_| ()).map_err(Clone::clone));
        match answers {
            Ok(answers) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    tell(job, answer);
                }
            }
            Err(error) => {
                tracing::error!(error = %error, writes = jobs.len(), "the log did not take writes");
                // Before anyone is told: what is asked next finds the log as it was before this write.
                ends = store.reopen().and_then(|()| store.ends());
                for job in jobs {
                    tell(job, Err(error.clone()));
                }
            }
        }
    }
}

fn gather(first: Job, waiting: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let mut bytes = first.bytes();
    let mut jobs = vec![first];
    while bytes < TRANSACTION_BYTES_MAX && jobs.len() < TRANSACTION_JOBS_MAX {
        let Ok(job) = waiting.try_recv() else { break };
        bytes += job.bytes();
        jobs.push(job);
    }
    jobs
}

/// Refuses what is wrong by itself, and commits the rest together; an answer for each, in order.
fn commit(
    store: &Store,
    jobs: &[Job],
    ends: &mut Ends,
) -> Result<Vec<Result<Vec<Position>, BusError>>, BusError> {
    let refusals: Vec<Option<BusError>> =
        jobs.iter().map(|job| refusal(&job.write(), ends)).collect();
    let sound: Vec<Write<'_>> = jobs
        .iter()
        .zip(&refusals)
        .filter(|(_, r)| r.is_none())
        .map(|(job, _)| job.write())
        .collect();
    let mut positions =
        if sound.is_empty() { Vec::new() } else { store.commit(&sound, ends)? }.into_iter();
    Ok(refusals
        .into_iter()
        .map(|refusal| match refusal {
            Some(refusal) => Err(refusal),
            None => Ok(positions.next().expect("each sound write has its positions")),
        })
        .collect())
}

/// Tells whoever asked; one that has gone away does not want to know.
fn tell(job: Job, answer: Result<Vec<Position>, BusError>) {
    let _ = job.reply.send(answer);
}
