//! `CloudEvents` attributes and the schema's version as headers (`CloudEvents` 1.0, Kafka binding, binary mode).

use bulkhead_domain::{EventId, Timestamp};

use super::Unreadable;
use crate::contract::Headers;

/// Identity of the record.
pub(crate) const ID: &str = "ce_id";
/// What the record is.
pub(crate) const TYPE: &str = "ce_type";
/// Who published it.
pub(crate) const SOURCE: &str = "ce_source";
/// Event time.
pub(crate) const TIME: &str = "ce_time";
/// Version of `CloudEvents` itself.
pub(crate) const SPEC: &str = "ce_specversion";
/// Encoding of the value.
pub(crate) const CONTENT: &str = "content-type";
/// Version of the record's layout.
pub(crate) const SCHEMA: &str = "schema-version";
/// Ed25519 signature by the controllers' key.
pub(crate) const SIGNATURE: &str = "signature";
/// What a tombstone says of the end of its key: a message, as a value would hold.
pub(crate) const TOMBSTONE: &str = "tombstone";

/// The layout that this version writes.
pub(crate) const SCHEMA_VERSION: &str = "1.0";

/// The headers of a record.
pub(crate) fn headers(id: &str, kind: &str, source: &str, at: Timestamp) -> Headers {
    Headers::new()
        .with(SPEC, "1.0")
        .with(ID, id)
        .with(TYPE, kind)
        .with(SOURCE, source)
        .with(TIME, at.to_string())
        .with(CONTENT, "application/protobuf")
        .with(SCHEMA, SCHEMA_VERSION)
}

/// The source of a record that has an event id.
pub(crate) fn producer(id: EventId) -> String {
    format!("urn:bulkhead:producer:{:016x}", id.producer)
}

/// Refuses a layout with another major version, and a record of another type.
pub(crate) fn check(headers: &Headers, kind: &str) -> Result<(), Unreadable> {
    let version = headers.text(SCHEMA).ok_or(Unreadable::Version)?;
    let (major, minor) = version.split_once('.').ok_or(Unreadable::Version)?;
    let (Ok(major), Ok(_)) = (major.parse::<u32>(), minor.parse::<u32>()) else {
        return Err(Unreadable::Version);
    };
    if major != 1 {
        let found = bulkhead_domain::text::printable(version, 20);
        return Err(Unreadable::Major { found });
    }
    match headers.text(TYPE) {
        Some(found)
            if found == kind || found.strip_prefix(kind).is_some_and(|r| r.starts_with('.')) =>
        {
            Ok(())
        }
        found => Err(Unreadable::Type {
            found: bulkhead_domain::text::printable(found.unwrap_or_default(), 80),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_version(version: &str) -> Headers {
        headers("1", "bulkhead.alert", "urn:x", Timestamp(0)).with(SCHEMA, version)
    }

    #[test]
    fn a_newer_minor_is_read_and_a_newer_major_refused() {
        assert_eq!(check(&with_version("1.7"), "bulkhead.alert"), Ok(()));
        let refused = check(&with_version("2.0"), "bulkhead.alert");
        assert_eq!(refused, Err(Unreadable::Major { found: "2.0".into() }));
    }

    #[test]
    fn no_version_or_a_senseless_one_is_refused() {
        for version in ["", "1", "one.two", "1.x"] {
            assert_eq!(check(&with_version(version), "bulkhead.alert"), Err(Unreadable::Version));
        }
        assert_eq!(check(&Headers::new(), "bulkhead.alert"), Err(Unreadable::Version));
    }

    #[test]
    fn a_subtype_belongs_and_another_type_does_not() {
        let headers = headers("1", "bulkhead.observation.window", "urn:x", Timestamp(0));
        assert_eq!(check(&headers, "bulkhead.observation"), Ok(()));
        assert!(check(&headers, "bulkhead.observ").is_err());
        assert!(check(&headers, "bulkhead.alert").is_err());
    }
}
