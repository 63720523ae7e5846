//! Why observing does not begin or does not go on.

use aya::{EbpfError, maps::MapError, programs::ProgramError};

/// Why the observers do not run.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The kernel's types cannot be read.
    #[error("the running kernel's types cannot be read, so no field of its structs can be found")]
    Btf(#[source] crate::btf::BtfError),
    /// The same, for the kernel's verifier.
    #[error("the running kernel's types cannot be read: it needs CONFIG_DEBUG_INFO_BTF")]
    KernelBtf(#[source] aya::BtfError),
    /// The cgroup hierarchy cannot be used.
    #[error("the cgroup hierarchy cannot be used")]
    Cgroup(#[from] crate::cgroup::CgroupError),
    /// The object was refused as a whole.
    #[error("the kernel refused the observers' maps or code")]
    Load(#[source] EbpfError),
    /// The object lacks a program: it was built from other sources.
    #[error("the embedded object has no program {program}: build it again with `cargo xtask ebpf`")]
    MissingProgram {
        /// Its name.
        program: &'static str,
    },
    /// A program has another type than the loader expects.
    #[error("the kernel refused the program {program}")]
    Attach {
        /// Its name.
        program: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// The object lacks a map: it was built from other sources.
    #[error("the embedded object has no map {map}: build it again with `cargo xtask ebpf`")]
    MissingMap {
        /// Its name.
        map: &'static str,
    },
    /// A map cannot be used.
    #[error("the map {map} cannot be read or written")]
    Map {
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        source: MapError,
    },
    /// The size of a map, for the sum of all of them, cannot be learnt.
    #[error("the kernel does not tell the size of a map")]
    Memory(#[source] ProgramError),
}
