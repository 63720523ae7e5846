//! The embedded log: the contract, and what a file on a disk owes beyond it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod damage;
mod disk;
mod killed;
mod retention;

use std::path::Path;

use bulkhead_bus::embedded::{Config, Embedded, OpenError};
use bulkhead_bus::suite::{self, read_all, record};
use bulkhead_bus::{Bus as _, Commit, Topic};
use bulkhead_domain::Timestamp;

fn still() -> Timestamp {
    Timestamp::from_secs(1_000_000)
}

fn config(dir: &Path) -> Config {
    Config::new(dir, still)
}

async fn publish(bus: &Embedded, topic: Topic, key: &str, value: &str) {
    bus.publish(vec![record(topic, key, Some(value))]).await.unwrap();
}

async fn values(bus: &Embedded, topic: Topic) -> Vec<String> {
    let read = read_all(bus, topic).await;
    read.into_iter().map(|r| String::from_utf8(r.value.unwrap_or_default()).unwrap()).collect()
}

#[tokio::test]
async fn keeps_the_contract() {
    for partitions in [1, 4] {
        let mut dirs = Vec::new();
        suite::every_promise(|| {
            dirs.push(tempfile::tempdir().unwrap());
            let config = Config { partitions, ..config(dirs.last().unwrap().path()) };
            async move { Embedded::open(config).unwrap() }
        })
        .await;
    }
}

#[tokio::test]
async fn records_offsets_and_commits_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Embedded::open(config(dir.path())).unwrap();
    publish(&bus, Topic::Alerts, "a", "one").await;
    let commit = Commit { topic: Topic::Alerts, partition: 0, next: 1 };
    bus.transact("planner", Vec::new(), vec![commit]).await.unwrap();
    drop(bus);

    let bus = Embedded::open(config(dir.path())).unwrap();
    publish(&bus, Topic::Alerts, "a", "two").await;
    assert_eq!(values(&bus, Topic::Alerts).await, ["one", "two"]);
    assert_eq!(bus.committed("planner", Topic::Alerts, 0).await, Ok(Some(1)));
    assert_eq!(bus.fetch(Topic::Alerts, 0, 0).await.unwrap().high_watermark, 2);
}

#[tokio::test]
async fn a_second_owner_is_told_who_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Embedded::open(config(dir.path())).unwrap();
    let error = Embedded::open(config(dir.path())).unwrap_err();
    let expect = format!("already in use by pid {}", std::process::id());
    assert!(error.to_string().contains(&expect), "{error}");
}

#[tokio::test]
async fn the_number_of_partitions_is_fixed_when_a_log_is_made() {
    let dir = tempfile::tempdir().unwrap();
    drop(Embedded::open(Config { partitions: 2, ..config(dir.path()) }).unwrap());
    let error = Embedded::open(config(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::Partitions { found: 2, asked: 1, .. }), "{error}");
}

#[tokio::test]
async fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let _bus = Embedded::open(config(dir.path())).unwrap();
    let mode = std::fs::metadata(dir.path().join("bus.redb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}
