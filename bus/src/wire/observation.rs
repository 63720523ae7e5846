//! The detector's one input, by record kind.

use bulkhead_domain::observation::{Body, Observation};
use bulkhead_domain::{EventId, Timestamp};

use super::behaviour::BehaviourWire;
use super::container::{ContainerKeyWire, ContainerWire};
use super::health::HealthWire;
use super::intent::IntentWire;
use super::window::WindowWire;
use super::{Unreadable, need, workload};

/// The prefix of every observation's type.
pub(crate) const TYPE: &str = "bulkhead.observation";

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct EventIdWire {
    #[prost(fixed64, tag = "1")]
    pub(crate) producer: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) sequence: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ObservationWire {
    #[prost(message, optional, tag = "1")]
    pub(crate) id: Option<EventIdWire>,
    #[prost(string, tag = "2")]
    pub(crate) workload: String,
    #[prost(fixed64, tag = "3")]
    pub(crate) at_ns: u64,
    /// The container that a behaviour or a window belongs to.
    #[prost(message, optional, tag = "4")]
    pub(crate) container: Option<ContainerKeyWire>,
    #[prost(oneof = "BodyWire", tags = "10, 11, 12, 13, 14, 15")]
    pub(crate) body: Option<BodyWire>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum BodyWire {
    #[prost(message, tag = "10")]
    Behaviour(BehaviourWire),
    #[prost(message, tag = "11")]
    Window(WindowWire),
    #[prost(message, tag = "12")]
    Started(ContainerWire),
    #[prost(message, tag = "13")]
    Stopped(ContainerKeyWire),
    #[prost(message, tag = "14")]
    Intent(IntentWire),
    #[prost(message, tag = "15")]
    Health(HealthWire),
}

/// The full type of an observation, for the header.
pub(crate) fn type_of(body: &Body) -> &'static str {
    match body {
        Body::Behaviour(..) => "bulkhead.observation.behaviour",
        Body::Window(..) => "bulkhead.observation.window",
        Body::Started(_) => "bulkhead.observation.started",
        Body::Stopped(_) => "bulkhead.observation.stopped",
        Body::Intent(_) => "bulkhead.observation.intent",
        Body::Health(_) => "bulkhead.observation.health",
    }
}

impl From<EventId> for EventIdWire {
    fn from(id: EventId) -> Self {
        Self { producer: id.producer, epoch: id.epoch, sequence: id.sequence }
    }
}

impl From<EventIdWire> for EventId {
    fn from(wire: EventIdWire) -> Self {
        Self { producer: wire.producer, epoch: wire.epoch, sequence: wire.sequence }
    }
}

impl From<&Observation> for ObservationWire {
    fn from(observation: &Observation) -> Self {
        let (container, body) = match &observation.body {
            Body::Behaviour(key, behaviour) => {
                (Some(key.into()), BodyWire::Behaviour(behaviour.into()))
            }
            Body::Window(key, window) => (Some(key.into()), BodyWire::Window(window.into())),
            Body::Started(container) => (None, BodyWire::Started(container.into())),
            Body::Stopped(key) => (None, BodyWire::Stopped(key.into())),
            Body::Intent(intent) => (None, BodyWire::Intent(intent.into())),
            Body::Health(health) => (None, BodyWire::Health(health.into())),
        };
        Self {
            id: Some(observation.id.into()),
            workload: observation.workload.to_string(),
            at_ns: observation.at.0,
            container,
            body: Some(body),
        }
    }
}

impl TryFrom<ObservationWire> for Observation {
    type Error = Unreadable;

    fn try_from(wire: ObservationWire) -> Result<Self, Unreadable> {
        let container = wire.container.map(Into::into);
        let body = match need("body", wire.body)? {
            BodyWire::Behaviour(behaviour) => {
                Body::Behaviour(need("container", container)?, behaviour.try_into()?)
            }
            BodyWire::Window(window) => {
                Body::Window(need("container", container)?, window.try_into()?)
            }
            BodyWire::Started(container) => Body::Started(container.try_into()?),
            BodyWire::Stopped(key) => Body::Stopped(key.into()),
            BodyWire::Intent(intent) => Body::Intent(intent.try_into()?),
            BodyWire::Health(health) => Body::Health(health.try_into()?),
        };
        Ok(Self {
            id: need("id", wire.id)?.into(),
            workload: workload(&wire.workload)?,
            at: Timestamp(wire.at_ns),
            body,
        })
    }
}
