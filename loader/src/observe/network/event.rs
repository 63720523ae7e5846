//! Network acts, parsed out of ring records.

use std::net::SocketAddr;

use bulkhead_abi::network::{
    Actor as RawActor, NETWORK_CREATOR, NETWORK_EPHEMERAL, NETWORK_MAPPED, NETWORK_NO_PROCESS,
    NETWORK_PASSED, NETWORK_REFUSED, NetworkRecord, act,
};

use super::flow::address;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetworkAct {
    /// A connect call, of any protocol.
    Connect,
    /// A datagram of an unconnected socket.
    Send,
    /// A first packet without a call before it: raw and ping sockets, Multipath TCP subflows.
    Packet,
    /// A port was bound; `ephemeral` when the kernel chose it.
    Bind {
        /// The kernel chose the port.
        ephemeral: bool,
    },
    /// A peer opened a connection, or sent a first datagram.
    Inbound,
}

/// How well the process behind an act is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// It made this very call; for inbound acts, it bound the listening socket.
    Caller,
    /// It made the socket; another of the container may have used it.
    Creator,
}

/// The process behind an act.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    /// Thread id in the initial namespace.
    pub tid: u32,
    /// Process id in the initial namespace.
    pub pid: u32,
    /// User id in the initial namespace.
    pub uid: u32,
    /// Name that the task gave itself: hostile text, to be escaped before it is shown.
    pub comm: String,
    /// How well it is known.
    pub known: Known,
}

impl Actor {
    /// `None` when the kernel knew no process.
    pub(in crate::observe) fn from_raw(raw: &RawActor, creator: bool) -> Option<Self> {
        let end = raw.comm.iter().position(|byte| *byte == 0).unwrap_or(raw.comm.len());
        (raw.pid != 0).then(|| Self {
            tid: raw.tid,
            pid: raw.pid,
            uid: raw.uid,
            comm: String::from_utf8_lossy(&raw.comm[..end]).into_owned(),
            known: if creator { Known::Creator } else { Known::Caller },
        })
    }
}

/// One network act of a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkEvent {
    /// Index of the container; 0 while no engine has named it: then go by `cgroup`.
    pub slot: u32,
    /// Its cgroup, as the slots' map knows it.
    pub cgroup: u64,
    /// Boot time, ns.
    pub time_ns: u64,
    /// What was done.
    pub act: NetworkAct,
    /// IANA protocol number.
    pub protocol: u8,
    /// The peer as asked; `None` for binds.
    pub peer: Option<SocketAddr>,
    /// Local port; 0 while there is none.
    pub local_port: u16,
    /// How often since the last report of the same act, this time included.
    pub count: u64,
    /// A guard refused it.
    pub refused: bool,
    /// The peer was given as an IPv4-mapped IPv6 address.
    pub mapped: bool,
    /// Another container (its index) or the host (0) made the socket and handed it over.
    pub passed_from: Option<u32>,
    /// Who did it.
    pub actor: Option<Actor>,
}

impl NetworkEvent {
    /// Parses a record; `None` for an act that this version does not know.
    pub fn from_record(record: &NetworkRecord) -> Option<Self> {
        let has = |flag| record.flags & flag != 0;
        let act = match record.act {
            act::CONNECT => NetworkAct::Connect,
            act::SEND => NetworkAct::Send,
            act::PACKET => NetworkAct::Packet,
            act::BIND => NetworkAct::Bind { ephemeral: has(NETWORK_EPHEMERAL) },
            act::INBOUND => NetworkAct::Inbound,
            _ => return None,
        };
        let bind = matches!(act, NetworkAct::Bind { .. });
        Some(Self {
            slot: record.header.slot,
            cgroup: record.header.cgroup,
            time_ns: record.header.time_ns,
            act,
            protocol: record.protocol,
            peer: (!bind).then(|| SocketAddr::new(address(record.peer), record.peer_port)),
            local_port: record.local_port,
            count: record.count,
            refused: has(NETWORK_REFUSED),
            mapped: has(NETWORK_MAPPED),
            passed_from: has(NETWORK_PASSED).then_some(record.creator),
            actor: (!has(NETWORK_NO_PROCESS))
                .then(|| Actor::from_raw(&record.actor, has(NETWORK_CREATOR)))
                .flatten(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> NetworkRecord {
        NetworkRecord { act: act::CONNECT, protocol: 6, peer_port: 443, ..NetworkRecord::default() }
    }

    #[test]
    fn an_unknown_act_is_left_out() {
        assert_eq!(NetworkEvent::from_record(&NetworkRecord { act: 99, ..record() }), None);
    }

    #[test]
    fn nobody_stands_behind_a_socket_of_the_kernel() {
        let event =
            NetworkEvent::from_record(&NetworkRecord { flags: NETWORK_NO_PROCESS, ..record() })
                .unwrap();
        assert_eq!(event.actor, None);
    }

    #[test]
    fn a_name_ends_at_its_first_zero_and_may_be_no_utf8() {
        let mut raw = RawActor { pid: 7, ..RawActor::default() };
        raw.comm[..5].copy_from_slice(b"a\xff\0bc");
        let actor = Actor::from_raw(&raw, true).unwrap();
        assert_eq!(actor.comm, "a\u{fffd}");
        assert_eq!(actor.known, Known::Creator);
    }

    #[test]
    fn a_socket_from_the_host_was_passed_by_slot_zero() {
        let passed = NetworkRecord { flags: NETWORK_PASSED, ..record() };
        assert_eq!(NetworkEvent::from_record(&passed).unwrap().passed_from, Some(0));
        assert_eq!(NetworkEvent::from_record(&record()).unwrap().passed_from, None);
    }
}
