//! The API of the service on its socket: protocol, client, and the server that the controller runs.
//!
//! Reads come from the ledger (a fold of the topics `alerts`, `inventory` and `measures`) and from the detector, by the
//! trait `state::State`. Writes never touch either: they become signed records on the bus, so that what a person decided
//! has one order with the evidence and outlives the service.
#![forbid(unsafe_code)]

pub mod client;
pub mod credentials;
pub mod follow;
pub mod frame;
pub mod ledger;
pub mod protocol;
pub mod select;
pub mod server;
pub mod service;
pub mod state;
pub mod writer;

#[cfg(test)]
mod fixture;
