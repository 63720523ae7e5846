//! Asking the running service.

use bulkhead_api::client::Client;
use bulkhead_api::protocol::{Reply, Request};

use crate::args::Global;
use crate::config::Config;
use crate::outcome::Failure;

/// One request to the service that the flags and the configuration name.
pub fn ask(global: &Global, request: Request) -> Result<Reply, Failure> {
    Ok(connect(global)?.call(request)?)
}

/// A connection to it.
pub fn connect(global: &Global) -> Result<Client, Failure> {
    let config = Config::load(global, std::env::vars())?;
    Ok(Client::connect(&config.paths.api_socket())?)
}

/// The failure of a reply that does not belong to its request.
pub fn unexpected(reply: &Reply) -> Failure {
    let text = format!("{reply:?}");
    let head: String = text.chars().take(40).collect();
    anyhow::anyhow!(
        "the service answered something else ({head}…): are client and service of one version?"
    )
    .into()
}
