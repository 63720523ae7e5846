//! Acts and behaviours.

use bulkhead_domain::behaviour::{Act, Behaviour, ForbiddenAct};
use bulkhead_domain::net::Protocol;

use super::net::PeerWire;
use super::process::ProcessWire;
use super::{Unreadable, known, narrow, need};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ActWire {
    #[prost(oneof = "Which", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) which: Option<Which>,
}

/// The tags are the numbers of `BehaviourKind`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Which {
    #[prost(string, tag = "1")]
    Exec(String),
    #[prost(message, tag = "2")]
    Connect(ConnectWire),
    #[prost(message, tag = "3")]
    Listen(ListenWire),
    #[prost(message, tag = "4")]
    Inbound(InboundWire),
    #[prost(string, tag = "5")]
    Dns(String),
    #[prost(string, tag = "6")]
    Syscall(String),
    #[prost(message, tag = "7")]
    Forbidden(ForbiddenWire),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ConnectWire {
    #[prost(message, optional, tag = "1")]
    pub(crate) peer: Option<PeerWire>,
    #[prost(string, optional, tag = "2")]
    pub(crate) name: Option<String>,
    #[prost(bool, tag = "3")]
    pub(crate) refused: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ListenWire {
    #[prost(uint32, tag = "1")]
    pub(crate) port: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) protocol: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InboundWire {
    #[prost(message, optional, tag = "1")]
    pub(crate) peer: Option<PeerWire>,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ForbiddenWire {
    #[prost(uint32, tag = "1")]
    pub(crate) act: u32,
    #[prost(string, tag = "2")]
    pub(crate) object: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BehaviourWire {
    #[prost(message, optional, tag = "1")]
    pub(crate) act: Option<ActWire>,
    #[prost(message, optional, tag = "2")]
    pub(crate) process: Option<ProcessWire>,
    #[prost(uint64, tag = "3")]
    pub(crate) count: u64,
}

impl From<&Act> for ActWire {
    fn from(act: &Act) -> Self {
        let which = match act {
            Act::Exec { path } => Which::Exec(path.clone()),
            Act::Connect { peer, name, refused } => Which::Connect(ConnectWire {
                peer: Some(peer.into()),
                name: name.clone(),
                refused: *refused,
            }),
            Act::Listen { port, protocol } => {
                Which::Listen(ListenWire { port: (*port).into(), protocol: protocol.0.into() })
            }
            Act::Inbound { peer, port } => {
                Which::Inbound(InboundWire { peer: Some(peer.into()), port: (*port).into() })
            }
            Act::Dns { name } => Which::Dns(name.clone()),
            Act::Syscall { name } => Which::Syscall(name.clone()),
            Act::Forbidden { act, object } => {
                Which::Forbidden(ForbiddenWire { act: *act as u32, object: object.clone() })
            }
        };
        Self { which: Some(which) }
    }
}

impl TryFrom<ActWire> for Act {
    type Error = Unreadable;

    fn try_from(wire: ActWire) -> Result<Self, Unreadable> {
        Ok(match need("act", wire.which)? {
            Which::Exec(path) => Self::Exec { path },
            Which::Connect(connect) => Self::Connect {
                peer: need("peer", connect.peer)?.try_into()?,
                name: connect.name,
                refused: connect.refused,
            },
            Which::Listen(listen) => Self::Listen {
                port: narrow("port", listen.port)?,
                protocol: Protocol(narrow("protocol", listen.protocol)?),
            },
            Which::Inbound(inbound) => Self::Inbound {
                peer: need("peer", inbound.peer)?.try_into()?,
                port: narrow("port", inbound.port)?,
            },
            Which::Dns(name) => Self::Dns { name },
            Which::Syscall(name) => Self::Syscall { name },
            Which::Forbidden(forbidden) => {
                let act = ForbiddenAct::ALL.into_iter().find(|a| *a as u32 == forbidden.act);
                Self::Forbidden {
                    act: known("forbidden act", forbidden.act, act)?,
                    object: forbidden.object,
                }
            }
        })
    }
}

impl From<&Behaviour> for BehaviourWire {
    fn from(behaviour: &Behaviour) -> Self {
        Self {
            act: Some((&behaviour.act).into()),
            process: behaviour.process.as_ref().map(Into::into),
            count: behaviour.count,
        }
    }
}

impl TryFrom<BehaviourWire> for Behaviour {
    type Error = Unreadable;

    fn try_from(wire: BehaviourWire) -> Result<Self, Unreadable> {
        Ok(Self {
            act: need("act", wire.act)?.try_into()?,
            process: wire.process.map(TryInto::try_into).transpose()?,
            count: wire.count,
        })
    }
}
