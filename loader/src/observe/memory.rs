//! What the observers' maps take, as a formula: so that a person can choose `slots_max` before the machine is full.

use bulkhead_abi::{
    network::NetworkCounters,
    process::ProcessCounters,
    ring::{Quota, RING_BYTES},
    syscall::{CallCounters, Ngrams, Run},
};

/// Maps whose size does not depend on the number of containers: `SLOTS`, the table of resident tasks, what was seen in this
/// epoch, and the buckets of the flow table. Measured on a 64-bit kernel, where a hash map's element costs 48 bytes more
/// than its key and value, and rounded up.
const FIXED_BYTES: u64 = 4 << 20;

/// Bytes of all maps at most, without the flows in use (about 250 each): the ring, a fixed part, and for each slot (and the
/// one that means "no container") its counters, those of calls once for each CPU.
pub const fn bytes_max(slots_max: u32, possible_cpus: u32) -> u64 {
    let per_cpu = size_of::<CallCounters>() as u64;
    let per_slot = 2 * size_of::<Ngrams>()
        + size_of::<Run>()
        + size_of::<ProcessCounters>()
        + size_of::<NetworkCounters>()
        + size_of::<Quota>()
        + size_of::<u64>();
    let slots = slots_max as u64 + 1;
    let ring = RING_BYTES as u64 + (64 << 10);
    ring + FIXED_BYTES + slots * (per_slot as u64 + per_cpu * possible_cpus as u64 + 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_containers_on_two_processors_take_less_than_twenty_mebibytes() {
        assert!(bytes_max(50, 2) < 20 << 20, "{}", bytes_max(50, 2));
    }

    #[test]
    fn counters_of_calls_dominate_on_many_processors() {
        let (few, many) = (bytes_max(128, 2), bytes_max(128, 64));
        assert_eq!((many - few) / 62, 129 * size_of::<CallCounters>() as u64);
    }
}
