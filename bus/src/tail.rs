//! Reading a partition to its end and then waiting for more, safe to use in a `select!`.

use crate::contract::{Batch, Bus, BusError, Topic};

/// A place in one partition that moves on with each batch.
#[derive(Clone, Debug)]
pub struct Tail<B> {
    bus: B,
    topic: Topic,
    partition: u32,
    next: u64,
}

impl<B: Bus> Tail<B> {
    /// Starts at an offset; 0 is the first record that is there.
    pub fn new(bus: B, topic: Topic, partition: u32, from: u64) -> Self {
        Self { bus, topic, partition, next: from }
    }

    /// The next offset it will read.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// What is there now, without waiting; empty at the end.
    pub async fn poll(&mut self) -> Result<Batch, BusError> {
        let batch = self.bus.fetch(self.topic, self.partition, self.next).await?;
        self.next = batch.next;
        Ok(batch)
    }

    /// The next batch that holds a record, waiting for it. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Batch, BusError> {
        loop {
            let batch = self.poll().await?;
            if !batch.records.is_empty() {
                return Ok(batch);
            }
            self.bus.wait_beyond(self.topic, self.partition, self.next).await?;
        }
    }
}
