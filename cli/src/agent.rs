//! The agent.

use crate::args::Role;
use crate::config::Config;
use crate::run::stop::Stop;

/// Runs.
pub async fn run(_config: &Config, _roles: &[Role]) -> anyhow::Result<()> {
    Stop::listen()?.wished().await;
    Ok(())
}
