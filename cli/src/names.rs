//! Names for what the kernel's maps hold as hashes, with every daemon dead.

use bulkhead_abi::guard::CANARY;
use bulkhead_loader::guard::{Guard, Who};

/// Measures of the self-test's pseudo-container: nobody's, and never ended by a person.
pub fn canary_measures(guard: &Guard) -> Vec<u64> {
    let (rules, _) = guard.rules();
    rules.iter().filter(|r| r.who == Who::Container(CANARY)).map(|r| r.measure).collect()
}
