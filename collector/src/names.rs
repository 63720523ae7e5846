//! What addresses were called: the DNS answers that a container got, so that its connections can be named.
//!
//! A name is what a container asked for itself; another container's question never names its peers. Answers are the
//! resolver's word and no proof: the address stays in every behaviour beside the name.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use bulkhead_domain::net::normalise;

/// Addresses remembered for one container; the oldest answer goes first.
pub const NAMES_MAX: usize = 1024;

/// Address to name, for one container.
#[derive(Debug, Default)]
pub struct Names {
    by_address: HashMap<IpAddr, (String, u64)>,
    order: VecDeque<(IpAddr, u64)>,
    answers: u64,
}

impl Names {
    /// Remembers an answer: the latest name that led to an address is the one that counts.
    pub fn learn(&mut self, name: &str, addresses: &[IpAddr]) {
        for address in addresses.iter().copied().map(normalise) {
            self.answers += 1;
            self.by_address.insert(address, (name.to_owned(), self.answers));
            self.order.push_back((address, self.answers));
        }
        while self.order.len() > NAMES_MAX {
            let Some((address, answer)) = self.order.pop_front() else { break };
            // A newer answer for the same address stands further back in the queue.
            if self.by_address.get(&address).is_some_and(|(_, latest)| *latest == answer) {
                self.by_address.remove(&address);
            }
        }
    }

    /// The name that an address came from.
    pub fn of(&self, address: IpAddr) -> Option<&str> {
        self.by_address.get(&normalise(address)).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_latest_name_counts_and_mapped_addresses_are_the_same() {
        let mut names = Names::default();
        let address: IpAddr = "198.51.100.7".parse().unwrap();
        assert_eq!(names.of(address), None);
        names.learn("old.example.org", &[address]);
        names.learn("store.example.org", &["::ffff:198.51.100.7".parse().unwrap()]);
        assert_eq!(names.of(address), Some("store.example.org"));
    }

    #[test]
    fn the_oldest_answers_are_forgotten_first_and_refreshed_ones_stay() {
        let mut names = Names::default();
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0xc633_6400 + n));
        names.learn("kept.example.org", &[address(0)]);
        for n in 1..NAMES_MAX as u32 {
            names.learn("filler.example.org", &[address(n)]);
        }
        names.learn("kept.example.org", &[address(0)]);
        names.learn("new.example.org", &[address(NAMES_MAX as u32)]);
        assert_eq!(names.of(address(0)), Some("kept.example.org"));
        assert_eq!(names.of(address(1)), None);
        assert_eq!(names.order.len(), NAMES_MAX);
        assert!(names.by_address.len() <= NAMES_MAX);
    }
}
