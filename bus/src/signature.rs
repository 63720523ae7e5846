//! Who may decide: Ed25519 signatures of measures, their tombstones and operators' intents.
//!
//! The private key is the controllers'; agents hold the public one. What is signed is the topic, the key and the content,
//! so a signature cannot be moved to another record. Measures name their cluster and their end inside the content.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use thiserror::Error;

use crate::contract::{Headers, Outgoing, Record, Topic};
use crate::wire::header;

/// Separates these signatures from any other use of the same key.
const CONTEXT: &[u8] = b"bulkhead record 1\0";

const PRIVATE_LABEL: &str = "bulkhead-ed25519-private";
const PUBLIC_LABEL: &str = "bulkhead-ed25519-public";

/// Why a record is not trusted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// No signature at all.
    #[error("not signed: only the controllers of this cluster may decide")]
    Unsigned,
    /// Another key, or other bytes than were signed.
    #[error("the signature is not by this cluster's key, or not over this record")]
    Wrong,
    /// Decided for another cluster.
    #[error("decided for another cluster")]
    Cluster,
}

/// Why a key file cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Cannot be read or written.
    #[error("cannot use key file {path}")]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Not such a key.
    #[error(
        "{path} is not a key that bulkhead wrote: remove it, and a new pair is made at the next start"
    )]
    Corrupt {
        /// File.
        path: PathBuf,
    },
}

/// The private key.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    /// A key from 32 bytes of entropy.
    pub fn from_entropy(entropy: [u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(&entropy) }
    }

    /// Reads the private key's file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        read(path, PRIVATE_LABEL).map(Self::from_entropy)
    }

    /// Writes a new private key's file that only its owner reads; refuses to replace one.
    pub fn create(&self, path: &Path) -> Result<(), KeyError> {
        write(path, PRIVATE_LABEL, self.key.as_bytes(), 0o600)
    }

    /// The public half.
    pub fn verifier(&self) -> Verifier {
        Verifier { key: self.key.verifying_key() }
    }

    /// Signs a record.
    pub fn sign(&self, record: &mut Outgoing) {
        let bytes =
            signed(record.topic, &record.key, content(&record.headers, record.value.as_deref()));
        record.headers.set(header::SIGNATURE, self.key.sign(&bytes).to_bytes());
    }
}

/// The public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verifier {
    key: VerifyingKey,
}

impl Verifier {
    /// Reads the public key's file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let bytes = read(path, PUBLIC_LABEL)?;
        let key = VerifyingKey::from_bytes(&bytes)
            .map_err(|_| KeyError::Corrupt { path: path.to_owned() })?;
        Ok(Self { key })
    }

    /// Writes the public key's file, readable by all; refuses to replace one.
    pub fn create(&self, path: &Path) -> Result<(), KeyError> {
        write(path, PUBLIC_LABEL, self.key.as_bytes(), 0o644)
    }

    /// Checks that a controller of this cluster has signed this record.
    pub fn verify(&self, record: &Record) -> Result<(), SignatureError> {
        let signature = record.headers.find(header::SIGNATURE).ok_or(SignatureError::Unsigned)?;
        let signature = Signature::from_slice(signature).map_err(|_| SignatureError::Wrong)?;
        let content = content(&record.headers, record.value.as_deref());
        let bytes = signed(record.position.topic, &record.key, content);
        self.key.verify_strict(&bytes, &signature).map_err(|_| SignatureError::Wrong)
    }
}

/// What a record says: its value, or what its tombstone tells.
fn content<'a>(headers: &'a Headers, value: Option<&'a [u8]>) -> (u8, &'a [u8]) {
    match value {
        Some(value) => (1, value),
        None => (0, headers.find(header::TOMBSTONE).unwrap_or_default()),
    }
}

fn signed(topic: Topic, key: &[u8], (kind, content): (u8, &[u8])) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CONTEXT.len() + key.len() + content.len() + 64);
    bytes.extend_from_slice(CONTEXT);
    for part in [topic.name().as_bytes(), key, &[kind], content] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

fn write(path: &Path, label: &str, key: &[u8; 32], mode: u32) -> Result<(), KeyError> {
    let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
    let put = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        writeln!(file, "{label} {hex}")?;
        file.sync_all()
    };
    put().map_err(|source| KeyError::Io { path: path.to_owned(), source })
}

fn read(path: &Path, label: &str) -> Result<[u8; 32], KeyError> {
    let bytes = fs::read(path).map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
    let corrupt = || KeyError::Corrupt { path: path.to_owned() };
    let text = String::from_utf8(bytes).map_err(|_| corrupt())?;
    let hex = text.trim_end().strip_prefix(label).ok_or_else(corrupt)?.trim();
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(corrupt());
    }
    let mut key = [0; 32];
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).map_err(|_| corrupt())?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use bulkhead_domain::WorkloadId;

    use super::*;
    use crate::contract::Position;

    fn outgoing(key: &[u8], value: Option<&[u8]>) -> Outgoing {
        Outgoing {
            topic: Topic::Measures,
            key: key.to_vec(),
            route: WorkloadId(1),
            headers: Headers::new(),
            value: value.map(<[u8]>::to_vec),
        }
    }

    fn arrived(record: &Outgoing) -> Record {
        Record {
            position: Position { topic: record.topic, partition: 0, offset: 0 },
            key: record.key.clone(),
            headers: record.headers.clone(),
            value: record.value.clone(),
        }
    }

    #[test]
    fn a_signed_record_is_trusted_and_a_changed_one_is_not() {
        let signer = Signer::from_entropy([7; 32]);
        let mut record = outgoing(b"m-1", Some(b"deny"));
        signer.sign(&mut record);
        let genuine = arrived(&record);
        let verifier = signer.verifier();
        assert_eq!(verifier.verify(&genuine), Ok(()));
        for forged in [
            Record { value: Some(b"allow".to_vec()), ..genuine.clone() },
            Record { value: None, ..genuine.clone() },
            Record { key: b"m-2".to_vec(), ..genuine.clone() },
            Record {
                position: Position { topic: Topic::Observations, ..genuine.position },
                ..genuine.clone()
            },
        ] {
            assert_eq!(verifier.verify(&forged), Err(SignatureError::Wrong), "{forged:?}");
        }
    }

    #[test]
    fn a_tombstone_is_signed_with_what_it_tells() {
        let signer = Signer::from_entropy([7; 32]);
        let mut record = outgoing(b"m-1", None);
        record.headers.set(header::TOMBSTONE, b"released".as_slice());
        signer.sign(&mut record);
        let mut arrived = arrived(&record);
        assert_eq!(signer.verifier().verify(&arrived), Ok(()));
        arrived.headers.set(header::TOMBSTONE, b"something else".as_slice());
        assert_eq!(signer.verifier().verify(&arrived), Err(SignatureError::Wrong));
    }

    #[test]
    fn no_signature_and_another_key_are_refused_by_name() {
        let (ours, theirs) = (Signer::from_entropy([1; 32]), Signer::from_entropy([2; 32]));
        let mut record = outgoing(b"m-1", Some(b"deny"));
        assert_eq!(ours.verifier().verify(&arrived(&record)), Err(SignatureError::Unsigned));
        theirs.sign(&mut record);
        assert_eq!(ours.verifier().verify(&arrived(&record)), Err(SignatureError::Wrong));
        record.headers.set(header::SIGNATURE, b"short".as_slice());
        assert_eq!(ours.verifier().verify(&arrived(&record)), Err(SignatureError::Wrong));
    }

    #[test]
    fn key_files_read_back_and_the_private_one_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = (dir.path().join("key"), dir.path().join("key.pub"));
        let signer = Signer::from_entropy([9; 32]);
        signer.create(&private).unwrap();
        signer.verifier().create(&public).unwrap();
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Signer::load(&private).unwrap().verifier(), signer.verifier());
        assert_eq!(Verifier::load(&public).unwrap(), signer.verifier());
    }

    #[test]
    fn a_key_file_is_never_replaced_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let signer = Signer::from_entropy([9; 32]);
        signer.create(&path).unwrap();
        assert!(matches!(signer.create(&path), Err(KeyError::Io { .. })));
        assert!(
            matches!(Verifier::load(&path), Err(KeyError::Corrupt { .. })),
            "not the public one"
        );
        fs::write(&path, "bulkhead-ed25519-private é").unwrap();
        let error = Signer::load(&path).unwrap_err();
        assert!(error.to_string().contains("remove it"), "{error}");
    }
}
