//! The commands, one file each: what was typed becomes a request, and the answer a text for a person.

pub mod alerts;
pub mod baseline;
pub mod deny;
pub mod disarm;
pub mod doctor;
pub mod done;
pub mod learn;
pub mod measures;
pub mod mode;
pub mod quarantine;
pub mod status;
pub mod why;
pub mod workloads;
