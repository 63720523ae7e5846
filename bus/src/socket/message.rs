//! The frames of the socket, and how one is read and written.

use std::io;

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::contract::{
    Batch, BusError, Commit, FETCH_BYTES_MAX, Position, RECORD_BYTES_MAX, Record, Topic,
};
use crate::frame::{self, HeaderFrame, OutgoingFrame};

/// Largest frame: a fetch that ends with the largest record, and room for its envelope.
pub(super) const FRAME_BYTES_MAX: usize = FETCH_BYTES_MAX + RECORD_BYTES_MAX + (1 << 20);

#[derive(Clone, PartialEq, Message)]
pub(super) struct Ask {
    /// Names the answer; never 0.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(oneof = "Question", tags = "2, 3, 4, 5, 6, 7")]
    pub(super) question: Option<Question>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Question {
    #[prost(message, tag = "2")]
    Partitions(At),
    #[prost(message, tag = "3")]
    Publish(Write),
    #[prost(message, tag = "4")]
    Fetch(At),
    #[prost(message, tag = "5")]
    Watch(At),
    #[prost(message, tag = "6")]
    Committed(At),
    #[prost(message, tag = "7")]
    Transact(Write),
}

/// A place in the log; which of its fields count depends on the question.
#[derive(Clone, PartialEq, Message)]
pub(super) struct At {
    #[prost(uint32, tag = "1")]
    pub(super) topic: u32,
    #[prost(uint32, tag = "2")]
    pub(super) partition: u32,
    #[prost(uint64, tag = "3")]
    pub(super) offset: u64,
    #[prost(string, tag = "4")]
    pub(super) group: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Write {
    #[prost(message, repeated, tag = "1")]
    pub(super) records: Vec<OutgoingFrame>,
    #[prost(string, tag = "2")]
    pub(super) group: String,
    /// The offset is the next one wanted.
    #[prost(message, repeated, tag = "3")]
    pub(super) commits: Vec<At>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Tell {
    /// The question's; 0 for what nobody asked.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(oneof = "Answer", tags = "2, 3, 4, 5, 6, 7")]
    pub(super) answer: Option<Answer>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Answer {
    /// A number: partitions.
    #[prost(uint32, tag = "2")]
    Number(u32),
    /// Where each record lies.
    #[prost(message, tag = "3")]
    Positions(Places),
    #[prost(message, tag = "4")]
    Batch(BatchFrame),
    /// The high watermark of a watched partition.
    #[prost(message, tag = "5")]
    Advanced(At),
    #[prost(message, tag = "6")]
    Offset(MaybeOffset),
    #[prost(message, tag = "7")]
    Error(ErrorFrame),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Places {
    #[prost(message, repeated, tag = "1")]
    pub(super) places: Vec<At>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct MaybeOffset {
    #[prost(uint64, optional, tag = "1")]
    pub(super) offset: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BatchFrame {
    #[prost(message, repeated, tag = "1")]
    pub(super) records: Vec<RecordFrame>,
    #[prost(uint64, tag = "2")]
    pub(super) next: u64,
    #[prost(uint64, tag = "3")]
    pub(super) high_watermark: u64,
    #[prost(uint64, tag = "4")]
    pub(super) log_start: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RecordFrame {
    #[prost(uint64, tag = "1")]
    pub(super) offset: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) key: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    pub(super) headers: Vec<HeaderFrame>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) value: Option<Vec<u8>>,
}

/// An error by number, with the parts of its message.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ErrorFrame {
    #[prost(uint32, tag = "1")]
    pub(super) number: u32,
    #[prost(string, repeated, tag = "2")]
    pub(super) texts: Vec<String>,
    #[prost(uint64, repeated, tag = "3")]
    pub(super) numbers: Vec<u64>,
}

impl From<Position> for At {
    fn from(position: Position) -> Self {
        Self {
            topic: position.topic as u32,
            partition: position.partition,
            offset: position.offset,
            group: String::new(),
        }
    }
}

impl TryFrom<At> for Position {
    type Error = BusError;

    fn try_from(at: At) -> Result<Self, BusError> {
        Ok(Self { topic: frame::topic(at.topic)?, partition: at.partition, offset: at.offset })
    }
}

impl From<Commit> for At {
    fn from(commit: Commit) -> Self {
        Position { topic: commit.topic, partition: commit.partition, offset: commit.next }.into()
    }
}

impl TryFrom<At> for Commit {
    type Error = BusError;

    fn try_from(at: At) -> Result<Self, BusError> {
        let Position { topic, partition, offset } = at.try_into()?;
        Ok(Self { topic, partition, next: offset })
    }
}

impl From<Batch> for BatchFrame {
    fn from(batch: Batch) -> Self {
        let records = batch.records.into_iter().map(|record| RecordFrame {
            offset: record.position.offset,
            key: record.key,
            headers: frame::header_frames(&record.headers),
            value: record.value,
        });
        Self {
            records: records.collect(),
            next: batch.next,
            high_watermark: batch.high_watermark,
            log_start: batch.log_start,
        }
    }
}

impl BatchFrame {
    pub(super) fn batch(self, topic: Topic, partition: u32) -> Batch {
        let records = self.records.into_iter().map(|record| Record {
            position: Position { topic, partition, offset: record.offset },
            key: record.key,
            headers: frame::headers(record.headers),
            value: record.value,
        });
        Batch {
            records: records.collect(),
            next: self.next,
            high_watermark: self.high_watermark,
            log_start: self.log_start,
        }
    }
}

impl From<BusError> for ErrorFrame {
    fn from(error: BusError) -> Self {
        let (number, texts, numbers) = match error {
            BusError::Full { path } => (1, vec![path], vec![]),
            BusError::Corrupt { path, cause } => (2, vec![path, cause], vec![]),
            BusError::Storage { path, cause } => (3, vec![path, cause], vec![]),
            BusError::Away { path } => (4, vec![path], vec![]),
            BusError::Refused { role, operation, topic } => {
                (5, vec![role, operation, topic], vec![])
            }
            BusError::TooLarge { bytes } => (6, vec![], vec![bytes as u64]),
            BusError::Partition { topic, partition } => (7, vec![topic], vec![partition.into()]),
            BusError::Beyond { topic, next, high_watermark } => {
                (8, vec![topic], vec![next, high_watermark])
            }
            BusError::Protocol(text) => (9, vec![text], vec![]),
            BusError::Closed => (10, vec![], vec![]),
        };
        Self { number, texts, numbers }
    }
}

impl From<ErrorFrame> for BusError {
    fn from(frame: ErrorFrame) -> Self {
        let text = |at: usize| frame.texts.get(at).cloned().unwrap_or_default();
        let number = |at: usize| frame.numbers.get(at).copied().unwrap_or_default();
        match frame.number {
            1 => Self::Full { path: text(0) },
            2 => Self::Corrupt { path: text(0), cause: text(1) },
            3 => Self::Storage { path: text(0), cause: text(1) },
            4 => Self::Away { path: text(0) },
            5 => Self::Refused { role: text(0), operation: text(1), topic: text(2) },
            6 => Self::TooLarge { bytes: number(0) as usize },
            7 => Self::Partition { topic: text(0), partition: number(0) as u32 },
            8 => Self::Beyond { topic: text(0), next: number(0), high_watermark: number(1) },
            10 => Self::Closed,
            other => Self::Protocol(format!("error number {other}: {}", text(0))),
        }
    }
}

/// Reads one frame; `None` at the end of the stream.
pub(super) async fn read<M: Message + Default>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<M>> {
    let length = match stream.read_u32().await {
        Ok(length) => length as usize,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > FRAME_BYTES_MAX {
        let text = format!("a frame of {length} bytes is over the bound of {FRAME_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    // Grown as bytes arrive: a length alone claims no memory.
    let mut bytes = Vec::new();
    (&mut *stream).take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    M::decode(bytes.as_slice()).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Writes one frame.
pub(super) async fn write<M: Message>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> io::Result<()> {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(length + 4);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    message.encode(&mut bytes).expect("a vector grows as needed");
    stream.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_crosses_the_socket() {
        for error in [
            BusError::Full { path: "/p".into() },
            BusError::Corrupt { path: "/p".into(), cause: "c".into() },
            BusError::Storage { path: "/p".into(), cause: "c".into() },
            BusError::Away { path: "/p".into() },
            BusError::Refused { role: "r".into(), operation: "o".into(), topic: "t".into() },
            BusError::TooLarge { bytes: 9 },
            BusError::Partition { topic: "t".into(), partition: 3 },
            BusError::Beyond { topic: "t".into(), next: 9, high_watermark: 4 },
            BusError::Closed,
        ] {
            assert_eq!(BusError::from(ErrorFrame::from(error.clone())), error);
        }
    }

    #[tokio::test]
    async fn a_frame_reads_back_and_a_cut_or_huge_one_is_an_error() {
        let tell = Tell { id: 7, answer: Some(Answer::Number(3)) };
        let mut bytes = Vec::new();
        write(&mut bytes, &tell).await.unwrap();
        assert_eq!(read::<Tell>(&mut bytes.as_slice()).await.unwrap(), Some(tell));
        assert!(read::<Tell>(&mut &bytes[..bytes.len() - 1]).await.is_err());
        assert_eq!(read::<Tell>(&mut &bytes[..0]).await.unwrap(), None);
        let huge = u32::MAX.to_be_bytes();
        assert!(read::<Tell>(&mut huge.as_slice()).await.is_err());
    }
}
