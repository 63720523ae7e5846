//! A baseline with its models as bytes: versioned, checked against the feature set, and checksummed.
//!
//! Layout: magic `BULKMODL`, format version (u16), reserved (u16), feature set (u64), payload length (u32), SHA-256 of
//! what comes before and of the payload, then the payload (postcard). All little endian. What does not check out is an
//! error that says what to do; nothing of it is used.

use bulkhead_domain::feature::FeatureSetId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// Version of the payload's layout: raised with every change of what is serialised.
pub const VERSION: u16 = 1;

/// Largest artifact: what a bus record may carry.
pub const BYTES_MAX: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"BULKMODL";
const HEADER: usize = 8 + 2 + 2 + 8 + 4;

/// Why bytes are no artifact of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArtifactError {
    /// Not an artifact.
    #[error("not a model artifact: the first bytes are not `BULKMODL`")]
    Magic,
    /// Cut off.
    #[error("the model artifact is cut off: {got} bytes of {wanted}")]
    Truncated {
        /// Bytes there.
        got: usize,
        /// Bytes that its header asks for.
        wanted: usize,
    },
    /// Another version.
    #[error(
        "the model artifact has format {0}, this version reads {VERSION}: learn again, or use the version that wrote it"
    )]
    Version(u16),
    /// Another feature set.
    #[error(
        "the model was learned on feature set {got:016x}, windows here are of {wanted:016x}: the window step or the features changed; learn again"
    )]
    FeatureSet {
        /// The model's.
        got: u64,
        /// The engine's.
        wanted: u64,
    },
    /// Damaged.
    #[error(
        "the model artifact is damaged: its checksum does not match; restore a copy, or learn again"
    )]
    Checksum,
    /// Too large.
    #[error(
        "the model artifact would have {0} bytes, more than the {BYTES_MAX} that a record may have"
    )]
    TooLarge(usize),
    /// Checksum right, content not.
    #[error("the model artifact cannot be read: {0}")]
    Payload(String),
}

/// Writes an artifact.
pub fn write<T: Serialize>(value: &T, feature_set: FeatureSetId) -> Result<Vec<u8>, ArtifactError> {
    let payload = postcard::to_stdvec(value).map_err(|e| ArtifactError::Payload(e.to_string()))?;
    let size = HEADER + 32 + payload.len();
    if size > BYTES_MAX {
        return Err(ArtifactError::TooLarge(size));
    }
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&feature_set.0.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let checksum = checksum(&bytes, &payload);
    bytes.extend_from_slice(&checksum);
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

/// Reads an artifact that was learned on `feature_set`.
pub fn read<T: DeserializeOwned>(
    bytes: &[u8],
    feature_set: FeatureSetId,
) -> Result<T, ArtifactError> {
    if bytes.len() < 8 || &bytes[..8] != MAGIC {
        return Err(ArtifactError::Magic);
    }
    if bytes.len() < HEADER + 32 {
        return Err(ArtifactError::Truncated { got: bytes.len(), wanted: HEADER + 32 });
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version != VERSION {
        return Err(ArtifactError::Version(version));
    }
    let length = u32::from_le_bytes(bytes[20..24].try_into().expect("four bytes")) as usize;
    let wanted = HEADER + 32 + length;
    if bytes.len() != wanted {
        return Err(ArtifactError::Truncated { got: bytes.len(), wanted });
    }
    let (header, rest) = bytes.split_at(HEADER);
    let (sum, payload) = rest.split_at(32);
    if checksum(header, payload) != sum {
        return Err(ArtifactError::Checksum);
    }
    let set = u64::from_le_bytes(bytes[12..20].try_into().expect("eight bytes"));
    if set != feature_set.0 {
        return Err(ArtifactError::FeatureSet { got: set, wanted: feature_set.0 });
    }
    postcard::from_bytes(payload).map_err(|e| ArtifactError::Payload(e.to_string()))
}

/// The checksum in hex: what an alert names as its model's version.
pub fn version_of(bytes: &[u8]) -> String {
    bytes.get(HEADER..HEADER + 8).unwrap_or_default().iter().map(|b| format!("{b:02x}")).collect()
}

fn checksum(header: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: FeatureSetId = FeatureSetId(77);

    fn artifact() -> Vec<u8> {
        write(&vec![1_u32, 2, 3], SET).unwrap()
    }

    #[test]
    fn reads_back_what_it_writes() {
        assert_eq!(read::<Vec<u32>>(&artifact(), SET), Ok(vec![1, 2, 3]));
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let bytes = artifact();
        for i in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[i / 8] ^= 1 << (i % 8);
            assert!(read::<Vec<u32>>(&damaged, SET).is_err(), "bit {i}");
        }
    }

    #[test]
    fn any_cut_is_found() {
        let bytes = artifact();
        for n in 0..bytes.len() {
            assert!(read::<Vec<u32>>(&bytes[..n], SET).is_err(), "{n} bytes");
        }
    }

    #[test]
    fn another_step_or_version_says_what_to_do() {
        let error = read::<Vec<u32>>(&artifact(), FeatureSetId(78)).unwrap_err();
        assert!(error.to_string().contains("learn again"), "{error}");
        let mut newer = artifact();
        newer[8] = 9;
        assert_eq!(read::<Vec<u32>>(&newer, SET), Err(ArtifactError::Version(9)));
    }

    #[test]
    fn what_no_record_could_carry_is_refused() {
        assert!(matches!(write(&vec![0_u8; BYTES_MAX], SET), Err(ArtifactError::TooLarge(_))));
    }
}
