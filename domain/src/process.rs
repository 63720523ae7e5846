//! Who did it: the process behind a behaviour.

use serde::{Deserialize, Serialize};

/// How a process came to be in its container.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The container's own first process.
    Started,
    /// Forked by a process that was inside already.
    Spawned,
    /// Came from outside: engine exec, health check, debugger.
    Entered,
    /// Not known: it ran before the probes did.
    #[default]
    Unknown,
}

impl Origin {
    /// The word for this origin.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Spawned => "spawned",
            Self::Entered => "entered",
            Self::Unknown => "unknown",
        }
    }
}

/// A process as an alert names it. Paths were chosen by the container: hostile text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Thread-group id in the node's pid namespace.
    pub pid: u32,
    /// Path of the executable, as the kernel resolved it.
    pub executable: String,
    /// Path of the parent's executable; empty when unknown.
    pub parent: String,
    /// Effective user id in the node's user namespace.
    pub uid: u32,
    /// How it came to be here.
    pub origin: Origin,
    /// The engine's own exec event and its user vouch for an entered process.
    pub engine_exec: bool,
}
