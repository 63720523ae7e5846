//! Who did what, when and why: the append-only record.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Node.
    pub node: String,
    /// User or component.
    pub who: String,
    /// What was done, in the words of the command line.
    pub what: String,
    /// To what.
    pub object: String,
    /// Reason given.
    pub why: String,
    /// `done`, `refused` or `failed`, with the cause.
    pub result: String,
}
