//! Directories that a run works in, and names that no other run has.

use std::{
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use crate::error::{HarnessError, io};

/// Makes a directory that disappears with its owner, on a file system that overlays can stand on.
///
/// `/tmp` is often memory; engines keep images here, so the directory is under `/var/tmp`.
pub fn directory(purpose: &str) -> Result<TempDir, HarnessError> {
    let parent =
        if Path::new("/var/tmp").is_dir() { "/var/tmp".into() } else { std::env::temp_dir() };
    tempfile::Builder::new()
        .prefix(&format!("bulkhead-{purpose}-{}-", unique()))
        .tempdir_in(&parent)
        .map_err(io(format!("cannot make a directory in {}", parent.display())))
}

/// A short name that is free on this machine: the process and a count within it, seven characters at most.
///
/// Interface names hold fifteen characters, so there is room for a prefix.
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Process ids go up to 4,194,304: five hexadecimal digits and a bit; the count stays within one run.
    format!("{:x}{}", process::id(), base36(count))
}

/// A container id as engines make them: 64 hexadecimal digits, different each time.
pub fn container_id() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let mut state = (now as u64) ^ (u64::from(process::id()) << 40) ^ fnv1a(unique().as_bytes());
    let mut id = String::with_capacity(64);
    for _ in 0..4 {
        // splitmix64: ids only have to differ, nobody has to be unable to guess them.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        id.push_str(&format!("{:016x}", word ^ (word >> 31)));
    }
    id
}

/// The FNV-1a hash, which stays the same between versions of the compiler.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A count in as few characters as file names allow without case.
fn base36(mut count: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(count % 36, 36).expect("a remainder of 36 is a digit"));
        count /= 36;
        if count == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_differ_within_a_process() {
        assert_ne!(unique(), unique());
        assert_ne!(container_id(), container_id());
        assert_eq!(container_id().len(), 64);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
