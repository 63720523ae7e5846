//! Whose decisions count.

use bulkhead_bus::signature::{SignatureError, Signer};
use bulkhead_bus::typed::{self, Unreadable};
use bulkhead_domain::MeasureId;
use bulkhead_domain::intent::Wish;
use bulkhead_domain::measure::{Measure, MeasureRecord};

use super::samples::{all, intent_record, measure, measure_record};
use super::{arrived, read, verifier};

fn refused(error: SignatureError) -> Result<String, Unreadable> {
    Err(Unreadable::Signature(error))
}

#[test]
fn measures_and_intents_without_a_signature_are_refused() {
    for (name, _, mut record) in all() {
        let Some(signature) = record.headers.find("signature").map(<[u8]>::to_vec) else {
            continue;
        };
        record.headers.set("signature", signature[1..].to_vec());
        assert_eq!(read(&arrived(&record)), refused(SignatureError::Wrong), "{name}");
        let unsigned = record.headers.iter().filter(|(n, _)| *n != "signature");
        record.headers = unsigned.map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
        assert_eq!(read(&arrived(&record)), refused(SignatureError::Unsigned), "{name}");
    }
}

#[test]
fn a_measure_by_another_key_or_for_another_cluster_is_refused() {
    let mut forged = measure_record(&MeasureRecord::Set(measure()));
    Signer::from_entropy([2; 32]).sign(&mut forged);
    assert_eq!(read(&arrived(&forged)), refused(SignatureError::Wrong));
    let elsewhere = Measure { cluster: "other".into(), ..measure() };
    let genuine = measure_record(&MeasureRecord::Set(elsewhere));
    assert_eq!(read(&arrived(&genuine)), refused(SignatureError::Cluster));
    assert!(typed::read_measure(&arrived(&genuine), &verifier(), "other").is_ok());
}

#[test]
fn a_signed_measure_cannot_stand_under_another_key() {
    let one = measure_record(&MeasureRecord::Set(measure()));
    let two = measure_record(&MeasureRecord::Set(Measure { id: MeasureId(2), ..measure() }));
    let mut moved = arrived(&one);
    moved.key = two.key;
    assert_eq!(read(&moved), refused(SignatureError::Wrong));
}

#[test]
fn a_release_cannot_be_made_from_a_measure() {
    let mut record = measure_record(&MeasureRecord::Set(measure()));
    record.headers.set("tombstone", record.value.take().unwrap());
    assert_eq!(read(&arrived(&record)), refused(SignatureError::Wrong));
}

#[test]
fn a_signed_intent_is_read_with_who_had_it() {
    let read = typed::read_observation(&arrived(&intent_record(Wish::Reset)), &verifier());
    assert!(format!("{:?}", read.unwrap().body).contains("ann"));
}
