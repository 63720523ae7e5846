//! Names containers, drains kernel maps and rings, builds windows and publishes them.
#![forbid(unsafe_code)]

pub mod acts;
pub mod config;
pub mod core;
pub mod dns;
pub mod epoch;
pub mod kernel;
pub mod mounts;
pub mod names;
pub mod naming;
pub mod observer;
pub mod outbox;
pub mod processes;
pub mod publish;
pub mod registry;
pub mod run;
pub mod seen;
pub mod slots;
pub mod syscalls;
pub mod vouch;
pub mod windows;
