//! The pure vocabulary of the loop: workloads, behaviours, windows, scores, alerts, measures.
//!
//! Values only: nothing here reads a clock, draws a random number or touches a file, so every decision that is made on
//! these types can be replayed. Rooms meet by exchanging these values on the bus; they never import one another.
//!
//! The `serde` derives are the JSON that a person and the API see (`-o json`, the ledger, the audit log). What travels on
//! the bus has twins of its own in `bus::wire`, so that the wire can evolve apart from the code.
#![forbid(unsafe_code)]

pub mod alert;
pub mod audit;
pub mod baseline;
pub mod behaviour;
pub mod budget;
pub mod container;
pub mod duration;
pub mod event;
pub mod feature;
pub mod guardrail;
pub mod health;
pub mod intent;
pub mod inventory;
pub mod measure;
pub mod net;
pub mod observation;
pub mod plan;
pub mod process;
pub mod score;
pub mod text;
pub mod time;
mod unbounded;
pub mod verdict;
pub mod view;
pub mod window;
pub mod workload;

pub use alert::{Alert, AlertId};
pub use behaviour::{Behaviour, BehaviourKind};
pub use container::{Container, ContainerKey};
pub use event::EventId;
pub use measure::{Measure, MeasureId};
pub use observation::Observation;
pub use time::Timestamp;
pub use window::Window;
pub use workload::{Mode, WorkloadId, WorkloadName};
