//! Arithmetic in the form that the verifier takes.
//!
//! Masks are such that the optimiser cannot drop them: it knows a bound from an earlier branch, but the verifier may have
//! forgotten it.

use core::arch::asm;

/// The number with only the bits of `MASK`.
#[inline(always)]
pub fn mask<const MASK: u32>(number: u64) -> usize {
    let mut bounded = number;
    // SAFETY: changes one register.
    unsafe { asm!("{0} &= {1}", inout(reg) bounded, const MASK, options(pure, nomem, nostack)) };
    bounded as usize
}

/// How far apart two pointers are: the one arithmetic on a kernel object's address that the verifier takes for a number.
#[inline(always)]
pub fn distance(of: *const core::ffi::c_void, from: *const core::ffi::c_void) -> u64 {
    let mut distance = of as u64;
    // SAFETY: changes one register.
    unsafe {
        asm!("{0} -= {1}", inout(reg) distance, in(reg) from, options(pure, nomem, nostack));
    }
    distance
}
