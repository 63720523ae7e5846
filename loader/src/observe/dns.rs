//! DNS messages, taken out of ring records as bytes: names inside are hostile, and the collector parses them.

use std::net::SocketAddr;

use bulkhead_abi::dns::{
    DNS_BYTES_MAX, DNS_CREATOR, DNS_CUT, DNS_RECEIVED, DNS_SENT, DNS_TCP, DnsRecord,
};

use super::network::{Actor, address};

/// One DNS message of a container: a question that it sent, or an answer that it received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsEvent {
    /// Index of the container; 0 while no engine has named it: then go by `cgroup`.
    pub slot: u32,
    /// Its cgroup, as the slots' map knows it.
    pub cgroup: u64,
    /// Boot time, ns.
    pub time_ns: u64,
    /// An answer, not a question.
    pub answer: bool,
    /// The resolver as asked.
    pub resolver: SocketAddr,
    /// It came over TCP.
    pub tcp: bool,
    /// `message` ends before the message did.
    pub cut: bool,
    /// The message, from its header on.
    pub message: Vec<u8>,
    /// Who asked.
    pub actor: Option<Actor>,
}

impl DnsEvent {
    /// Parses a record: its header and the bytes behind it. `None` when it contradicts itself.
    pub fn from_record(record: &DnsRecord, bytes: &[u8]) -> Option<Self> {
        let length = usize::from(record.length);
        if length > DNS_BYTES_MAX {
            return None;
        }
        let answer = match record.direction {
            DNS_SENT => false,
            DNS_RECEIVED => true,
            _ => return None,
        };
        Some(Self {
            slot: record.header.slot,
            cgroup: record.header.cgroup,
            time_ns: record.header.time_ns,
            answer,
            resolver: SocketAddr::new(address(record.peer), record.peer_port),
            tcp: record.flags & DNS_TCP != 0,
            cut: record.flags & DNS_CUT != 0,
            message: bytes.get(..length)?.to_vec(),
            actor: Actor::from_raw(&record.actor, record.flags & DNS_CREATOR != 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_bytes_is_refused() {
        let record = DnsRecord { direction: DNS_SENT, length: 40, ..DnsRecord::default() };
        assert_eq!(DnsEvent::from_record(&record, &[0; 39]), None);
        assert_eq!(DnsEvent::from_record(&record, &[0; 96]).unwrap().message.len(), 40);
    }

    #[test]
    fn a_direction_that_is_neither_is_refused() {
        let record = DnsRecord { direction: 9, length: 12, ..DnsRecord::default() };
        assert_eq!(DnsEvent::from_record(&record, &[0; 96]), None);
    }
}
