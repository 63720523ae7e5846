//! One owner: a file that is locked for as long as the log is open, and says by whom.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::OpenError;

/// The lock; the kernel gives it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join("bus.lock");
        let failed = |source| OpenError::Directory { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // The pid is a courtesy: without it the message says 0.
                let _ = file.read_to_string(&mut owner);
                return Err(OpenError::InUse {
                    path: dir.to_owned(),
                    pid: owner.trim().parse().unwrap_or(0),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // On a full disk the pid stays unwritten, and the lock holds all the same.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
