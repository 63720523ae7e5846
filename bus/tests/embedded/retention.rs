//! What is kept, for how long, and what a reader sees of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bulkhead_bus::embedded::{Config, Embedded, Keep};
use bulkhead_bus::suite::{read_all, record};
use bulkhead_bus::{Bus as _, Topic};
use bulkhead_domain::Timestamp;

use super::{config, publish, values};

#[tokio::test]
async fn a_topic_stays_within_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.retention.observations = Keep { age: Duration::from_secs(3600), bytes_max: 10_000 };
    let bus = Embedded::open(config).unwrap();
    for number in 0..100 {
        publish(&bus, Topic::Observations, "k", &format!("{number:0>1000}")).await;
    }
    let read = values(&bus, Topic::Observations).await;
    assert!((5..=10).contains(&read.len()), "{}", read.len());
    assert_eq!(read.last().unwrap(), &format!("{:0>1000}", 99), "the latest stays");
    let batch = bus.fetch(Topic::Observations, 0, 0).await.unwrap();
    assert_eq!(batch.log_start, 100 - read.len() as u64, "a reader sees that it missed some");
    assert_eq!(batch.high_watermark, 100, "offsets are never given twice");
}

#[tokio::test]
async fn a_record_stays_for_its_age() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    fn clock() -> Timestamp {
        Timestamp::from_secs(NOW.load(Ordering::SeqCst))
    }
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path(), clock);
    config.retention.alerts.age = Duration::from_secs(100);
    config.retention.tombstones = Duration::from_secs(100);
    let bus = Embedded::open(config).unwrap();
    for (now, text) in [(1000, "old"), (1050, "young"), (1101, "new")] {
        NOW.store(now, Ordering::SeqCst);
        publish(&bus, Topic::Alerts, "k", text).await;
    }
    assert_eq!(values(&bus, Topic::Alerts).await, ["young", "new"]);

    publish(&bus, Topic::Measures, "standing", "deny").await;
    bus.publish(vec![record(Topic::Measures, "ended", None)]).await.unwrap();
    NOW.store(1150, Ordering::SeqCst);
    publish(&bus, Topic::Measures, "other", "deny").await;
    assert_eq!(read_all(&bus, Topic::Measures).await.len(), 3, "the tombstone is still told");
    NOW.store(5000, Ordering::SeqCst);
    publish(&bus, Topic::Measures, "other", "deny").await;
    let keys: Vec<_> = read_all(&bus, Topic::Measures).await.into_iter().map(|r| r.key).collect();
    assert_eq!(keys, [b"standing".to_vec(), b"other".to_vec()], "values stay without end");
}

#[tokio::test]
async fn a_compacted_topic_holds_one_record_of_each_key() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Embedded::open(config(dir.path())).unwrap();
    for round in 0..50 {
        publish(&bus, Topic::Baselines, "web", &round.to_string()).await;
    }
    assert_eq!(values(&bus, Topic::Baselines).await, ["49"]);
}
