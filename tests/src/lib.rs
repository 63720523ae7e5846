//! The harness of the end-to-end tests: real engines, real namespaces, and what a machine must offer.
//!
//! Everything here works on directories, cgroups, bridges and addresses of its own, so that several runs share one
//! machine, and takes back what it made when it is dropped, on a panic too. The demo stands on it as well. It knows
//! nothing of the product: it must build where the kernel programs have not been built yet.
#![forbid(unsafe_code)]

pub mod address;
pub mod command;
pub mod docker;
pub mod engine;
pub mod error;
pub mod image;
pub mod intruder;
pub mod netns;
pub mod outside;
pub mod podman;
pub mod requirement;
pub mod runc;
pub mod scratch;
pub mod service;
pub mod shop;
