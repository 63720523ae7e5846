//! Why a guard could not be installed, opened or changed.

use std::io;
use std::path::PathBuf;

use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::programs::links::LinkError;
use thiserror::Error;

/// What went wrong, and what to do about it where a person can.
#[derive(Debug, Error)]
pub enum GuardError {
    /// No pins there.
    #[error("no guards are pinned under {}", path.display())]
    NotInstalled {
        /// The directory.
        path: PathBuf,
    },
    /// Pins of another version.
    #[error(
        "{0} holds guards of ABI {found}, this is ABI {expected}: remove them with `rm -r {0}`, which lifts what they \
         have in force, and start again, which puts back what the ledger and the log know",
        path.display()
    )]
    OtherAbi {
        /// The directory.
        path: PathBuf,
        /// What it holds; 0 when its maker never finished.
        found: u32,
        /// What is wanted.
        expected: u32,
    },
    /// A file or directory.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The object.
    #[error("cannot load the guards: {source}")]
    Load {
        /// Why not.
        source: Box<aya::EbpfError>,
    },
    /// One program.
    #[error("cannot {what} {program}: {source}")]
    Program {
        /// What was tried.
        what: &'static str,
        /// The program.
        program: String,
        /// Why not.
        source: Box<ProgramError>,
    },
    /// A link.
    #[error("cannot keep the link of {program}: {source}")]
    Link {
        /// The program.
        program: String,
        /// Why not.
        source: LinkError,
    },
    /// A pin.
    #[error("cannot pin {}: {source}; is it on a bpffs?", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: aya::pin::PinError,
    },
    /// A map.
    #[error("guard map {name}: {source}")]
    Map {
        /// The map.
        name: &'static str,
        /// Why not.
        source: MapError,
    },
    /// The kernel's types.
    #[error(
        "cannot find {field} in the kernel's type information: new containers cannot be held back"
    )]
    Field {
        /// The field.
        field: &'static str,
    },
    /// The cgroup to guard.
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::CgroupError),
    /// Too many leases to hold.
    #[error(transparent)]
    Full(#[from] super::table::Full),
    /// The kernel refused a message.
    #[error("cannot {what}: {source}")]
    Netlink {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl GuardError {
    /// An I/O error with its object.
    pub(super) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
