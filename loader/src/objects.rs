//! The kernel programs' objects, as `cargo xtask ebpf` built them, embedded in the binary.

use aya::include_bytes_aligned;

/// Programs that observe.
pub(crate) static OBSERVE: &[u8] = include_bytes_aligned!(env!("BULKHEAD_OBSERVE"));

/// Programs that guard.
pub(crate) static GUARD: &[u8] = include_bytes_aligned!(env!("BULKHEAD_GUARD"));
