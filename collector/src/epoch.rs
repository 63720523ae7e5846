//! The producer's epoch, counted durably: event ids grow over restarts without asking a clock.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bulkhead_domain::EventId;
use bulkhead_domain::workload::hash64;
use thiserror::Error;

/// Why no epoch could be counted.
#[derive(Debug, Error)]
pub enum EpochError {
    /// Not readable or writable.
    #[error("cannot count the epoch in {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Holds no number.
    #[error(
        "{path} holds no epoch: write into it a number larger than any used before (the high part of event ids in the log)"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
}

/// Counts one more start in `<state>/epoch` and returns it; it is on disk when this returns.
pub fn next(state: &Path) -> Result<u64, EpochError> {
    let path = state.join("epoch");
    let fail = |source| EpochError::Io { path: path.clone(), source };
    let before = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes)
            .trim()
            .parse::<u64>()
            .map_err(|_| EpochError::Corrupt { path: path.clone() })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(fail(error)),
    };
    let epoch = before + 1;
    fs::create_dir_all(state).map_err(fail)?;
    // A new file renamed over the old one: a crash leaves either, never half of one.
    let fresh = state.join("epoch.new");
    let mut file = fs::File::create(&fresh).map_err(fail)?;
    file.write_all(format!("{epoch}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
    fs::rename(&fresh, &path).map_err(fail)?;
    fs::File::open(state).and_then(|directory| directory.sync_all()).map_err(fail)?;
    Ok(epoch)
}

/// Gives each published record its id.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    next: EventId,
}

impl Ids {
    /// Ids of this cluster's and node's collector, in this epoch.
    pub fn new(cluster: &str, node: &str, epoch: u64) -> Self {
        let producer = hash64(format!("{cluster}/{node}/collector").as_bytes());
        Self { next: EventId { producer, epoch, sequence: 1 } }
    }

    /// The next id.
    pub fn take(&mut self) -> EventId {
        let id = self.next;
        self.next.sequence += 1;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_counts_one_more() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("agent");
        assert_eq!(next(&state).unwrap(), 1);
        assert_eq!(next(&state).unwrap(), 2);
    }

    #[test]
    fn an_epoch_that_cannot_be_read_is_never_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("epoch"), "seven").unwrap();
        let error = next(dir.path()).unwrap_err();
        assert!(matches!(error, EpochError::Corrupt { .. }), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("epoch")).unwrap(), "seven");
    }

    #[test]
    fn ids_grow_within_an_epoch_and_differ_between_nodes() {
        let mut ids = Ids::new("local", "harbour", 3);
        let (first, second) = (ids.take(), ids.take());
        assert!(first < second);
        assert_eq!((first.epoch, second.sequence), (3, 2));
        assert_ne!(Ids::new("local", "pier", 3).take().producer, first.producer);
    }
}
