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
    let mut line = format!("bulkhead: {failure}");
    let mut next = std::error::Error::source(failure);
    while let Some(cause) = next {
        let text = cause.to_string();
        // Some messages of libraries end with their cause already.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[derive(Debug, Error)]
    #[error("cannot count: {source}")]
    struct Repeats {
        source: std::num::ParseIntError,
    }

    #[test]
    fn every_cause_is_told_once() {
        let source = "x".parse::<u8>().expect_err("no number");
        let told = Err::<(), _>(Repeats { source }).context("cannot start").expect_err("it is one");
        assert_eq!(
            message(&Failure::Other(told)),
            "bulkhead: cannot start: cannot count: invalid digit found in string"
        );
    }
}
