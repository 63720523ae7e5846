//! Frames on the socket: four bytes of length, big endian, then JSON.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Longest request: a request is a handful of names.
pub const REQUEST_BYTES_MAX: u32 = 1 << 20;

/// Longest answer: a list of alerts or a baseline, both bounded where they are kept.
pub const ANSWER_BYTES_MAX: u32 = 64 << 20;

/// What is wrong with a frame.
#[derive(Debug, Error)]
pub enum FrameError {
    /// Too long.
    #[error("frame of {length} bytes is longer than {max}")]
    TooLong {
        /// Its length.
        length: u64,
        /// The bound.
        max: u32,
    },
    /// Not the JSON that was expected.
    #[error("frame is not the expected JSON")]
    Json(#[from] serde_json::Error),
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The bytes of one frame, length included.
pub fn encode<T: Serialize>(value: &T, max: u32) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value)?;
    let length = bytes.len() - 4;
    match u32::try_from(length) {
        Ok(fits) if fits <= max => bytes[..4].copy_from_slice(&fits.to_be_bytes()),
        _ => return Err(FrameError::TooLong { length: length as u64, max }),
    }
    Ok(bytes)
}

/// The length that a header announces, within the bound.
pub fn length(header: [u8; 4], max: u32) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(header);
    if length > max {
        return Err(FrameError::TooLong { length: u64::from(length), max });
    }
    Ok(length as usize)
}

/// The value of a frame's body.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Call, PROTOCOL, Request};

    #[test]
    fn a_call_reads_back() {
        let call =
            Call { protocol: PROTOCOL, request: Request::Workloads { workload: Some("w".into()) } };
        let bytes = encode(&call, REQUEST_BYTES_MAX).unwrap();
        let n = length(bytes[..4].try_into().unwrap(), REQUEST_BYTES_MAX).unwrap();
        assert_eq!(n, bytes.len() - 4);
        assert_eq!(decode::<Call>(&bytes[4..]).unwrap(), call);
    }

    #[test]
    fn a_frame_beyond_the_bound_is_refused_on_both_sides() {
        assert!(matches!(encode(&"x".repeat(100), 50), Err(FrameError::TooLong { .. })));
        assert!(matches!(length([0xff; 4], 50), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(decode::<Call>(b"\xff{").is_err());
        assert!(decode::<Call>(br#"{"protocol":1,"request":"fly"}"#).is_err());
    }
}
