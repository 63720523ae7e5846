//! What can go wrong while a test sets up its machines.

use std::io;

/// A step of the harness that failed.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// A command could not be started or ended with a failure.
    #[error("`{command}` failed: {cause}")]
    Command {
        /// The command line, as a person would type it.
        command: String,
        /// What it wrote, or why it could not start.
        cause: String,
    },
    /// A file or directory could not be used.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Something answered in a form that is not understood.
    #[error("{0}")]
    Unexpected(String),
    /// Every address block of a range is taken by other runs.
    #[error("no free block left in {0}: too many runs at once")]
    NoAddress(&'static str),
}

/// Names what was being done when a file operation failed.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> HarnessError {
    let what = what.into();
    move |source| HarnessError::Io { what, source }
}
