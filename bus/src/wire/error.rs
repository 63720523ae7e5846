//! Why a record was not understood: the reason that goes with it to `deadletter`.

use thiserror::Error;

/// A record that this version cannot read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unreadable {
    /// No `schema-version` header, or one that is not `MAJOR.MINOR`.
    #[error("the header schema-version is missing or not MAJOR.MINOR")]
    Version,
    /// A newer layout.
    #[error("schema version {found} is not understood here (1.x is): upgrade this reader first")]
    Major {
        /// The header's text.
        found: String,
    },
    /// Another type of record than the topic holds.
    #[error("record type `{found}` does not belong into this topic")]
    Type {
        /// The header's text.
        found: String,
    },
    /// Not the bytes of a message.
    #[error("not a message of this type: {0}")]
    Malformed(String),
    /// A field without which the record says nothing.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field with a value that has no meaning here.
    #[error("field `{field}` has a value without meaning: {found}")]
    Value {
        /// Field.
        field: &'static str,
        /// What was found, safe to show.
        found: String,
    },
    /// Not signed, not by the cluster's key, or over other bytes.
    #[error("{0}")]
    Signature(#[from] crate::signature::SignatureError),
}
