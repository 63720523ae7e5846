//! Questions to the engine from outside its loop: the loop answers them between two batches, so that nobody else ever
//! holds the engine.

use bulkhead_domain::WorkloadName;
use bulkhead_domain::view::{BaselineView, EngineView};
use tokio::sync::{mpsc, oneshot};

use crate::engine::Engine;

/// Questions that may wait; askers beyond it wait for room.
const WAITING_MAX: usize = 16;

/// One question and where its answer goes.
#[derive(Debug)]
pub enum Query {
    /// Workloads and alerts.
    Engine(oneshot::Sender<EngineView>),
    /// One workload's baseline.
    Baseline(WorkloadName, oneshot::Sender<Option<BaselineView>>),
}

impl Query {
    /// Answers from the engine; an asker who has gone away gets nothing.
    pub fn answer(self, engine: &Engine) {
        match self {
            Self::Engine(asker) => drop(asker.send(engine.view())),
            Self::Baseline(name, asker) => drop(asker.send(engine.baseline(&name))),
        }
    }
}

/// The asker's end. Answers are `None` once the loop has ended.
#[derive(Clone, Debug)]
pub struct Asker {
    sender: mpsc::Sender<Query>,
}

impl Asker {
    /// Workloads and alerts as they stand.
    pub async fn engine(&self) -> Option<EngineView> {
        let (sender, answer) = oneshot::channel();
        self.sender.send(Query::Engine(sender)).await.ok()?;
        answer.await.ok()
    }

    /// One workload's baseline; the inner `None` is a workload that the engine does not know.
    pub async fn baseline(&self, workload: WorkloadName) -> Option<Option<BaselineView>> {
        let (sender, answer) = oneshot::channel();
        self.sender.send(Query::Baseline(workload, sender)).await.ok()?;
        answer.await.ok()
    }
}

/// Both ends: the receiver belongs to the loop, which takes it into its `select!`.
pub fn channel() -> (Asker, mpsc::Receiver<Query>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Asker { sender }, receiver)
}
