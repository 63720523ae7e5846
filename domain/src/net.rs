//! Peers, prefixes and what of the network a measure matches.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// IANA protocol numbers that have ports or a name of their own here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Protocol(pub u8);

impl Protocol {
    /// Internet Control Message Protocol.
    pub const ICMP: Self = Self(1);
    /// Transmission Control Protocol.
    pub const TCP: Self = Self(6);
    /// User Datagram Protocol.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// Stream Control Transmission Protocol.
    pub const SCTP: Self = Self(132);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::ICMP, "icmp"),
        (Self::TCP, "tcp"),
        (Self::UDP, "udp"),
        (Self::ICMPV6, "icmpv6"),
        (Self::SCTP, "sctp"),
    ];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(p, _)| p == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        protocol.to_string()
    }
}

/// Why a text names no peer, prefix, port or protocol.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NetError {
    /// Unknown protocol.
    #[error("`{0}` is not a protocol: use tcp, udp, icmp, icmpv6, sctp or a number up to 255")]
    Protocol(String),
    /// Not an address or prefix.
    #[error(
        "`{0}` is not an address or CIDR: write 198.51.100.7, 198.51.100.0/24 or 2001:db8::/32"
    )]
    Cidr(String),
    /// A prefix with bits set beyond its length.
    #[error("`{0}` has bits set beyond its prefix length: did you mean {1}?")]
    HostBits(String, Cidr),
    /// Not a peer match.
    #[error(
        "`{0}` is not a peer: write ADDRESS, CIDR, ADDRESS:PORT, [IPV6]:PORT, with /tcp or /udp behind a port"
    )]
    Peer(String),
}

impl FromStr for Protocol {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        Self::NAMES
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(p, _)| *p)
            .or_else(|| text.parse().ok().map(Self))
            .ok_or_else(|| NetError::Protocol(crate::text::printable(text, 40)))
    }
}

impl TryFrom<String> for Protocol {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self, NetError> {
        text.parse()
    }
}

/// An address with an IPv4-mapped IPv6 form folded to IPv4, so that one peer has one name.
pub fn normalise(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// A remote end: address, port and protocol; port 0 where the protocol has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Peer {
    /// Normalised address.
    pub address: IpAddr,
    /// Port in host order.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.port) {
            (address, 0) => write!(f, "{address}/{}", self.protocol),
            (IpAddr::V4(v4), port) => write!(f, "{v4}:{port}/{}", self.protocol),
            (IpAddr::V6(v6), port) => write!(f, "[{v6}]:{port}/{}", self.protocol),
        }
    }
}

/// A prefix of addresses, without bits beyond its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// A prefix, its host bits cleared; `None` when the length is too long for the family.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if length <= 32 => IpAddr::V4(Ipv4Addr::from_bits(
                v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0),
            )),
            IpAddr::V6(v6) if length <= 128 => IpAddr::V6(Ipv6Addr::from_bits(
                v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0),
            )),
            _ => return None,
        };
        Some(Self { address, length })
    }

    /// The prefix that holds only this address.
    pub fn host(address: IpAddr) -> Self {
        let address = normalise(address);
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Network address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Prefix length in bits.
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether the prefix holds exactly one address.
    pub fn is_host(self) -> bool {
        self.length == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether the address lies in the prefix; families never match each other.
    pub fn contains(self, address: IpAddr) -> bool {
        Self::new(normalise(address), self.length).is_some_and(|p| p == self)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.length)
        }
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl FromStr for Cidr {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let refuse = || NetError::Cidr(crate::text::printable(text, 60));
        let Some((address, length)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| refuse());
        };
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let length = length.parse().map_err(|_| refuse())?;
        let cidr = Self::new(address, length).ok_or_else(refuse)?;
        if cidr.address == address { Ok(cidr) } else { Err(NetError::HostBits(text.into(), cidr)) }
    }
}

impl TryFrom<String> for Cidr {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self, NetError> {
        text.parse()
    }
}

/// What of the network a measure matches: a prefix, any or one port, any or one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerMatch {
    /// Addresses.
    pub prefix: Cidr,
    /// Remote port; `None` is any.
    pub port: Option<u16>,
    /// Protocol; `None` is any.
    pub protocol: Option<Protocol>,
}

impl PeerMatch {
    /// Whether a peer falls under this match.
    pub fn matches(&self, peer: &Peer) -> bool {
        self.prefix.contains(peer.address)
            && self.port.is_none_or(|p| p == peer.port)
            && self.protocol.is_none_or(|p| p == peer.protocol)
    }
}

impl fmt::Display for PeerMatch {
    /// Prefix, then `:port` where one is meant, then `/protocol` where one is meant with it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => write!(f, "{}", self.prefix)?,
            Some(port) if self.prefix.address.is_ipv6() => write!(f, "[{}]:{port}", self.prefix)?,
            Some(port) => write!(f, "{}:{port}", self.prefix)?,
        }
        match (self.protocol, self.port) {
            (Some(protocol), Some(_)) => write!(f, "/{protocol}"),
            (Some(protocol), None) => write!(f, " {protocol}"),
            (None, _) => Ok(()),
        }
    }
}

impl FromStr for PeerMatch {
    type Err = NetError;

    /// Reads `198.51.100.7`, `198.51.100.0/24`, `198.51.100.7:443/tcp`, `198.51.100.0/24:53`, `[2001:db8::/32]:443/tcp`,
    /// or a prefix and a protocol with a space between them.
    fn from_str(text: &str) -> Result<Self, NetError> {
        let refuse = || NetError::Peer(crate::text::printable(text, 60));
        if let Some((prefix, protocol)) = text.split_once(' ') {
            let rest: Self = prefix.parse()?;
            return Ok(Self { protocol: Some(protocol.trim().parse()?), ..rest });
        }
        let (prefix, tail) = if let Some(rest) = text.strip_prefix('[') {
            let (inside, after) = rest.split_once(']').ok_or_else(refuse)?;
            (
                inside,
                if after.is_empty() {
                    None
                } else {
                    Some(after.strip_prefix(':').ok_or_else(refuse)?)
                },
            )
        } else if text.matches(':').count() == 1 {
            let (before, after) = text.split_once(':').ok_or_else(refuse)?;
            (before, Some(after))
        } else {
            (text, None)
        };
        let prefix = prefix.parse()?;
        let Some(tail) = tail else { return Ok(Self { prefix, port: None, protocol: None }) };
        let (port, protocol) = match tail.split_once('/') {
            Some((port, protocol)) => (port, Some(protocol.parse()?)),
            None => (tail, None),
        };
        Ok(Self { prefix, port: Some(port.parse().map_err(|_| refuse())?), protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_match_reads_back_what_it_writes() {
        for text in [
            "198.51.100.7",
            "198.51.100.0/24",
            "198.51.100.7:443/tcp",
            "198.51.100.0/24:53",
            "2001:db8::/32",
            "[2001:db8::1]:443/tcp",
            "203.0.113.9 icmp",
        ] {
            assert_eq!(text.parse::<PeerMatch>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn host_bits_are_refused_with_the_prefix_that_was_meant() {
        let error = "198.51.100.7/24".parse::<Cidr>().unwrap_err();
        assert!(error.to_string().contains("198.51.100.0/24"), "{error}");
    }

    #[test]
    fn refuses_what_names_no_peer() {
        for text in [
            "",
            "example.org",
            "198.51.100.7:http",
            "198.51.100.7:1/x",
            "[2001:db8::1",
            "1.2.3.4/33",
        ] {
            assert!(text.parse::<PeerMatch>().is_err(), "{text}");
        }
    }

    #[test]
    fn mapped_addresses_are_the_same_peer() {
        let mapped: IpAddr = "::ffff:198.51.100.7".parse().unwrap();
        assert!("198.51.100.0/24".parse::<Cidr>().unwrap().contains(mapped));
        assert!(!"::/0".parse::<Cidr>().unwrap().contains(mapped));
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains(mapped));
    }
}
