//! Names containers, drains kernel maps and rings, builds windows and publishes them.
#![forbid(unsafe_code)]

pub mod acts;
pub mod dns;
pub mod epoch;
pub mod mounts;
pub mod names;
pub mod naming;
pub mod outbox;
pub mod processes;
pub mod registry;
pub mod slots;
pub mod syscalls;
pub mod vouch;
pub mod windows;
