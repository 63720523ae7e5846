//! The detector's side of the wiring.

use anyhow::Context as _;
use bulkhead_bus::{Bus, Verifier};
use bulkhead_detector::query::{self, Asker};
use bulkhead_detector::run::{self, Settings};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::output;

/// Starts the loop; the result is how others ask it.
pub fn start<B: Bus>(
    config: &Config,
    bus: B,
    verifier: Verifier,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> Asker {
    let settings = Settings {
        engine: config.detection.clone(),
        verifier,
        node: config.node.clone(),
        clock: output::now,
    };
    let (asker, queries) = query::channel();
    tasks.spawn(
        async move { run::run(bus, settings, queries).await.context("the detector stopped") },
    );
    asker
}
