//! How a command ends: its exit status, and one line for a person when it did not do what was asked.

use std::process::ExitCode;

use bulkhead_api::client::ClientError;
use thiserror::Error;

use crate::config::ConfigError;

/// A command that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: 0.
    Done,
    /// Something was found (a difference, a missing feature): 1.
    Found,
}

/// A command that did not.
#[derive(Debug, Error)]
pub enum Failure {
    /// What was typed or configured makes no sense: 2.
    #[error("{0}")]
    Usage(String),
    /// The configuration: 2.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The service: 1 when it refused, 3 when it cannot be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A child ended with this status, and has said why.
    #[error("stopped, because a process could not start")]
    Reported(u8),
    /// Anything else: 1.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// The exit status of a command's end.
pub fn code(result: &Result<Outcome, Failure>) -> ExitCode {
    ExitCode::from(match result {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Found) | Err(Failure::Client(ClientError::Refused(_)) | Failure::Other(_)) => 1,
        Err(Failure::Reported(status)) => *status,
        Err(Failure::Usage(_) | Failure::Config(_)) => 2,
        Err(Failure::Client(ClientError::Unreachable { .. } | ClientError::Broken { .. })) => 3,
    })
}

/// The line for a person: the message and its chain of causes.
pub fn message(failure: &Failure) -> String {
    match failure {
        Failure::Other(error) => format!("bulkhead: {error:#}"),
        other => {
            let mut line = format!("bulkhead: {other}");
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                line.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            line
        }
    }
}
