//! Which node runs what.

use bulkhead_domain::Timestamp;
use bulkhead_domain::inventory::{InventoryRecord, LifeState};

use super::container::ContainerWire;
use super::{Unreadable, known, need};

/// The type of an inventory record.
pub(crate) const TYPE: &str = "bulkhead.inventory";

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InventoryWire {
    #[prost(message, optional, tag = "1")]
    pub(crate) container: Option<ContainerWire>,
    /// 1 running, 2 stopped.
    #[prost(uint32, tag = "2")]
    pub(crate) state: u32,
    #[prost(fixed64, tag = "3")]
    pub(crate) at_ns: u64,
}

impl From<&InventoryRecord> for InventoryWire {
    fn from(record: &InventoryRecord) -> Self {
        Self {
            container: Some((&record.container).into()),
            state: match record.state {
                LifeState::Running => 1,
                LifeState::Stopped => 2,
            },
            at_ns: record.at.0,
        }
    }
}

impl TryFrom<InventoryWire> for InventoryRecord {
    type Error = Unreadable;

    fn try_from(wire: InventoryWire) -> Result<Self, Unreadable> {
        let state = match wire.state {
            1 => Some(LifeState::Running),
            2 => Some(LifeState::Stopped),
            _ => None,
        };
        Ok(Self {
            container: need("container", wire.container)?.try_into()?,
            state: known("state", wire.state, state)?,
            at: Timestamp(wire.at_ns),
        })
    }
}
