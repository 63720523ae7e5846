//! What the tests of this crate share: containers made of a cgroup and a namespace, and an observer over them.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "every test binary has this as a module and uses a part of it, each another"
)]

pub mod actor;
pub mod container;
pub mod link;
pub mod program;
pub mod raw;
pub mod standing;
pub mod uring;
pub mod watch;
