//! What a newer writer may do, and what it may not.

use bulkhead_bus::typed::{self, Unreadable};
use bulkhead_domain::alert::{Response, Review};
use bulkhead_domain::measure::Proposal;

use super::samples::{
    acts, alert, all, content, intent_record, measure, window, wishes, with_content,
};
use super::{arrived, read, verifier};

#[test]
fn a_field_that_is_not_known_is_ignored() {
    for (name, says, record) in all() {
        let mut bytes = content(&record);
        // Field 1000 as a number, field 1001 as bytes.
        bytes.extend([0xc0, 0x3e, 0x07, 0xca, 0x3e, 0x03, 1, 2, 3]);
        assert_eq!(read(&arrived(&with_content(&record, bytes))), Ok(says), "{name}");
    }
}

#[test]
fn another_major_version_is_refused_and_a_newer_minor_is_read() {
    for (name, says, record) in all() {
        let mut record = arrived(&record);
        record.headers.set("schema-version", "1.9");
        assert_eq!(read(&record), Ok(says), "{name}");
        record.headers.set("schema-version", "2.0");
        assert_eq!(read(&record), Err(Unreadable::Major { found: "2.0".into() }), "{name}");
    }
}

#[test]
fn a_record_in_anothers_topic_is_refused() {
    let records = all();
    for (name, _, record) in &records {
        for (other, _, elsewhere) in &records {
            if record.topic != elsewhere.topic {
                let mut moved = arrived(record);
                moved.position.topic = elsewhere.topic;
                assert!(read(&moved).is_err(), "{name} as {other}");
            }
        }
    }
}

#[test]
fn every_wish_and_every_act_reads_back() {
    for wish in wishes() {
        let read = typed::read_observation(&arrived(&intent_record(wish.clone())), &verifier());
        let text = format!("{:?}", read.unwrap().body);
        assert!(text.contains(&format!("{wish:?}")), "{text}");
    }
    assert!(acts().len() > 10);
}

#[test]
fn every_response_and_review_reads_back() {
    let proposal: Proposal = alert(Response::None, Review::Open).proposal.unwrap();
    let accepted = Review::Accepted { who: "ann".into(), why: "known".into() };
    for response in [
        Response::None,
        Response::Would(proposal.clone()),
        Response::Took(vec![measure().id]),
        Response::HeldBack { proposal, reason: "protected".into() },
    ] {
        for review in [Review::Open, accepted.clone(), Review::Muted { who: "ann".into() }] {
            let sent = alert(response.clone(), review);
            assert_eq!(typed::read_alert(&arrived(&typed::alert(&sent, "detector"))), Ok(sent));
        }
    }
}

#[test]
fn a_window_is_smaller_than_its_json() {
    let json = serde_json::to_vec(&window()).unwrap().len();
    let (_, _, record) = all().into_iter().find(|(name, ..)| *name == "window").unwrap();
    let wire = content(&record).len();
    assert!(wire * 2 < json, "{wire} bytes on the wire, {json} as JSON");
    assert!(record.bytes() < 4096, "{}", record.bytes());
}
