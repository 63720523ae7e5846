//! Loads, attaches and pins the kernel programs; the only crate that knows aya.

