//! Bytes from anywhere: an error with a reason, never a panic.

use proptest::prelude::*;

use super::samples::{all, content, with_content};
use super::{arrived, read};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for (_, _, record) in all() {
            let _ = read(&arrived(&with_content(&record, bytes.clone())));
        }
    }

    #[test]
    fn a_changed_record_reads_or_is_refused(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        for (_, _, record) in all() {
            let mut bytes = content(&record);
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = to }
            if let Err(reason) = read(&arrived(&with_content(&record, bytes))) {
                prop_assert!(!reason.to_string().is_empty());
                prop_assert!(!reason.to_string().contains('\u{1b}'), "nothing raw is shown");
            }
        }
    }

    #[test]
    fn random_headers_never_panic(name in "[a-z_-]{1,20}", value in proptest::collection::vec(any::<u8>(), 0..40)) {
        for (_, _, record) in all() {
            for name in [name.as_str(), "schema-version", "ce_type", "signature", "tombstone"] {
                let mut record = arrived(&record);
                record.headers.set(name, value.clone());
                let _ = read(&record);
            }
        }
    }
}

#[test]
fn a_value_without_meaning_names_its_field() {
    let (_, _, record) = all().into_iter().find(|(name, ..)| *name == "stopped").unwrap();
    let text =
        |bytes: Vec<u8>| read(&arrived(&with_content(&record, bytes))).unwrap_err().to_string();
    assert_eq!(text(Vec::new()), "field `body` is missing");
    let mut broken = arrived(&record);
    broken.value = None;
    assert_eq!(read(&broken).unwrap_err().to_string(), "field `value` is missing");
}
