//! Names containers, drains kernel maps and rings, builds windows and publishes them.
//!
//! The way of a container: its cgroup is made and seen at once ([`naming::tree`], or the kernel's own report) and gets a
//! slot, so that nothing it does is missed; an engine, a bare runtime or its path says who it is ([`naming`]); what it did
//! meanwhile was held ([`registry`]) and follows its start onto the bus. From then on each report of the kernel becomes an
//! act ([`acts`]) with the process behind it ([`processes`]), told once a window and counted the other times ([`core`]);
//! each step closes a window ([`windows`]) from the difference of counters that only grow.
//!
//! [`core`] and everything it stands on have no clock, no socket and no map: [`run`] has them. [`kernel`] is what the loop
//! asks of the kernel, and [`observer`] answers with the loader.
//!
//! - **Nothing leaves without its workload.** Who is named by nobody within five seconds goes by its cgroup, and a report
//!   says so; an engine that answers later has the last word.
//! - **Everything that waits is bounded**, and what is lost is in the next window's loss, by cause.
//! - An engine that goes away takes no names with it; its containers live and end by their cgroups.
//! - Paths are those asked for, the same each time; a process that never executed anything is looked up in `/proc`.
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
