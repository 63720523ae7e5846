//! Masks that the optimiser cannot drop: it knows a bound from an earlier branch, but the verifier may have forgotten it.

use core::arch::asm;

/// The number with only the bits of `MASK`.
#[inline(always)]
pub fn mask<const MASK: u32>(number: u64) -> usize {
    let mut bounded = number;
    // SAFETY: changes one register.
    unsafe { asm!("{0} &= {1}", inout(reg) bounded, const MASK, options(pure, nomem, nostack)) };
    bounded as usize
}
