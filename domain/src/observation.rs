//! The one ordered input of the detector, per workload: everything that its engine may read.

use serde::{Deserialize, Serialize};

use crate::behaviour::Behaviour;
use crate::container::{Container, ContainerKey};
use crate::event::EventId;
use crate::health::Health;
use crate::intent::Intent;
use crate::window::Window;
use crate::{Timestamp, WorkloadName};

/// What one record of the topic `observations` holds, by record kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// A discrete act, scored on arrival.
    Behaviour(ContainerKey, Behaviour),
    /// A closed window, scored when it arrives.
    Window(ContainerKey, Window),
    /// A container of the workload started.
    Started(Container),
    /// A container of the workload ended.
    Stopped(ContainerKey),
    /// What an operator wants.
    Intent(Intent),
    /// What an agent says about itself.
    Health(Health),
}

/// One record: who published it, about which workload, when it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Identity, for deduplication by high-water mark.
    pub id: EventId,
    /// The workload, resolved before publication.
    pub workload: WorkloadName,
    /// Event time: an argument of the detector; log order is the truth.
    pub at: Timestamp,
    /// The content.
    pub body: Body,
}
