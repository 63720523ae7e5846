//! The store's errors in the bus's words: full, damaged, or else failed.

use std::io::ErrorKind;
use std::path::Path;

use crate::contract::BusError;

/// A store's error, whichever of its types it came in.
#[derive(Debug)]
pub(super) struct Failure(redb::Error);

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl Failure {
    /// The bus's word for it.
    pub(super) fn at(self, path: &Path) -> BusError {
        let path = path.display().to_string();
        match self.0 {
            redb::Error::Io(io) => match io.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    BusError::Full { path }
                }
                // What the store says of a file that does not begin or go on as its own.
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                    BusError::Corrupt { path, cause: io.to_string() }
                }
                _ => BusError::Storage { path, cause: io.to_string() },
            },
            redb::Error::Corrupted(cause) => BusError::Corrupt { path, cause },
            other @ (redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableIsNotMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }) => {
                BusError::Corrupt { path, cause: other.to_string() }
            }
            other => BusError::Storage { path, cause: other.to_string() },
        }
    }
}

/// Runs what reads the store's pages; a damaged page makes the store panic, and that is told like any other damage.
pub(super) fn guarded<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, BusError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|failure| failure.at(path)),
        Err(panic) => {
            let cause = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a page that does not read");
            Err(BusError::Corrupt { path: path.display().to_string(), cause: cause.to_owned() })
        }
    }
}
