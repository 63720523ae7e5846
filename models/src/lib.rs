//! Pure detectors, calibration, maturity and explanation: what is normal, how strange something is, and why.
//!
//! Nothing here reads a clock or draws randomness. A detector (`detector.rs`) scores in its own units; `calibration.rs`
//! makes p-values of that on held-out blocks of time, `threshold.rs` finds the score that meets an alert budget,
//! `maturity.rs` says when a baseline may be trusted, `explain.rs` ranks the evidence, `artifact.rs` writes it all down.
#![forbid(unsafe_code)]

pub mod artifact;
pub mod calibration;
pub mod ceiling;
pub mod detector;
pub mod ensemble;
pub mod explain;
pub mod fold;
pub mod fresh;
pub mod inventory;
pub mod key;
pub mod markov;
pub mod maturity;
pub mod novelty;
pub mod poisson;
pub mod quantity;
pub mod sequence;
pub mod shape;
pub mod stide;
pub mod tail;
pub mod threshold;
pub mod volume;

pub use detector::{Detector, Evidence, Part};
pub use inventory::Inventory;
