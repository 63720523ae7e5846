//! The loop around the engine: reads `observations`, transacts what the engine answers with the offsets it follows from.
//!
//! **Takeover.** Each snapshot names the offset that its workload has absorbed, and the *floor* below which every workload
//! of the partition had. The loop restores the latest snapshots and reads from the highest floor on. A record that its
//! workload's snapshot has absorbed is skipped. One below the committed offset rebuilds state and writes nothing: its
//! outputs are in the log already, in the same transaction as that offset. So a kill at any point loses no learning that
//! the log still holds, and doubles no output.
//!
//! Offsets without outputs are committed once a second rather than each time: read again they give no outputs again.

mod partition;
mod takeover;

use std::time::Duration;

use bulkhead_bus::{Batch, Bus, BusError, Commit, Outgoing, Tail, Topic, Verifier};
use bulkhead_domain::Timestamp;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::config::Config;
use crate::engine::Engine;
use crate::query::Query;
use partition::Partition;

/// The group under which the detector commits its offsets.
pub const GROUP: &str = "detector";

/// How long offsets without outputs may stay uncommitted.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// Pause before the bus is asked again after it refused for a while.
const RETRY: Duration = Duration::from_millis(200);

/// Why the loop ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// The bus does not work any more.
    #[error("the detector cannot use the bus")]
    Bus(#[from] BusError),
    /// A reader of a partition broke down.
    #[error("a reader of the observations broke down")]
    Reader,
}

/// What the loop needs besides the bus.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The engine's settings.
    pub engine: Config,
    /// The controllers' public key: intents without its signature are refused.
    pub verifier: Verifier,
    /// This node's name, for dead letters and audit.
    pub node: String,
    /// The wall clock, for the time of dead letters.
    pub clock: fn() -> Timestamp,
}

/// Learns and scores until the bus is closed; answers questions between two batches.
pub async fn run<B: Bus>(
    bus: B,
    settings: Settings,
    mut queries: mpsc::Receiver<Query>,
) -> Result<(), RunError> {
    let mut engine = Engine::new(settings.engine.clone());
    let mut partitions = Vec::new();
    let (sender, mut batches) = mpsc::channel(1);
    let mut readers = JoinSet::new();
    for number in 0..bus.partitions(Topic::Observations).await? {
        let restored = takeover::restore(&bus, number, &mut engine).await?;
        let committed = bus.committed(GROUP, Topic::Observations, number).await?.unwrap_or(0);
        let from = restored.floor;
        tracing::info!(
            partition = number,
            workloads = restored.absorbed.len(),
            from,
            committed,
            "detector takes over"
        );
        partitions.push(Partition::new(number, restored, committed));
        readers.spawn(read(bus.clone(), number, from, sender.clone()));
    }
    drop(sender);
    let mut ticks = interval(COMMIT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking = true;
    loop {
        tokio::select! {
            received = batches.recv() => {
                let (number, batch) = received.ok_or(RunError::Reader)??;
                let partition = &mut partitions[number as usize];
                let outputs = partition.absorb(&batch, &mut engine, &settings);
                if !outputs.is_empty() || partition.is_far_ahead() {
                    commit(&bus, &engine, partition, outputs, &mut queries).await?;
                }
            }
            _ = ticks.tick() => {
                for partition in &mut partitions {
                    if partition.is_ahead() {
                        commit(&bus, &engine, partition, Vec::new(), &mut queries).await?;
                    }
                }
            }
            // Until the state is what the log's outputs tell of, nobody is shown less than was said.
            query = queries.recv(), if asking && partitions.iter().all(Partition::is_rebuilt) => match query {
                Some(query) => query.answer(&engine),
                None => asking = false,
            },
        }
    }
}

/// Reads one partition to its end and on, one batch ahead of the engine.
async fn read<B: Bus>(
    bus: B,
    number: u32,
    from: u64,
    batches: mpsc::Sender<Result<(u32, Batch), BusError>>,
) {
    let mut tail = Tail::new(bus, Topic::Observations, number, from);
    loop {
        let batch = match tail.next().await {
            Err(error) if error.is_transient() => {
                tracing::warn!(partition = number, error = %error, "cannot read observations, trying again");
                sleep(RETRY).await;
                continue;
            }
            batch => batch,
        };
        let ends = batch.is_err();
        if batches.send(batch.map(|batch| (number, batch))).await.is_err() || ends {
            return;
        }
    }
}

/// Writes outputs and offset in one step, for as long as that takes; questions are answered meanwhile.
async fn commit<B: Bus>(
    bus: &B,
    engine: &Engine,
    partition: &mut Partition,
    outputs: Vec<Outgoing>,
    queries: &mut mpsc::Receiver<Query>,
) -> Result<(), RunError> {
    let commit = Commit {
        topic: Topic::Observations,
        partition: partition.number(),
        next: partition.position(),
    };
    loop {
        match bus.transact(GROUP, outputs.clone(), vec![commit]).await {
            Ok(_) => {
                partition.committed();
                return Ok(());
            }
            Err(error) if error.is_transient() => {
                tracing::error!(error = %error, outputs = outputs.len(), "cannot write alerts, trying again");
                let pause = sleep(RETRY);
                tokio::pin!(pause);
                loop {
                    tokio::select! {
                        () = &mut pause => break,
                        Some(query) = queries.recv() => query.answer(engine),
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
