//! One daemon per state directory, pin directory and cgroup subtree.
//!
//! The lock is the kernel's (`flock` on a file or directory): it ends with the process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a lock was not taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error(
        "{what} {} is already in use{}; stop that daemon, or give this one directories of its own with --state, --run-dir, --pin-dir and --cgroup-root",
        path.display(), holder.map(|pid| format!(" by pid {pid}")).unwrap_or_default()
    )]
    Held {
        /// What is locked.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Who holds it, where that is known.
        holder: Option<u32>,
    },
    /// The file system.
    #[error("cannot lock {what} {}: {cause}", path.display())]
    Io {
        /// What is locked.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Locks a directory by a file in it, which names the holder.
pub fn by_file(what: &'static str, directory: &Path) -> Result<Lock, LockError> {
    let io = |cause| LockError::Io { what, path: directory.to_owned(), cause };
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(io)?;
            file.rewind().map_err(io)?;
            writeln!(file, "{}", std::process::id()).map_err(io)?;
            Ok(Lock { _file: file })
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            Err(LockError::Held { what, path: directory.to_owned(), holder })
        }
        Err(TryLockError::Error(cause)) => Err(io(cause)),
    }
}

/// Locks a directory in which no file can be made (a cgroup, a bpffs).
pub fn directory(what: &'static str, path: &Path) -> Result<Lock, LockError> {
    let io = |cause| LockError::Io { what, path: path.to_owned(), cause };
    let file = File::open(path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => {
            Err(LockError::Held { what, path: path.to_owned(), holder: None })
        }
        Err(TryLockError::Error(cause)) => Err(io(cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_has_the_directory() {
        let state = tempfile::tempdir().unwrap();
        let held = by_file("state directory", state.path()).unwrap();
        let error = by_file("state directory", state.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by pid {}", std::process::id())), "{error}");
        assert!(error.contains("--state"), "{error}");
        drop(held);
        by_file("state directory", state.path()).unwrap();
    }

    #[test]
    fn a_directory_without_files_is_locked_by_itself() {
        let pins = tempfile::tempdir().unwrap();
        let held = directory("pin directory", pins.path()).unwrap();
        assert!(matches!(directory("pin directory", pins.path()), Err(LockError::Held { .. })));
        drop(held);
        directory("pin directory", pins.path()).unwrap();
    }
}
