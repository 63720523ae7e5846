//! The way of a person's decision into the log: signed, numbered, and together with its line in the audit log.

use bulkhead_bus::{Bus, BusError, Outgoing, Signer, typed};
use bulkhead_domain::audit::AuditEntry;
use bulkhead_domain::intent::Intent;
use bulkhead_domain::measure::MeasureRecord;
use bulkhead_domain::observation::Body;
use bulkhead_domain::{EventId, Observation, Timestamp, WorkloadName};
use tokio::sync::Mutex;

/// Publishes intents and measures.
#[derive(Debug)]
pub struct Writer<B> {
    bus: B,
    signer: Signer,
    /// The id of the latest record; held while one is published, because a reader drops what comes after a higher number.
    last: Mutex<EventId>,
}

impl<B: Bus> Writer<B> {
    /// A writer whose ids begin after `start`: producer and epoch are this process's own.
    pub fn new(bus: B, signer: Signer, start: EventId) -> Self {
        Self { bus, signer, last: Mutex::new(start) }
    }

    /// Publishes an intent of that workload, and who had it.
    pub async fn intent(
        &self,
        workload: &WorkloadName,
        intent: Intent,
        audit: &AuditEntry,
        at: Timestamp,
    ) -> Result<(), BusError> {
        self.publish(audit, |id, signer| {
            let workload = workload.clone();
            typed::intent(&Observation { id, workload, at, body: Body::Intent(intent) }, signer)
        })
        .await
    }

    /// Publishes a measure or its end, and who decided it.
    pub async fn measure(
        &self,
        workload: &WorkloadName,
        record: &MeasureRecord,
        audit: &AuditEntry,
    ) -> Result<(), BusError> {
        self.publish(audit, |_, signer| typed::measure(record, workload, signer)).await
    }

    /// Both or neither: what nobody can trace was not decided.
    async fn publish(
        &self,
        audit: &AuditEntry,
        record: impl FnOnce(EventId, &Signer) -> Outgoing,
    ) -> Result<(), BusError> {
        let mut last = self.last.lock().await;
        last.sequence += 1;
        let audit = typed::audit(audit, last.sequence);
        self.bus.publish(vec![record(*last, &self.signer), audit]).await?;
        Ok(())
    }
}
