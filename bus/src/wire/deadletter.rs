//! What was refused or did not parse: the record as it came, and why.

use bulkhead_domain::Timestamp;

/// The type of a dead letter.
pub(crate) const TYPE: &str = "bulkhead.deadletter";

/// Bytes of the refused value that are kept: enough to see what it was.
pub(crate) const VALUE_BYTES_MAX: usize = 64 * 1024;

/// A refused record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Name of the topic that it came from.
    pub topic: String,
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: u64,
    /// Why it was refused, for a person.
    pub reason: String,
    /// Who refused it.
    pub by: String,
    /// When it was refused.
    pub at: Timestamp,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value, cut to 64 KiB.
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeadLetterWire {
    #[prost(string, tag = "1")]
    pub(crate) topic: String,
    #[prost(uint32, tag = "2")]
    pub(crate) partition: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) offset: u64,
    #[prost(string, tag = "4")]
    pub(crate) reason: String,
    #[prost(string, tag = "5")]
    pub(crate) by: String,
    #[prost(fixed64, tag = "6")]
    pub(crate) at_ns: u64,
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")]
    pub(crate) value: Vec<u8>,
}

impl From<&DeadLetter> for DeadLetterWire {
    fn from(letter: &DeadLetter) -> Self {
        let kept = letter.value.len().min(VALUE_BYTES_MAX);
        Self {
            topic: letter.topic.clone(),
            partition: letter.partition,
            offset: letter.offset,
            reason: letter.reason.clone(),
            by: letter.by.clone(),
            at_ns: letter.at.0,
            key: letter.key.clone(),
            value: letter.value[..kept].to_vec(),
        }
    }
}

impl From<DeadLetterWire> for DeadLetter {
    fn from(wire: DeadLetterWire) -> Self {
        Self {
            topic: wire.topic,
            partition: wire.partition,
            offset: wire.offset,
            reason: wire.reason,
            by: wire.by,
            at: Timestamp(wire.at_ns),
            key: wire.key,
            value: wire.value,
        }
    }
}
