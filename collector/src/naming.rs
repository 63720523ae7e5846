//! Who a container is: cgroups found, engines asked, workloads named.
//!
//! A cgroup is found by its creation ([`tree`]), recognised by its path ([`cgroup`]), described by an engine
//! ([`docker`], [`podman`], followed by [`engine`]) or a bare runtime ([`runc`]), measured in `/proc` ([`facts`]), and
//! named by the precedence of the design ([`workload`]).

pub mod cgroup;
pub mod description;
pub mod docker;
pub mod engine;
pub mod event;
pub mod facts;
pub mod http;
pub mod podman;
pub mod runc;
pub mod shelf;
pub mod tree;
pub mod workload;
