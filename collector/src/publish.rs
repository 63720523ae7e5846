//! Brings batches to the bus, in order, until it takes them.
//!
//! While the bus is away the loop goes on and its outbox sheds by worth; here one batch waits and is tried again.

use std::time::Duration;

use bulkhead_bus::{Bus, BusError, Outgoing, typed};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::core::Message;

/// Records in one batch.
pub const BATCH_MAX: usize = 256;

/// First and longest pause between two tries, ms.
const RETRY_MS: u64 = 50;
const RETRY_MS_MAX: u64 = 2_000;

/// The bytes of a message.
pub fn encode(message: &Message) -> Outgoing {
    match message {
        Message::Observation(observation) => typed::observation(observation),
        Message::Inventory(record) => typed::inventory(record),
    }
}

/// Publishes until nobody sends any more.
pub async fn run<B: Bus>(bus: B, mut batches: mpsc::Receiver<Vec<Message>>) {
    while let Some(messages) = batches.recv().await {
        let batch: Vec<Outgoing> = messages.iter().map(encode).collect();
        publish(&bus, batch).await;
    }
}

async fn publish<B: Bus>(bus: &B, batch: Vec<Outgoing>) {
    let mut pause = RETRY_MS;
    loop {
        match bus.publish(batch.clone()).await {
            Ok(_) => {
                if pause > RETRY_MS {
                    tracing::info!("the bus takes records again");
                }
                return;
            }
            Err(error) if comes_back(&error) => {
                if pause == RETRY_MS {
                    tracing::warn!(cause = %error, "the bus takes no records: they wait");
                }
                sleep(Duration::from_millis(pause)).await;
                pause = (pause * 2).min(RETRY_MS_MAX);
            }
            Err(error) if batch.len() > 1 => {
                tracing::debug!(cause = %error, "a batch was refused: its records go one by one");
                for record in batch {
                    Box::pin(publish(bus, vec![record])).await;
                }
                return;
            }
            Err(error) => {
                tracing::error!(cause = %error, "a record was refused and is lost");
                return;
            }
        }
    }
}

/// Whether the same records may be taken later.
fn comes_back(error: &BusError) -> bool {
    matches!(error, BusError::Away { .. } | BusError::Full { .. } | BusError::Storage { .. })
}
