//! Loads, attaches and pins the kernel programs; the only crate that knows aya.

pub mod btf;
pub mod cgroup;
pub mod error;
pub mod features;
pub mod guard;
mod netlink;
pub mod netns;
mod objects;
pub mod observe;
pub mod sockets;
