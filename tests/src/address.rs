//! Hands out address blocks, so that runs on one machine never share a network.
//!
//! A claim is a lock on a small file: it ends with the process that holds it, however that process ends.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::error::{HarnessError, io};

/// Where the locks are.
const LOCKS: &str = "/run/bulkhead-addresses";

/// Every network of containers that this module hands out.
pub const CONTAINERS: &str = "10.213.0.0/16";
/// The same in IPv6.
pub const CONTAINERS6: &str = "2001:db8:c000::/48";

/// A block of addresses that this process holds until the value is dropped.
#[derive(Debug)]
pub struct Block {
    index: u8,
    _lock: File,
}

/// The ranges that blocks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Networks of containers: a /24 of 10.213.0.0/16 and a /64 of `2001:db8:c000::/48` each.
    Containers,
    /// The world outside: links of a /30 in 198.51.100.0/24, peers of a /29 in 203.0.113.0/24, a /64 of
    /// `2001:db8:d000::/48`.
    Outside,
}

impl Range {
    const fn name(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::Outside => "outside",
        }
    }

    const fn blocks(self) -> u8 {
        match self {
            Self::Containers => 250,
            Self::Outside => 31,
        }
    }
}

impl Block {
    /// Takes a block that no living process holds.
    pub fn claim(range: Range) -> Result<Self, HarnessError> {
        fs::create_dir_all(LOCKS).map_err(io(format!("cannot make {LOCKS}")))?;
        for index in 1..=range.blocks() {
            let path = Path::new(LOCKS).join(format!("{}-{index}", range.name()));
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(io(format!("cannot open {}", path.display())))?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(Self { index, _lock: lock });
            }
        }
        Err(HarnessError::NoAddress(range.name()))
    }

    /// The host `host` in the network of containers of this block.
    pub fn container(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.index, host)
    }

    /// The same in IPv6.
    pub fn container6(&self, host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0xc000, self.index.into(), 0, 0, 0, host)
    }

    /// One end of the link to the outside: 0 is the machine, 1 the outside.
    pub fn link(&self, end: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 51, 100, self.index * 4 + 1 + end)
    }

    /// The same in IPv6.
    pub fn link6(&self, end: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0xd000, self.index.into(), 0, 0, 1, end + 1)
    }

    /// A peer outside, 0 to 7.
    pub fn peer(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(203, 0, 113, self.index * 8 + number % 8)
    }

    /// The same in IPv6.
    pub fn peer6(&self, number: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0xd000, self.index.into(), 0, 0, 2, u16::from(number % 8) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_stays_within_its_documentation_range() {
        for index in 1..=Range::Outside.blocks() {
            let lock = tempfile::tempfile().unwrap();
            let block = Block { index, _lock: lock };
            assert_eq!(block.link(1).octets()[..3], [198, 51, 100]);
            assert_eq!(block.peer(7).octets()[..3], [203, 0, 113]);
            assert_eq!(block.peer(7).octets()[3], index * 8 + 7);
        }
    }
}
