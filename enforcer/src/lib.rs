//! Turns measures into leases in kernel maps, reconciles them and keeps the audit log.
//!
//! [`core`] decides: pure, told the time, it knows measures and containers and says which rules should be in force. Around
//! it: [`ledger`] remembers over restarts and reboots, [`audit`] writes down who did what, [`hands`] reaches for interfaces
//! and open connections, [`canary`] tries the guards each minute, [`run`] reads the bus and drives them all.
//! The ledger's file and the pins are enough for whoever shows or ends measures with every daemon dead.
#![forbid(unsafe_code)]

pub mod audit;
pub mod canary;
pub mod config;
pub mod core;
pub mod epoch;
pub mod hands;
pub mod ledger;
pub mod rules;
pub mod run;

pub use config::Config;
