//! What the tests of this crate share: containers made of a cgroup and a namespace, and an observer over them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod actor;
pub mod container;
pub mod link;
pub mod standing;
pub mod watch;
