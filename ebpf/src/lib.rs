//! What both kernel objects need: atomic operations on map values.
#![no_std]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "core::sync::atomic offers the BPF target only loads and stores")]

pub mod atomic;
