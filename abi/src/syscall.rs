//! What the kernel counts of system calls: histogram, bigrams, marked 6-grams, sampled runs; and calls that are acts.

use crate::ring::Header;

/// Numbers per ABI that have a counter of their own.
pub const CALLS: usize = 512;
/// Pairs of calls that one container can count apart on one CPU; past it they count as [`CallCounters::bigrams_lost`].
pub const BIGRAMS: usize = 2048;
/// Buckets of hashed 6-grams.
pub const NGRAM_BUCKETS: usize = 1 << 15;
/// Words of one half of the bitmap.
pub const NGRAM_WORDS: usize = NGRAM_BUCKETS / 64;
/// Calls per sampled run.
pub const RUN_LENGTH: usize = 256;
/// Bits that one call takes in the register of the last six.
pub const CALL_BITS: u32 = 10;
/// The register's six calls.
pub const REGISTER_MASK: u64 = (1 << (6 * CALL_BITS)) - 1;

/// The call after `call` in a task's register of the last six; the oldest falls out.
#[inline]
pub const fn shift(register: u64, call: u32) -> u64 {
    ((register << CALL_BITS) | (call as u64 & 0x3ff)) & REGISTER_MASK
}

/// Bucket of the six calls in a register: multiplicative hashing (Knuth, TAOCP 6.4) by 2⁶⁴/φ.
#[inline]
pub const fn bucket(register: u64) -> u32 {
    (register.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49) as u32
}

/// Bits of a [`Bigram`] that hold its count; the key is above them.
pub const BIGRAM_COUNT_BITS: u32 = 43;

/// A word that counts one pair of calls: [`bigram_key`] in the upper bits, occurrences in the lower ones; 0 is a free place.
pub type Bigram = u64;

/// Identity of a pair of calls within a [`Bigram`]; never 0.
#[inline]
pub const fn bigram_key(first: u32, second: u32) -> u64 {
    (((first as u64 & 0x3ff) << CALL_BITS) | (second as u64 & 0x3ff)) + 1
}

/// The pair of calls that a word counts, and how often; `None` for a free place.
pub const fn bigram(word: Bigram) -> Option<(u16, u16, u64)> {
    let Some(key) = (word >> BIGRAM_COUNT_BITS).checked_sub(1) else { return None };
    let count = word & ((1 << BIGRAM_COUNT_BITS) - 1);
    Some(((key >> CALL_BITS) as u16 & 0x3ff, key as u16 & 0x3ff, count))
}

/// One container's counts on one CPU. Calls of a foreign ABI (32-bit x86) start at index [`CALLS`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CallCounters {
    /// Calls by number.
    pub calls: [u64; 2 * CALLS],
    /// Calls with numbers beyond [`CALLS`].
    pub calls_beyond: u64,
    /// Pairs that found no place in `bigrams`.
    pub bigrams_lost: u64,
    /// Pairs, hashed with a probe of two places.
    pub bigrams: [Bigram; BIGRAMS],
}

// A per-CPU value holds at most 32 KiB.
const _: () = assert!(size_of::<CallCounters>() == 16 * 512 + 16 + 8 * 2048);
const _: () = assert!(size_of::<CallCounters>() <= 32 * 1024);

/// Nobody fills the run: the next task that makes a call takes it.
pub const RUN_FREE: u64 = 0;
/// The run is complete and waits for user space.
pub const RUN_FULL: u64 = u64::MAX;

/// One half of a container's bitmap of marked buckets, at index `2 * slot + half`: one half fills while the other is read
/// and cleared. Shared by all CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ngrams {
    /// A bit for each bucket.
    pub words: [u64; NGRAM_WORDS],
}

const _: () = assert!(size_of::<Ngrams>() == 4096);

/// A sampled run of one task's consecutive calls.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Thread that fills it, `RUN_FREE` or `RUN_FULL`.
    pub owner: u64,
    /// Calls so far.
    pub length: u64,
    /// What `length` was when another task last looked: if it is so again, the owner sleeps, and loses the run.
    pub noted: u64,
    /// The calls.
    pub calls: [u16; RUN_LENGTH],
}

const _: () = assert!(size_of::<Run>() == 24 + 512);

/// Longest path or text that a call's record carries.
pub const CALL_TEXT: usize = 108;

/// A privileged or unusual call: reported once an epoch and container, counted the rest of the time.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CallRecord {
    /// `KIND_CALL`.
    pub header: Header,
    /// Thread-group id.
    pub pid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Number of the call.
    pub call: u32,
    /// 0 native, 1 foreign (32-bit x86).
    pub foreign: u32,
    /// First two arguments.
    pub arguments: [u64; 2],
    /// Path of a Unix socket that was connected to (abstract ones begin with 0); else zeros.
    pub text: [u8; CALL_TEXT],
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<CallRecord>() == 24 + 16 + 16 + 108 + 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_of_calls_survives_its_word() {
        let word = (bigram_key(1023, 0) << BIGRAM_COUNT_BITS) + 7;
        assert_eq!(bigram(word), Some((1023, 0, 7)));
        assert_eq!(bigram(bigram_key(0, 0) << BIGRAM_COUNT_BITS), Some((0, 0, 0)));
        assert_eq!(bigram(0), None);
    }

    #[test]
    fn a_register_holds_the_last_six_calls() {
        let mut register = 0;
        for call in [9, 1, 2, 3, 4, 5, 6] {
            register = shift(register, call);
        }
        let mut same = 0;
        for call in [7, 7, 1, 2, 3, 4, 5, 6] {
            same = shift(same, call);
        }
        assert_eq!(register, same);
        assert!((bucket(register) as usize) < NGRAM_BUCKETS);
    }
}
