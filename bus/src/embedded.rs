//! The embedded log: the bus of one machine, durable on one file, owned by one process.
//!
//! One thread writes. It takes what waits and commits it as one transaction with one sync to disk (group commit), so that
//! a burst costs as little as a record, and a single record does not wait for a timer. Reads see committed records only.
//! The store is `redb`: a copy-on-write tree that is whole after `kill -9` and after a loss of power.

mod config;
mod failure;
mod lock;
mod store;
mod writer;

pub use config::{Config, Keep, Retention};

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::contract::{Batch, Bus, BusError, Commit, Outgoing, Position, RECORD_BYTES_MAX, Topic};
use lock::Lock;
use store::Store;
use writer::Job;

/// Writes that may wait for the writer before publishers wait for room.
const JOBS_MAX: usize = 256;

/// Why the embedded log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error(
        "{path} is already in use by pid {pid}: stop that one first, or name another state directory with --state"
    )]
    InUse {
        /// Directory.
        path: PathBuf,
        /// The other process, as the lock tells; 0 when it does not.
        pid: u32,
    },
    /// The directory cannot be used.
    #[error("cannot use {path}")]
    Directory {
        /// Directory or file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Written with another number of partitions.
    #[error(
        "{path} has {found} partitions and {asked} were asked for: the number is fixed when a log is made; use {found}, or another state directory"
    )]
    Partitions {
        /// File.
        path: PathBuf,
        /// What it has.
        found: u64,
        /// What was asked for.
        asked: u32,
    },
    /// Written by a newer version.
    #[error(
        "{path} has format {found}, and this version reads format 1: start the newer version again, or use another state directory"
    )]
    Format {
        /// File.
        path: PathBuf,
        /// What it has.
        found: u64,
    },
    /// Damaged, or the disk fails.
    #[error(transparent)]
    Store(#[from] BusError),
}

/// A handle to the embedded log; the last one that is dropped closes it.
#[derive(Clone, Debug)]
pub struct Embedded {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Held until the thread has ended.
    _lock: Lock,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the writer was reported by the panic hook; there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}

impl Embedded {
    /// Opens the log of a directory, making what is missing, and repairs it when its last owner was killed.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        std::fs::create_dir_all(&config.dir)
            .map_err(|source| OpenError::Directory { path: config.dir.clone(), source })?;
        let lock = Lock::take(&config.dir)?;
        let store = Arc::new(Store::open(config)?);
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        let thread = std::thread::Builder::new()
            .name("bus-writer".into())
            .spawn({
                let store = Arc::clone(&store);
                move || writer::run(&store, waiting)
            })
            .map_err(|source| OpenError::Directory { path: store.path().to_owned(), source })?;
        Ok(Self {
            inner: Arc::new(Inner { store, jobs: Some(jobs), thread: Some(thread), _lock: lock }),
        })
    }

    /// Whether the latest write went through; the error of the latest one that did not.
    pub fn health(&self) -> Result<(), BusError> {
        self.inner.store.health()
    }

    async fn write(
        &self,
        records: Vec<Outgoing>,
        commits: Option<(String, Vec<Commit>)>,
    ) -> Result<Vec<Position>, BusError> {
        if let Some(bytes) = records.iter().map(Outgoing::bytes).find(|b| *b > RECORD_BYTES_MAX) {
            return Err(BusError::TooLarge { bytes });
        }
        let (reply, answer) = oneshot::channel();
        let jobs = self.inner.jobs.as_ref().ok_or(BusError::Closed)?;
        jobs.send(Job { records, commits, reply }).await.map_err(|_| BusError::Closed)?;
        answer.await.map_err(|_| BusError::Closed)?
    }
}

impl Bus for Embedded {
    async fn partitions(&self, _topic: Topic) -> Result<u32, BusError> {
        Ok(self.inner.store.partitions())
    }

    async fn publish(&self, records: Vec<Outgoing>) -> Result<Vec<Position>, BusError> {
        self.write(records, None).await
    }

    async fn fetch(&self, topic: Topic, partition: u32, from: u64) -> Result<Batch, BusError> {
        // Bounded work on pages that are mostly cached: cheaper here than a hop to another thread.
        self.inner.store.fetch(topic, partition, from)
    }

    async fn wait_beyond(
        &self,
        topic: Topic,
        partition: u32,
        offset: u64,
    ) -> Result<u64, BusError> {
        let mut end = self.inner.store.watch(topic, partition)?;
        let reached = end.wait_for(|high| *high != offset).await.map_err(|_| BusError::Closed)?;
        Ok(*reached)
    }

    async fn committed(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
    ) -> Result<Option<u64>, BusError> {
        self.inner.store.committed(group, topic, partition)
    }

    async fn transact(
        &self,
        group: &str,
        outputs: Vec<Outgoing>,
        commits: Vec<Commit>,
    ) -> Result<Vec<Position>, BusError> {
        self.write(outputs, Some((group.to_owned(), commits))).await
    }
}
