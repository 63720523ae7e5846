//! Topics, envelope and wire format, and the embedded log behind one contract.
//!
//! - [`contract`]: what every bus promises; [`tail`]: reading to the end and waiting for more.
#![forbid(unsafe_code)]

pub mod contract;
pub mod tail;

pub use contract::{
    Batch, Bus, BusError, Commit, Headers, Outgoing, Position, Record, Topic, partition_of,
};
pub use tail::Tail;
