//! Identity of what is published: one producer, one epoch, one growing number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names one published record for ever.
///
/// Deduplication is one high-water mark per producer, not a set: within a producer, `(epoch, sequence)` only grows.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct EventId {
    /// Hash of cluster, node and role.
    pub producer: u64,
    /// Grows at each start of the producer (durably counted, not a clock).
    pub epoch: u64,
    /// Grows by one within an epoch.
    pub sequence: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}-{}", self.producer, self.epoch, self.sequence)
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.to_string()
    }
}

/// A text that is not an event id.
#[derive(Debug, thiserror::Error)]
#[error("not an event id: expected producer-epoch-sequence")]
pub struct EventIdError;

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, EventIdError> {
        let mut parts = text.split('-');
        let (Some(producer), Some(epoch), Some(sequence), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(EventIdError);
        };
        Ok(Self {
            producer: u64::from_str_radix(producer, 16).map_err(|_| EventIdError)?,
            epoch: epoch.parse().map_err(|_| EventIdError)?,
            sequence: sequence.parse().map_err(|_| EventIdError)?,
        })
    }
}

impl TryFrom<String> for EventId {
    type Error = EventIdError;

    fn try_from(text: String) -> Result<Self, EventIdError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let id = EventId { producer: 0xfeed, epoch: 3, sequence: 99 };
        assert_eq!(id.to_string().parse::<EventId>().unwrap(), id);
        assert!("feed-3".parse::<EventId>().is_err());
    }
}
