//! Topics, envelope and wire format, and the embedded log behind one contract.
//!
//! - [`contract`]: what every bus promises; [`tail`]: reading to the end and waiting for more.
//! - [`embedded`]: the log of one machine; [`socket`]: the same from another process.
//! - [`typed`]: the domain's records to the bus and back; [`signature`]: whose they are.
#![forbid(unsafe_code)]

pub mod contract;
pub mod embedded;
mod frame;
pub mod signature;
pub mod socket;
#[cfg(feature = "suite")]
pub mod suite;
pub mod tail;
pub mod typed;
mod wire;

pub use contract::{
    Batch, Bus, BusError, Commit, Headers, Outgoing, Position, Record, Topic, partition_of,
};
pub use embedded::Embedded;
pub use signature::{Signer, Verifier};
pub use tail::Tail;
