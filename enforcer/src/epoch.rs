//! The enforcer's own epoch: event ids of its health reports grow over restarts without asking a clock.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use bulkhead_domain::EventId;
use bulkhead_domain::workload::hash64;

/// Counts one more start in `<state>/enforcer-epoch`; it is on disk when this returns.
pub fn next(state: &Path) -> io::Result<u64> {
    let path = state.join("enforcer-epoch");
    let before = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().parse::<u64>().map_err(|_| {
            let cause = format!(
                "{} holds no epoch: write into it a number larger than any used before",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, cause)
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let fresh = state.join("enforcer-epoch.new");
    let mut file = fs::File::create(&fresh)?;
    writeln!(file, "{}", before + 1)?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    fs::File::open(state)?.sync_all()?;
    Ok(before + 1)
}

/// Gives each report its id.
#[derive(Clone, Copy, Debug)]
pub struct Ids(EventId);

impl Ids {
    /// Ids of this cluster's and node's enforcer, in this epoch.
    pub fn new(cluster: &str, node: &str, epoch: u64) -> Self {
        let producer = hash64(format!("{cluster}/{node}/enforcer").as_bytes());
        Self(EventId { producer, epoch, sequence: 1 })
    }

    /// The next id.
    pub fn take(&mut self) -> EventId {
        let id = self.0;
        self.0.sequence += 1;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_counts_one_more_and_a_broken_count_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(next(dir.path()).unwrap(), 1);
        assert_eq!(next(dir.path()).unwrap(), 2);
        for broken in [&b"x"[..], b"\xff\x00", b""] {
            fs::write(dir.path().join("enforcer-epoch"), broken).unwrap();
            assert!(next(dir.path()).unwrap_err().to_string().contains("holds no epoch"));
        }
    }
}
