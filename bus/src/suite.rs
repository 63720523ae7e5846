//! What holds of every bus: the contract as code, for the embedded log, the socket and a broker alike.
//!
//! Each promise is one function that panics when it is broken. An implementation's tests call [`every_promise`] with a way
//! to make an empty bus.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bulkhead_domain::WorkloadId;

use crate::contract::{
    Batch, Bus, BusError, Commit, FETCH_RECORDS_MAX, Headers, Outgoing, RECORD_BYTES_MAX, Record,
    Topic, partition_of,
};
use crate::tail::Tail;

/// A record with this key and text.
pub fn record(topic: Topic, key: &str, value: Option<&str>) -> Outgoing {
    Outgoing {
        topic,
        key: key.as_bytes().to_vec(),
        route: WorkloadId(7),
        headers: Headers::new().with("ce_id", key).with("empty", Vec::new()),
        value: value.map(|v| v.as_bytes().to_vec()),
    }
}

/// Every committed record of the route's partition.
pub async fn read_all<B: Bus>(bus: &B, topic: Topic) -> Vec<Record> {
    let partition = partition_of(WorkloadId(7), bus.partitions(topic).await.expect("it answers"));
    let mut tail = Tail::new(bus.clone(), topic, partition, 0);
    let mut all = Vec::new();
    loop {
        let Batch { records, .. } = tail.poll().await.expect("it reads");
        if records.is_empty() {
            return all;
        }
        all.extend(records);
    }
}

fn texts(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|r| String::from_utf8_lossy(r.value.as_deref().unwrap_or(b"(end)")).into_owned())
        .collect()
}

async fn partition<B: Bus>(bus: &B, topic: Topic) -> u32 {
    partition_of(WorkloadId(7), bus.partitions(topic).await.expect("it answers"))
}

/// Runs every promise, each on an empty bus.
pub async fn every_promise<B, F, M>(mut empty: M)
where
    B: Bus,
    F: Future<Output = B>,
    M: FnMut() -> F,
{
    what_is_published_reads_back_in_order(empty().await).await;
    a_write_that_is_refused_leaves_nothing(empty().await).await;
    publishers_side_by_side_keep_their_own_order(empty().await).await;
    a_long_topic_reads_in_bounded_batches(empty().await).await;
    the_end_is_empty_and_stays_where_it_is(empty().await).await;
    a_waiting_reader_is_woken_by_a_record(empty().await).await;
    a_reader_that_stops_waiting_misses_nothing(empty().await).await;
    a_reader_from_beyond_the_end_begins_again(empty().await).await;
    outputs_and_offsets_are_one_step(empty().await).await;
    groups_have_offsets_of_their_own(empty().await).await;
    compaction_keeps_the_latest_of_each_key(empty().await).await;
    a_tombstone_reaches_a_reader_with_what_it_tells(empty().await).await;
    one_route_is_one_partition(empty().await).await;
    a_partition_that_is_not_there_is_refused(empty().await).await;
}

async fn what_is_published_reads_back_in_order<B: Bus>(bus: B) {
    let sent: Vec<Outgoing> =
        ["a", "b", "a"].map(|k| record(Topic::Observations, k, Some(k))).to_vec();
    let positions = bus.publish(sent.clone()).await.expect("it writes");
    assert!(positions.windows(2).all(|p| p[0].offset < p[1].offset), "{positions:?}");
    let read = read_all(&bus, Topic::Observations).await;
    assert_eq!(read.iter().map(|r| r.position).collect::<Vec<_>>(), positions);
    for (sent, read) in sent.iter().zip(&read) {
        assert_eq!(
            (&sent.key, &sent.headers, &sent.value),
            (&read.key, &read.headers, &read.value)
        );
    }
    assert!(read_all(&bus, Topic::Alerts).await.is_empty(), "topics are apart");
}

async fn a_write_that_is_refused_leaves_nothing<B: Bus>(bus: B) {
    let large = "x".repeat(RECORD_BYTES_MAX + 1);
    let batch = vec![
        record(Topic::Alerts, "small", Some("small")),
        record(Topic::Alerts, "large", Some(&large)),
    ];
    let refused = bus.publish(batch).await;
    assert!(matches!(refused, Err(BusError::TooLarge { .. })), "{refused:?}");
    assert!(read_all(&bus, Topic::Alerts).await.is_empty(), "not even the part that was sound");
    let largest = "x".repeat(1 << 20);
    bus.publish(vec![record(Topic::Baselines, "snapshot", Some(&largest))])
        .await
        .expect("a snapshot of 1 MiB fits");
}

async fn publishers_side_by_side_keep_their_own_order<B: Bus>(bus: B) {
    let mut publishers = Vec::new();
    for name in ["p", "q", "r"] {
        let bus = bus.clone();
        publishers.push(async move {
            for number in 0..40 {
                let value = format!("{name}{number}");
                bus.publish(vec![record(Topic::Observations, name, Some(&value))])
                    .await
                    .expect("it writes");
            }
        });
    }
    let [p, q, r] = <[_; 3]>::try_from(publishers).ok().expect("three were made");
    tokio::join!(p, q, r);
    let read = texts(&read_all(&bus, Topic::Observations).await);
    assert_eq!(read.len(), 120);
    for name in ["p", "q", "r"] {
        let own: Vec<&String> = read.iter().filter(|v| v.starts_with(name)).collect();
        let expect: Vec<String> = (0..40).map(|number| format!("{name}{number}")).collect();
        assert!(own.iter().copied().eq(expect.iter()), "{own:?}");
    }
}

async fn a_long_topic_reads_in_bounded_batches<B: Bus>(bus: B) {
    let sent: Vec<String> = (0..FETCH_RECORDS_MAX * 2 + 3).map(|n| n.to_string()).collect();
    for part in sent.chunks(200) {
        let part = part.iter().map(|n| record(Topic::Observations, "k", Some(n))).collect();
        bus.publish(part).await.expect("it writes");
    }
    let at = partition(&bus, Topic::Observations).await;
    let first = bus.fetch(Topic::Observations, at, 0).await.expect("it reads");
    assert!(first.records.len() <= FETCH_RECORDS_MAX, "{}", first.records.len());
    assert!(first.next < first.high_watermark);
    assert_eq!(texts(&read_all(&bus, Topic::Observations).await), sent);
}

async fn the_end_is_empty_and_stays_where_it_is<B: Bus>(bus: B) {
    let at = partition(&bus, Topic::Alerts).await;
    let empty = bus.fetch(Topic::Alerts, at, 0).await.expect("it reads");
    assert_eq!((empty.records.len(), empty.next, empty.high_watermark), (0, 0, 0));
    bus.publish(vec![record(Topic::Alerts, "a", Some("a"))]).await.expect("it writes");
    let read = bus.fetch(Topic::Alerts, at, 0).await.expect("it reads");
    let end = bus.fetch(Topic::Alerts, at, read.next).await.expect("it reads");
    assert_eq!((end.records.len(), end.next), (0, read.next));
    assert_eq!(end.high_watermark, read.high_watermark);
}

async fn a_waiting_reader_is_woken_by_a_record<B: Bus>(bus: B) {
    let at = partition(&bus, Topic::Measures).await;
    {
        let mut early = pin!(bus.wait_beyond(Topic::Measures, at, 0));
        let polled = early.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending), "nothing is there yet");
    }
    let mut tail = Tail::new(bus.clone(), Topic::Measures, at, 0);
    let publish = bus.publish(vec![record(Topic::Measures, "m", Some("deny"))]);
    let (batch, published) = tokio::join!(tail.next(), publish);
    published.expect("it writes");
    assert_eq!(texts(&batch.expect("it reads").records), ["deny"]);
}

async fn a_reader_that_stops_waiting_misses_nothing<B: Bus>(bus: B) {
    let at = partition(&bus, Topic::Alerts).await;
    let mut tail = Tail::new(bus.clone(), Topic::Alerts, at, 0);
    for number in 0..20 {
        {
            // Started and dropped half way, as a `select!` does.
            let mut next = pin!(tail.next());
            let _ = next.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        let text = number.to_string();
        bus.publish(vec![record(Topic::Alerts, "k", Some(&text))]).await.expect("it writes");
        assert_eq!(texts(&tail.next().await.expect("it reads").records), [text]);
    }
}

async fn a_reader_from_beyond_the_end_begins_again<B: Bus>(bus: B) {
    let at = partition(&bus, Topic::Measures).await;
    bus.publish(vec![record(Topic::Measures, "m", Some("deny"))]).await.expect("it writes");
    let mut tail = Tail::new(bus, Topic::Measures, at, 5000);
    assert_eq!(texts(&tail.next().await.expect("it reads").records), ["deny"]);
}

async fn outputs_and_offsets_are_one_step<B: Bus>(bus: B) {
    let at = partition(&bus, Topic::Observations).await;
    bus.publish(vec![record(Topic::Observations, "in", Some("in"))]).await.expect("it writes");
    let end = bus.fetch(Topic::Observations, at, 0).await.expect("it reads").high_watermark;
    let commit = |next| vec![Commit { topic: Topic::Observations, partition: at, next }];
    let outputs = |text| vec![record(Topic::Alerts, text, Some(text))];
    assert_eq!(bus.committed("detector", Topic::Observations, at).await, Ok(None));

    bus.transact("detector", outputs("first"), commit(end)).await.expect("it commits");
    assert_eq!(bus.committed("detector", Topic::Observations, at).await, Ok(Some(end)));

    let beyond = bus.transact("detector", outputs("second"), commit(end + 1000)).await;
    assert!(matches!(beyond, Err(BusError::Beyond { .. })), "{beyond:?}");
    let large = "x".repeat(RECORD_BYTES_MAX + 1);
    let too_large = bus.transact("detector", outputs(&large), commit(0)).await;
    assert!(too_large.is_err());
    assert_eq!(
        texts(&read_all(&bus, Topic::Alerts).await),
        ["first"],
        "refused ones wrote nothing"
    );
    assert_eq!(bus.committed("detector", Topic::Observations, at).await, Ok(Some(end)));
}

async fn groups_have_offsets_of_their_own<B: Bus>(bus: B) {
    let at = partition(&bus, Topic::Alerts).await;
    bus.publish(vec![record(Topic::Alerts, "a", Some("a"))]).await.expect("it writes");
    let commit = Commit { topic: Topic::Alerts, partition: at, next: 1 };
    bus.transact("planner", Vec::new(), vec![commit]).await.expect("it commits");
    assert_eq!(bus.committed("planner", Topic::Alerts, at).await, Ok(Some(1)));
    assert_eq!(bus.committed("other", Topic::Alerts, at).await, Ok(None));
    assert_eq!(bus.committed("planner", Topic::Measures, at).await, Ok(None));
}

async fn compaction_keeps_the_latest_of_each_key<B: Bus>(bus: B) {
    for round in 0..5 {
        for key in ["a", "b"] {
            let value = format!("{key}{round}");
            bus.publish(vec![record(Topic::Baselines, key, Some(&value))])
                .await
                .expect("it writes");
        }
    }
    let read = read_all(&bus, Topic::Baselines).await;
    let latest = |key: &str| read.iter().rfind(|r| r.key == key.as_bytes()).cloned();
    for key in ["a", "b"] {
        let value = latest(key).and_then(|r| r.value);
        assert_eq!(value, Some(format!("{key}4").into_bytes()), "{key}");
    }
    assert!(read.windows(2).all(|r| r[0].position.offset < r[1].position.offset));
}

async fn a_tombstone_reaches_a_reader_with_what_it_tells<B: Bus>(bus: B) {
    bus.publish(vec![record(Topic::Measures, "m", Some("deny"))]).await.expect("it writes");
    let mut end = record(Topic::Measures, "m", None);
    end.headers.set("tombstone", b"released".as_slice());
    bus.publish(vec![end]).await.expect("it writes");
    let read = read_all(&bus, Topic::Measures).await;
    let last = read.last().expect("the tombstone is there");
    assert_eq!((last.value.as_ref(), last.headers.text("tombstone")), (None, Some("released")));
}

async fn one_route_is_one_partition<B: Bus>(bus: B) {
    let partitions = bus.partitions(Topic::Observations).await.expect("it answers");
    for topic in Topic::ALL {
        assert_eq!(bus.partitions(topic).await, Ok(partitions), "one partitioner for all topics");
    }
    for route in [0, 1, 7, u64::MAX] {
        let mut routed = record(Topic::Observations, "k", Some("v"));
        routed.route = WorkloadId(route);
        let positions = bus.publish(vec![routed.clone(), routed]).await.expect("it writes");
        assert!(
            positions.iter().all(|p| p.partition == partition_of(WorkloadId(route), partitions))
        );
    }
}

async fn a_partition_that_is_not_there_is_refused<B: Bus>(bus: B) {
    let beyond = bus.partitions(Topic::Alerts).await.expect("it answers");
    let refused = bus.fetch(Topic::Alerts, beyond, 0).await;
    assert!(matches!(refused, Err(BusError::Partition { .. })), "{refused:?}");
    let refused = bus.wait_beyond(Topic::Alerts, beyond, 0).await;
    assert!(matches!(refused, Err(BusError::Partition { .. })), "{refused:?}");
    let refused = bus.committed("g", Topic::Alerts, beyond).await;
    assert!(matches!(refused, Err(BusError::Partition { .. })), "{refused:?}");
}
