//! Who lives at an address on this network: what makes an east-west peer a workload instead of a number.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bulkhead_domain::net::normalise;

/// Addresses and names of the containers that are observed, with the workload that each belongs to.
///
/// An argument of every generalisation, never state of a model: addresses are reused, and a model must not remember
/// yesterday's owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    addresses: BTreeMap<IpAddr, String>,
    names: BTreeMap<String, String>,
}

impl Inventory {
    /// Notes a container: its workload's full name, its own name, its addresses.
    pub fn insert(&mut self, workload: &str, names: &[&str], addresses: &[IpAddr]) {
        for address in addresses.iter().filter(|a| !a.is_loopback() && !a.is_unspecified()) {
            self.addresses.insert(normalise(*address), workload.to_owned());
        }
        for name in names.iter().filter(|n| !n.is_empty()) {
            self.names.insert(name.to_lowercase(), workload.to_owned());
        }
    }

    /// The workload at that address.
    pub fn workload(&self, address: IpAddr) -> Option<&str> {
        self.addresses.get(&normalise(address)).map(String::as_str)
    }

    /// The workload that a DNS name means: a container's name, alone or with search domains behind it.
    pub fn named(&self, name: &str) -> Option<&str> {
        let first = name.split('.').next().unwrap_or(name);
        self.names.get(name).or_else(|| self.names.get(first)).map(String::as_str)
    }
}
