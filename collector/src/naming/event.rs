//! What engines report, whichever engine and however it was read.

use bulkhead_domain::container::Engine;

use super::description::Description;

/// Something that happened to a container, before the engine is asked for details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was made, started or changed: ask for its description.
    Changed(String),
    /// Its processes ended.
    Ended(String),
    /// It is gone, and its id will not come back.
    Removed(String),
    /// The engine was asked to run a command inside it.
    Exec {
        /// The container.
        container: String,
        /// The exec session, where the engine says it.
        session: Option<String>,
    },
}

/// A command that the engine itself was asked to run inside a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// The container's id.
    pub container: String,
    /// Processes of its sessions in this pid namespace; empty where the engine did not say.
    pub pids: Vec<u32>,
    /// The user it was asked for; empty is the container's own.
    pub user: String,
}

impl Exec {
    /// An exec of which only the container is known.
    pub fn of(container: &str) -> Self {
        Self { container: container.into(), ..Self::default() }
    }
}

/// What an engine's follower tells the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// This is what the engine knows of a container now.
    Described(Box<Description>),
    /// The engine was asked for this container and does not know it.
    Absent(Engine, String),
    /// A container's processes ended.
    Ended(String),
    /// A container is gone.
    Removed(String),
    /// The engine ran a command inside a container.
    Exec(Exec),
    /// The engine cannot be reached.
    Lost(Engine, String),
    /// The engine answers again.
    Back(Engine),
}
