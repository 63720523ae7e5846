//! What the kernel programs and user space agree on.
//!
//! Every record here is `repr(C)`, built from integers with explicit padding, and its size is asserted beside the type,
//! so that a change of layout cannot be silent. Anything that changes the meaning of a pinned map must raise
//! [`ABI_VERSION`]: the loader refuses pins of another version and says how to clear them.
#![no_std]

pub mod dns;
pub mod guard;
pub mod network;
pub mod process;
pub mod ring;
pub mod slot;
pub mod syscall;

/// Version of every layout in this crate; stored beside the pinned maps and checked before they are used.
pub const ABI_VERSION: u32 = 1;
