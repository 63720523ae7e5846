//! What an agent says about itself.

use bulkhead_domain::health::{Condition, Health};

use super::container::ContainerKeyWire;
use super::{Unreadable, known};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HealthWire {
    #[prost(string, tag = "1")]
    pub(crate) node: String,
    #[prost(uint32, tag = "2")]
    pub(crate) condition: u32,
    #[prost(message, optional, tag = "3")]
    pub(crate) container: Option<ContainerKeyWire>,
    #[prost(string, tag = "4")]
    pub(crate) detail: String,
}

const CONDITIONS: [(Condition, u32); 8] = [
    (Condition::CanaryPassed, 1),
    (Condition::CanaryRefused, 2),
    (Condition::UnresolvedPassed, 3),
    (Condition::SlotsExhausted, 4),
    (Condition::MeasureFailed, 5),
    (Condition::MeasureWeak, 6),
    (Condition::EngineLost, 7),
    (Condition::EngineBack, 8),
];

impl From<&Health> for HealthWire {
    fn from(health: &Health) -> Self {
        let number = CONDITIONS.iter().find(|(c, _)| *c == health.condition).map(|(_, n)| *n);
        Self {
            node: health.node.clone(),
            condition: number.expect("the table holds every condition"),
            container: health.container.as_ref().map(Into::into),
            detail: health.detail.clone(),
        }
    }
}

impl TryFrom<HealthWire> for Health {
    type Error = Unreadable;

    fn try_from(wire: HealthWire) -> Result<Self, Unreadable> {
        let condition =
            CONDITIONS.iter().find(|(_, n)| *n == wire.condition).map(|(c, _)| c.clone());
        Ok(Self {
            node: wire.node,
            condition: known("condition", wire.condition, condition)?,
            container: wire.container.map(Into::into),
            detail: wire.detail,
        })
    }
}
