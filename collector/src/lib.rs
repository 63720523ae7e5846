//! Names containers, drains kernel maps and rings, builds windows and publishes them.
#![forbid(unsafe_code)]

pub mod dns;
pub mod naming;
