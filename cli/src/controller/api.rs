//! The API's side of the wiring: its ledger follows the log, its reads ask the detector, its writes go into the log.

use std::sync::Arc;

use anyhow::Context as _;
use bulkhead_api::follow::{self, FOLLOWED, Trust};
use bulkhead_api::server::Server;
use bulkhead_api::service::{Identity, Service, Shared};
use bulkhead_api::state::State;
use bulkhead_api::writer::Writer;
use bulkhead_bus::{Bus as _, Embedded, Signer};
use bulkhead_detector::query::Asker;
use bulkhead_domain::view::{BaselineView, EngineView};
use bulkhead_domain::workload::hash64;
use bulkhead_domain::{EventId, Timestamp, WorkloadName};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::output;

/// The detector as the API sees it: the loop in this process, when it plays that role.
#[derive(Clone, Debug)]
pub struct Detector(pub Option<Asker>);

impl State for Detector {
    async fn engine(&self) -> Option<EngineView> {
        self.0.as_ref()?.engine().await
    }

    async fn baseline(&self, workload: WorkloadName) -> Option<Option<BaselineView>> {
        self.0.as_ref()?.baseline(workload).await
    }
}

/// Binds the socket and starts what serves it.
pub async fn start(
    config: &Config,
    bus: Embedded,
    signer: Signer,
    detector: Detector,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let epoch = bulkhead_collector::epoch::next(&config.paths.controller_state())?;
    let server = Server::bind(&config.paths.api_socket(), config.groups.clone())?;
    let shared = Arc::new(Shared::default());
    let trust = Trust { verifier: signer.verifier(), cluster: config.cluster.clone() };
    for topic in FOLLOWED {
        for partition in 0..bus.partitions(topic).await? {
            let (bus, trust, shared) = (bus.clone(), trust.clone(), Arc::clone(&shared));
            tasks.spawn(async move {
                follow::partition(bus, topic, partition, trust, shared)
                    .await
                    .with_context(|| format!("the API cannot follow {topic}"))
            });
        }
    }
    let log = bus.clone();
    let service = Service {
        state: detector,
        identity: Identity {
            version: env!("CARGO_PKG_VERSION").into(),
            cluster: config.cluster.clone(),
            node: config.node.clone(),
            started: output::now(),
            manual_ttl: config.guardrails.manual_ttl,
            rules: config.rules.clone(),
        },
        shared,
        writer: Writer::new(bus, signer, first_id(config, epoch)),
        clock: output::now,
        nonce,
        health: Box::new(move || log.health()),
    };
    tasks.spawn(async move {
        server.run(Arc::new(service)).await;
        Ok(())
    });
    Ok(())
}

/// Intents have a producer of their own, beside the node's collector.
fn first_id(config: &Config, epoch: u64) -> EventId {
    let producer = hash64(format!("{} {} api", config.cluster, config.node).as_bytes());
    EventId { producer, epoch, sequence: 0 }
}

/// A number that nobody has had before: entropy, and the clock should that fail.
fn nonce() -> u128 {
    let mut bytes = [0; 16];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if drawn == Ok(bytes.len()) {
        return u128::from_ne_bytes(bytes);
    }
    let Timestamp(ns) = output::now();
    u128::from(ns)
}
