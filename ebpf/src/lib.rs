//! What both kernel objects need: atomic operations on map values, and bounds that survive the optimiser.
#![no_std]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "core::sync::atomic offers the BPF target only loads and stores"
)]

pub mod atomic;
pub mod bound;
