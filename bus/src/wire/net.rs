//! Peers, prefixes and what of the network a measure matches.

use std::net::IpAddr;

use bulkhead_domain::net::{Cidr, Peer, PeerMatch, Protocol};

use super::{Unreadable, known, narrow};

/// A remote end.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PeerWire {
    /// Four or sixteen bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) address: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) protocol: u32,
}

/// Prefix, port, protocol; an absent one matches any.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PeerMatchWire {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) address: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(crate) length: u32,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) port: Option<u32>,
    #[prost(uint32, optional, tag = "4")]
    pub(crate) protocol: Option<u32>,
}

pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

pub(crate) fn address(bytes: &[u8]) -> Result<IpAddr, Unreadable> {
    let address = <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    known("address", format!("{} bytes", bytes.len()), address.ok())
}

impl From<&Peer> for PeerWire {
    fn from(peer: &Peer) -> Self {
        Self {
            address: address_bytes(peer.address),
            port: peer.port.into(),
            protocol: peer.protocol.0.into(),
        }
    }
}

impl TryFrom<PeerWire> for Peer {
    type Error = Unreadable;

    fn try_from(wire: PeerWire) -> Result<Self, Unreadable> {
        Ok(Self {
            address: address(&wire.address)?,
            port: narrow("port", wire.port)?,
            protocol: Protocol(narrow("protocol", wire.protocol)?),
        })
    }
}

impl From<&PeerMatch> for PeerMatchWire {
    fn from(peer: &PeerMatch) -> Self {
        Self {
            address: address_bytes(peer.prefix.address()),
            length: peer.prefix.length().into(),
            port: peer.port.map(Into::into),
            protocol: peer.protocol.map(|p| p.0.into()),
        }
    }
}

impl TryFrom<PeerMatchWire> for PeerMatch {
    type Error = Unreadable;

    fn try_from(wire: PeerMatchWire) -> Result<Self, Unreadable> {
        let length = narrow("length", wire.length)?;
        Ok(Self {
            prefix: known("length", wire.length, Cidr::new(address(&wire.address)?, length))?,
            port: wire.port.map(|p| narrow("port", p)).transpose()?,
            protocol: wire.protocol.map(|p| narrow("protocol", p).map(Protocol)).transpose()?,
        })
    }
}
