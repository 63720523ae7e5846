//! The collector on a real kernel with real engines: names, acts and windows as they reach the log.
//!
//! Needs root, BPF and the engines; a group that cannot run says so, and fails where `CI` is set.

mod bare;
mod docker;
mod podman;
mod rig;
