//! The controller: owns the log, and runs the detector, the planner and the API beside it.
//!
//! One thread runs all loops (the log's writer has its own). A loop that fails ends the process: the supervisor starts it
//! again, and everything it knew is in the log.

pub mod api;
pub mod detector;
pub mod planner;

use std::time::Duration;

use anyhow::Context as _;
use bulkhead_bus::Signer;
use bulkhead_bus::embedded::{self, Embedded, Keep, Retention};
use bulkhead_bus::socket::{self, Access};
use tokio::task::JoinSet;

use crate::args::Role;
use crate::config::Config;
use crate::output;
use crate::run::stop::Stop;
use crate::run::{account, keys};

/// How long the loops have to write down what they know.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The agent is root by its user id, and has few of root's capabilities.
const AGENT_UID: u32 = 0;

/// Runs until told to stop, or until a loop fails.
pub async fn run(config: &Config, roles: &[Role]) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let log = Embedded::open(log_config(config))?;
    let signer = Signer::load(&keys::private(&config.paths))?;
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let listener = socket::bind(&config.paths.bus_socket())?;
    let access = Access { agents: vec![AGENT_UID], controllers: vec![account::current().uid] };
    let served = log.clone();
    tasks.spawn(async move {
        socket::serve(listener, served, access).await.context("the bus socket failed")
    });
    let mut asker = None;
    if roles.contains(&Role::Detector) {
        asker = Some(detector::start(config, log.clone(), signer.verifier(), &mut tasks));
    }
    if roles.contains(&Role::Planner) {
        planner::start(config, log.clone(), signer.clone(), &mut tasks);
    }
    if roles.contains(&Role::Api) {
        let detector = api::Detector(asker);
        api::start(config, log.clone(), signer.clone(), detector, &mut tasks).await?;
    }
    tracing::info!(state = %config.paths.controller_state().display(), "controller runs");
    let failed = tokio::select! {
        () = stop.wished() => None,
        Some(ended) = tasks.join_next() => Some(ended),
    };
    tasks.abort_all();
    let _ =
        tokio::time::timeout(STOP_TIMEOUT, async { while tasks.join_next().await.is_some() {} })
            .await;
    match failed {
        None => Ok(()),
        Some(ended) => ended.context("a loop of the controller broke down")?,
    }
}

fn log_config(config: &Config) -> embedded::Config {
    let default = Retention::default();
    embedded::Config {
        retention: Retention {
            observations: Keep { age: config.retention, bytes_max: config.retention_bytes },
            ..default
        },
        ..embedded::Config::new(config.paths.controller_state(), output::now)
    }
}
