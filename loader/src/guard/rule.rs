//! Rules as the enforcer states them: to whom, which peers, until when.

use std::net::IpAddr;

/// Peers that a rule names: a prefix, any or one port, any or one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerPattern {
    /// Network address, 16 bytes in network order, IPv4 mapped.
    pub address: [u8; 16],
    /// Prefix length of that: 96 more than an IPv4 prefix.
    pub prefix: u8,
    /// Remote port.
    pub port: Option<u16>,
    /// IANA protocol number.
    pub protocol: Option<u8>,
}

impl PeerPattern {
    /// A prefix of an address, its host bits cleared; lengths beyond the family's are its longest. A prefix within the
    /// mapped range is one of IPv4, so that one peer has one name.
    pub fn new(address: IpAddr, length: u8, port: Option<u16>, protocol: Option<u8>) -> Self {
        let (bits, prefix) = match address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), 96 + length.min(32)),
            IpAddr::V6(v6) => (v6.to_bits(), length.min(128)),
        };
        let address = (bits & mask(prefix)).to_be_bytes();
        Self { address, prefix, port, protocol }
    }

    /// Whether it matches a peer; an IPv6 prefix wider than the mapped range never matches IPv4.
    pub fn matches(&self, address: IpAddr, port: u16, protocol: u8) -> bool {
        let (bits, v4) = match address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), true),
            IpAddr::V6(v6) => (v6.to_bits(), v6.to_ipv4_mapped().is_some()),
        };
        (self.prefix >= 96 || !v4)
            && (bits & mask(self.prefix)).to_be_bytes() == self.address
            && self.port.is_none_or(|p| p == port)
            && self.protocol.is_none_or(|p| p == protocol)
    }
}

/// The upper `prefix` bits.
pub(super) fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)
}

/// Whom a rule concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// One container, by the hash of its engine's id; follows it through restarts.
    Container(u64),
    /// A workload, by its id; its replicas to come included.
    Workload(u64),
    /// Every container of the node.
    Node,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// No packet to or from these peers.
    Deny {
        /// The peers.
        peers: PeerPattern,
        /// A person decided it: it stands above `protected`.
        manual: bool,
    },
    /// Nothing but what the lists allow.
    Quarantine,
}

/// One rule with an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// To whom.
    pub who: Who,
    /// What.
    pub what: What,
    /// Boot time (ns) of its end; `u64::MAX` for none.
    pub expires_ns: u64,
    /// The measure behind it; several rules may share it. Never 0.
    pub measure: u64,
}

/// Peers with a rule of their own, for the whole node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Peers that the node needs to live: they always pass.
    pub critical: Vec<PeerPattern>,
    /// Peers that automatic measures do not reach.
    pub protected: Vec<PeerPattern>,
    /// All that a quarantined container reaches.
    pub quarantine_allow: Vec<PeerPattern>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(address: &str, length: u8) -> PeerPattern {
        PeerPattern::new(address.parse().unwrap(), length, None, None)
    }

    #[test]
    fn a_prefix_of_ipv6_never_holds_ipv4_unless_it_is_a_mapped_one() {
        let v4 = "198.51.100.7".parse().unwrap();
        let mapped = "::ffff:198.51.100.7".parse().unwrap();
        for (pattern, expect) in [
            (pattern("::", 0), false),
            (pattern("0.0.0.0", 0), true),
            (pattern("::ffff:198.51.100.0", 120), true),
            (pattern("198.51.100.0", 24), true),
            (pattern("198.51.101.0", 24), false),
        ] {
            assert_eq!(pattern.matches(v4, 0, 0), expect, "{pattern:?}");
            assert_eq!(pattern.matches(mapped, 0, 0), expect, "{pattern:?}");
        }
        assert!(pattern("::", 0).matches("2001:db8::1".parse().unwrap(), 0, 0));
    }

    #[test]
    fn host_bits_do_not_make_another_prefix() {
        assert_eq!(pattern("198.51.100.77", 24), pattern("198.51.100.0", 24));
        assert_eq!(pattern("2001:db8::1", 32), pattern("2001:db8::", 32));
    }
}
