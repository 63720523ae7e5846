//! The bus over its socket: the contract, who may do what, and the owner's restarts.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::Path;
use std::time::Duration;

use bulkhead_bus::embedded::{Config, Embedded};
use bulkhead_bus::socket::{Access, BindError, Client, bind, serve};
use bulkhead_bus::suite::{self, read_all, record};
use bulkhead_bus::{Bus as _, BusError, Tail, Topic};
use bulkhead_domain::Timestamp;
use tokio::task::JoinHandle;

fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

fn controllers() -> Access {
    Access { agents: Vec::new(), controllers: vec![own_uid()] }
}

fn agents() -> Access {
    Access { agents: vec![own_uid()], controllers: Vec::new() }
}

/// The controller: owns the log of the directory and serves it until it is aborted.
fn owner(dir: &Path, access: Access) -> (Embedded, JoinHandle<()>) {
    let log = Embedded::open(Config::new(dir, || Timestamp(0))).unwrap();
    let listener = bind(&dir.join("bus.sock")).unwrap();
    let served = log.clone();
    (log, tokio::spawn(async move { serve(listener, served, access).await.unwrap() }))
}

async fn stop((log, served): (Embedded, JoinHandle<()>)) {
    served.abort();
    let _ = served.await;
    drop(log);
}

#[tokio::test]
async fn keeps_the_contract() {
    let mut owners = Vec::new();
    suite::every_promise(|| {
        let dir = tempfile::tempdir().unwrap();
        let owner = owner(dir.path(), controllers());
        let client = Client::new(dir.path().join("bus.sock"));
        owners.push((dir, owner));
        async move { client }
    })
    .await;
}

#[tokio::test]
async fn an_agent_may_report_and_read_measures_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _served) = owner(dir.path(), agents());
    let agent = Client::new(dir.path().join("bus.sock"));
    for topic in [Topic::Observations, Topic::Inventory, Topic::Audit] {
        agent.publish(vec![record(topic, "k", Some("v"))]).await.unwrap();
    }
    for topic in [Topic::Measures, Topic::Alerts, Topic::Baselines] {
        let mixed = vec![record(Topic::Audit, "k", Some("v")), record(topic, "k", Some("v"))];
        let refused = agent.publish(mixed).await;
        assert!(matches!(refused, Err(BusError::Refused { .. })), "{topic}: {refused:?}");
    }
    assert_eq!(read_all(&log, Topic::Audit).await.len(), 1, "refused as a whole");
    assert!(agent.fetch(Topic::Measures, 0, 0).await.is_ok());
    for topic in [Topic::Observations, Topic::Alerts, Topic::Baselines, Topic::Audit] {
        let refused = agent.fetch(topic, 0, 0).await;
        assert!(matches!(refused, Err(BusError::Refused { .. })), "{topic}: {refused:?}");
        assert!(agent.wait_beyond(topic, 0, 0).await.is_err(), "{topic}");
    }
    assert!(agent.committed("detector", Topic::Observations, 0).await.is_err());
    let commit = bulkhead_bus::Commit { topic: Topic::Observations, partition: 0, next: 0 };
    assert!(agent.transact("detector", Vec::new(), vec![commit]).await.is_err());
}

#[tokio::test]
async fn a_peer_without_a_role_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _owner = owner(dir.path(), Access::default());
    let client = Client::new(dir.path().join("bus.sock"));
    let refused = client.publish(vec![record(Topic::Audit, "k", Some("v"))]).await;
    assert!(
        matches!(refused, Err(BusError::Refused { .. } | BusError::Away { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_client_outlives_the_owners_restart() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(dir.path().join("bus.sock"));
    let first = owner(dir.path(), controllers());
    client.publish(vec![record(Topic::Measures, "m1", Some("first"))]).await.unwrap();
    let mut tail = Tail::new(client.clone(), Topic::Measures, 0, 0);
    let batch = tail.next().await.unwrap();
    assert_eq!(batch.records.len(), 1);
    // It has read all there is and waits for more while the owner goes and comes.
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.wait_beyond(Topic::Measures, 0, batch.next).await }
    });
    client.partitions(Topic::Measures).await.unwrap();
    stop(first).await;
    let second = owner(dir.path(), controllers());
    client.partitions(Topic::Measures).await.expect("a question waits for the owner");
    second.0.publish(vec![record(Topic::Measures, "m2", Some("second"))]).await.unwrap();
    // A liveness bound, far beyond what a notification needs.
    let woken = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert_eq!(woken.expect("the waiting reader is woken").unwrap(), Ok(batch.next + 1));
    assert_eq!(tail.next().await.unwrap().records[0].key, b"m2");
    client.publish(vec![record(Topic::Audit, "k", Some("again"))]).await.unwrap();
    stop(second).await;
}

#[tokio::test]
async fn a_write_to_nobody_is_away_and_names_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(dir.path().join("bus.sock"));
    let away = client.publish(vec![record(Topic::Audit, "k", Some("v"))]).await.unwrap_err();
    assert!(matches!(away, BusError::Away { .. }), "{away}");
    assert!(away.to_string().contains("bus.sock"), "{away}");
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group_and_replaces_only_a_dead_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus.sock");
    let listener = bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(matches!(bind(&path), Err(BindError::Served { .. })));
    drop(listener);
    bind(&path).unwrap();
}

#[tokio::test]
async fn noise_on_the_socket_cuts_off_only_its_own_peer() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let dir = tempfile::tempdir().unwrap();
    let _owner = owner(dir.path(), controllers());
    let path = dir.path().join("bus.sock");
    for noise in [&[0xff; 64][..], &[0, 0, 0, 2, 0x0a, 0xff], &[0, 0, 0, 0]] {
        let mut peer = tokio::net::UnixStream::connect(&path).await.unwrap();
        peer.write_all(noise).await.unwrap();
        peer.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = peer.read_to_end(&mut answer);
        // A liveness bound, far beyond what a working server needs.
        let _ = tokio::time::timeout(Duration::from_secs(30), read).await.expect("it hangs up");
    }
    let client = Client::new(&path);
    client.publish(vec![record(Topic::Audit, "k", Some("v"))]).await.unwrap();
}
