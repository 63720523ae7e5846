//! Measures, their targets and their end.

use bulkhead_domain::measure::{Action, Decider, Measure, MeasureRecord, Proposal, Target};
use bulkhead_domain::{AlertId, MeasureId, Timestamp};

use super::container::ContainerKeyWire;
use super::net::PeerMatchWire;
use super::{Unreadable, narrow, need, workload};

/// The type of a measure in force.
pub(crate) const TYPE: &str = "bulkhead.measure";

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TargetWire {
    #[prost(oneof = "WhichTarget", tags = "1, 2")]
    pub(crate) which: Option<WhichTarget>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum WhichTarget {
    #[prost(message, tag = "1")]
    Container(ContainerKeyWire),
    #[prost(string, tag = "2")]
    Workload(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ActionWire {
    #[prost(oneof = "WhichAction", tags = "1, 2")]
    pub(crate) which: Option<WhichAction>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum WhichAction {
    #[prost(message, tag = "1")]
    Deny(PeerMatchWire),
    #[prost(bool, tag = "2")]
    Quarantine(bool),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProposalWire {
    #[prost(message, optional, tag = "1")]
    pub(crate) target: Option<TargetWire>,
    #[prost(message, optional, tag = "2")]
    pub(crate) action: Option<ActionWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MeasureWire {
    #[prost(fixed64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) cluster: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) target: Option<TargetWire>,
    #[prost(message, optional, tag = "4")]
    pub(crate) action: Option<ActionWire>,
    #[prost(string, tag = "5")]
    pub(crate) reason: String,
    #[prost(fixed64, tag = "6")]
    pub(crate) created_ns: u64,
    #[prost(fixed64, tag = "7")]
    pub(crate) expires_ns: u64,
    #[prost(oneof = "DeciderWire", tags = "10, 11")]
    pub(crate) decider: Option<DeciderWire>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum DeciderWire {
    #[prost(string, tag = "10")]
    Manual(String),
    #[prost(message, tag = "11")]
    Automatic(AutomaticWire),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct AutomaticWire {
    #[prost(fixed64, tag = "1")]
    pub(crate) alert: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) rung: u32,
}

/// What a tombstone says of a measure's end.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReleasedWire {
    #[prost(fixed64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) workload: String,
    #[prost(string, tag = "3")]
    pub(crate) cluster: String,
    #[prost(string, tag = "4")]
    pub(crate) who: String,
    #[prost(string, tag = "5")]
    pub(crate) why: String,
    #[prost(fixed64, tag = "6")]
    pub(crate) at_ns: u64,
}

impl From<&Target> for TargetWire {
    fn from(target: &Target) -> Self {
        let which = match target {
            Target::Container(key) => WhichTarget::Container(key.into()),
            Target::Workload(name) => WhichTarget::Workload(name.to_string()),
        };
        Self { which: Some(which) }
    }
}

impl TryFrom<TargetWire> for Target {
    type Error = Unreadable;

    fn try_from(wire: TargetWire) -> Result<Self, Unreadable> {
        Ok(match need("target", wire.which)? {
            WhichTarget::Container(key) => Self::Container(key.into()),
            WhichTarget::Workload(name) => Self::Workload(workload(&name)?),
        })
    }
}

impl From<&Action> for ActionWire {
    fn from(action: &Action) -> Self {
        let which = match action {
            Action::Deny(peer) => WhichAction::Deny(peer.into()),
            Action::Quarantine => WhichAction::Quarantine(true),
        };
        Self { which: Some(which) }
    }
}

impl TryFrom<ActionWire> for Action {
    type Error = Unreadable;

    fn try_from(wire: ActionWire) -> Result<Self, Unreadable> {
        Ok(match need("action", wire.which)? {
            WhichAction::Deny(peer) => Self::Deny(peer.try_into()?),
            WhichAction::Quarantine(_) => Self::Quarantine,
        })
    }
}

impl From<&Proposal> for ProposalWire {
    fn from(proposal: &Proposal) -> Self {
        Self { target: Some((&proposal.target).into()), action: Some((&proposal.action).into()) }
    }
}

impl TryFrom<ProposalWire> for Proposal {
    type Error = Unreadable;

    fn try_from(wire: ProposalWire) -> Result<Self, Unreadable> {
        Ok(Self {
            target: need("target", wire.target)?.try_into()?,
            action: need("action", wire.action)?.try_into()?,
        })
    }
}

impl From<&Measure> for MeasureWire {
    fn from(measure: &Measure) -> Self {
        Self {
            id: measure.id.0,
            cluster: measure.cluster.clone(),
            target: Some((&measure.target).into()),
            action: Some((&measure.action).into()),
            reason: measure.reason.clone(),
            created_ns: measure.created.0,
            expires_ns: measure.expires.0,
            decider: Some(match &measure.decider {
                Decider::Manual { who } => DeciderWire::Manual(who.clone()),
                Decider::Automatic { alert, rung } => {
                    DeciderWire::Automatic(AutomaticWire { alert: alert.0, rung: (*rung).into() })
                }
            }),
        }
    }
}

impl TryFrom<MeasureWire> for Measure {
    type Error = Unreadable;

    fn try_from(wire: MeasureWire) -> Result<Self, Unreadable> {
        Ok(Self {
            id: MeasureId(wire.id),
            cluster: wire.cluster,
            target: need("target", wire.target)?.try_into()?,
            action: need("action", wire.action)?.try_into()?,
            decider: match need("decider", wire.decider)? {
                DeciderWire::Manual(who) => Decider::Manual { who },
                DeciderWire::Automatic(automatic) => Decider::Automatic {
                    alert: AlertId(automatic.alert),
                    rung: narrow("rung", automatic.rung)?,
                },
            },
            reason: wire.reason,
            created: Timestamp(wire.created_ns),
            expires: Timestamp(wire.expires_ns),
        })
    }
}

impl TryFrom<ReleasedWire> for MeasureRecord {
    type Error = Unreadable;

    fn try_from(wire: ReleasedWire) -> Result<Self, Unreadable> {
        Ok(Self::Released {
            id: MeasureId(wire.id),
            workload: workload(&wire.workload)?,
            cluster: wire.cluster,
            who: wire.who,
            why: wire.why,
            at: Timestamp(wire.at_ns),
        })
    }
}
