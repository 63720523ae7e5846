//! Who did what, when and why.

use bulkhead_domain::Timestamp;
use bulkhead_domain::audit::AuditEntry;

/// The type of an audit entry.
pub(crate) const TYPE: &str = "bulkhead.audit";

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AuditWire {
    #[prost(fixed64, tag = "1")]
    pub(crate) at_ns: u64,
    #[prost(string, tag = "2")]
    pub(crate) node: String,
    #[prost(string, tag = "3")]
    pub(crate) who: String,
    #[prost(string, tag = "4")]
    pub(crate) what: String,
    #[prost(string, tag = "5")]
    pub(crate) object: String,
    #[prost(string, tag = "6")]
    pub(crate) why: String,
    #[prost(string, tag = "7")]
    pub(crate) result: String,
}

impl From<&AuditEntry> for AuditWire {
    fn from(entry: &AuditEntry) -> Self {
        Self {
            at_ns: entry.at.0,
            node: entry.node.clone(),
            who: entry.who.clone(),
            what: entry.what.clone(),
            object: entry.object.clone(),
            why: entry.why.clone(),
            result: entry.result.clone(),
        }
    }
}

impl From<AuditWire> for AuditEntry {
    fn from(wire: AuditWire) -> Self {
        Self {
            at: Timestamp(wire.at_ns),
            node: wire.node,
            who: wire.who,
            what: wire.what,
            object: wire.object,
            why: wire.why,
            result: wire.result,
        }
    }
}
