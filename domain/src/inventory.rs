//! Which node runs what: the compacted record of one container.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::container::Container;

/// A change of a container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LifeState {
    /// It runs.
    Running,
    /// It ended.
    Stopped,
}

/// The latest word about one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryRecord {
    /// The container.
    pub container: Container,
    /// Whether it runs.
    pub state: LifeState,
    /// When that was seen.
    pub at: Timestamp,
}
