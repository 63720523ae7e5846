//! Records as bytes: what the embedded log stores and the local socket carries.

use bulkhead_domain::WorkloadId;

use crate::contract::{BusError, Headers, Outgoing, Topic};

/// A header.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HeaderFrame {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// A record in the log.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredFrame {
    /// When the log took it: what retention goes by.
    #[prost(fixed64, tag = "1")]
    pub(crate) appended_ns: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) key: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) headers: Vec<HeaderFrame>,
    /// Absent in a tombstone.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(crate) value: Option<Vec<u8>>,
}

/// A record on its way.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OutgoingFrame {
    #[prost(uint32, tag = "1")]
    pub(crate) topic: u32,
    #[prost(fixed64, tag = "2")]
    pub(crate) route: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) key: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) headers: Vec<HeaderFrame>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(crate) value: Option<Vec<u8>>,
}

pub(crate) fn header_frames(headers: &Headers) -> Vec<HeaderFrame> {
    headers
        .iter()
        .map(|(name, value)| HeaderFrame { name: name.to_owned(), value: value.to_vec() })
        .collect()
}

pub(crate) fn headers(frames: Vec<HeaderFrame>) -> Headers {
    frames.into_iter().map(|h| (h.name, h.value)).collect()
}

pub(crate) fn topic(number: u32) -> Result<Topic, BusError> {
    Topic::from_number(number).ok_or_else(|| BusError::Protocol(format!("topic number {number}")))
}

impl From<Outgoing> for OutgoingFrame {
    fn from(record: Outgoing) -> Self {
        Self {
            topic: record.topic as u32,
            route: record.route.0,
            key: record.key,
            headers: header_frames(&record.headers),
            value: record.value,
        }
    }
}

impl TryFrom<OutgoingFrame> for Outgoing {
    type Error = BusError;

    fn try_from(frame: OutgoingFrame) -> Result<Self, BusError> {
        Ok(Self {
            topic: topic(frame.topic)?,
            key: frame.key,
            route: WorkloadId(frame.route),
            headers: headers(frame.headers),
            value: frame.value,
        })
    }
}
