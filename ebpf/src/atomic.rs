//! Atomic operations on map values that other CPUs and interrupts change as well. `core::sync::atomic` offers the BPF
//! target only loads and stores. Values must be live and aligned to their size.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd, atomic_xchg};

/// Adds to a counter.
///
/// # Safety
///
/// `counter` points into a live map value and is 8-aligned.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, amount: u64) {
    // SAFETY: the caller's.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, amount) };
}

/// Adds to a counter and answers what it held before.
///
/// # Safety
///
/// As [`add`].
#[inline(always)]
pub unsafe fn add_and_fetch(counter: *mut u64, amount: u64) -> u64 {
    // SAFETY: the caller's.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(counter, amount) }
}

/// Adds to a 32-bit counter.
///
/// # Safety
///
/// As [`add`], 4-aligned.
#[inline(always)]
pub unsafe fn add_u32(counter: *mut u32, amount: u32) {
    // SAFETY: the caller's.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(counter, amount) };
}

/// Sets bits.
///
/// # Safety
///
/// As [`add`].
#[inline(always)]
pub unsafe fn or(word: *mut u64, bits: u64) {
    // SAFETY: the caller's.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::Relaxed }>(word, bits) };
}

/// Takes what a counter holds and leaves zero.
///
/// # Safety
///
/// As [`add`].
#[inline(always)]
pub unsafe fn take(counter: *mut u64) -> u64 {
    // SAFETY: the caller's.
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(counter, 0) }
}

/// Replaces a value that is still the one seen; whether it was.
///
/// # Safety
///
/// As [`add`].
#[inline(always)]
pub unsafe fn replace(value: *mut u64, seen: u64, new: u64) -> bool {
    // SAFETY: the caller's.
    unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
            value, seen, new,
        )
        .1
    }
}
