//! Flows as user space reads them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bulkhead_abi::network::{
    DIRECTION_INBOUND, DIRECTION_OUTBOUND, Flow as RawFlow, FlowKey as RawKey,
};

/// Who opened a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The container.
    Outbound,
    /// The peer.
    Inbound,
}

/// Which flow: all connections of a container with one service, in one direction of opening.
///
/// Inbound with the unspecified peer (`::`), it stands for a bound port itself: `attempts` counts its binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Index of the container.
    pub slot: u32,
    /// Who opened it.
    pub direction: Direction,
    /// IANA protocol number.
    pub protocol: u8,
    /// The peer as the container asked for it, before address translation; a mapped address is given as IPv4.
    pub peer: IpAddr,
    /// Port of the peer's service; 0 when inbound or without ports.
    pub peer_port: u16,
    /// Port of the container's service; 0 when outbound or without ports.
    pub local_port: u16,
}

impl FlowKey {
    /// Whether it stands for a bound port, not for traffic.
    pub fn is_bound_port(&self) -> bool {
        self.direction == Direction::Inbound && self.peer == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    }

    pub(super) fn from_raw(raw: &RawKey) -> Self {
        Self {
            slot: raw.slot,
            direction: if raw.direction == DIRECTION_OUTBOUND {
                Direction::Outbound
            } else {
                Direction::Inbound
            },
            protocol: raw.protocol,
            peer: address(raw.peer),
            peer_port: raw.peer_port,
            local_port: raw.local_port,
        }
    }

    pub(super) fn to_raw(self) -> RawKey {
        RawKey {
            slot: self.slot,
            protocol: self.protocol,
            direction: match self.direction {
                Direction::Outbound => DIRECTION_OUTBOUND,
                Direction::Inbound => DIRECTION_INBOUND,
            },
            local_port: self.local_port,
            peer: match self.peer {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            },
            peer_port: self.peer_port,
            pad: [0; 6],
        }
    }
}

/// What a flow carried since it was first seen; everything only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Packets to the peer, as segmented. Packets that a guard dropped are among them.
    pub packets_out: u64,
    /// Bytes to the peer from the IP header on, as segmented.
    pub bytes_out: u64,
    /// Packets from the peer.
    pub packets_in: u64,
    /// Bytes from the peer.
    pub bytes_in: u64,
    /// Connects and unconnected sends (outbound), requests and first datagrams (inbound), refused ones included.
    pub attempts: u64,
    /// Attempts that a guard refused.
    pub refused: u64,
    /// TCP connections established.
    pub established: u64,
    /// TCP attempts that the peer answered with a reset.
    pub reset: u64,
    /// TCP requests sent again for want of an answer.
    pub retries: u64,
    /// Boot time (ns) of the first packet or attempt.
    pub first_ns: u64,
    /// Boot time (ns) of the last packet or attempt.
    pub last_ns: u64,
    /// Where packets really went, when address translation sent them elsewhere than asked.
    pub routed: Option<SocketAddr>,
}

impl Flow {
    pub(super) fn from_raw(raw: &RawFlow) -> Self {
        Self {
            packets_out: raw.packets_out,
            bytes_out: raw.bytes_out,
            packets_in: raw.packets_in,
            bytes_in: raw.bytes_in,
            attempts: raw.attempts,
            refused: raw.refused,
            established: raw.established,
            reset: raw.reset,
            retries: raw.retries,
            first_ns: raw.first_ns,
            last_ns: raw.last_ns,
            routed: (raw.routed != [0; 16])
                .then(|| SocketAddr::new(address(raw.routed), raw.routed_port)),
        }
    }
}

/// An address from its sixteen bytes, a mapped one as IPv4.
pub(in crate::observe) fn address(bytes: [u8; 16]) -> IpAddr {
    let v6 = Ipv6Addr::from(bytes);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_it_was_written() {
        for (peer, direction) in [
            ("198.51.100.7", Direction::Outbound),
            ("2001:db8::1", Direction::Inbound),
            ("::", Direction::Inbound),
        ] {
            let key = FlowKey {
                slot: 7,
                direction,
                protocol: 17,
                peer: peer.parse().unwrap(),
                peer_port: 53,
                local_port: 0,
            };
            assert_eq!(FlowKey::from_raw(&key.to_raw()), key);
        }
    }

    #[test]
    fn mapped_addresses_are_given_as_ipv4() {
        let mapped: Ipv6Addr = "::ffff:198.51.100.7".parse().unwrap();
        assert_eq!(address(mapped.octets()), "198.51.100.7".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn a_flow_that_went_where_it_was_asked_to_has_no_route() {
        assert_eq!(Flow::from_raw(&RawFlow::default()).routed, None);
        let mut raw = RawFlow { routed_port: 5353, ..RawFlow::default() };
        raw.routed[15] = 1;
        assert_eq!(Flow::from_raw(&raw).routed, Some("[::1]:5353".parse().unwrap()));
    }
}
