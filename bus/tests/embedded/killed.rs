//! Writers that are killed: in a process of their own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bulkhead_bus::embedded::Embedded;
use bulkhead_bus::suite::record;
use bulkhead_bus::{Bus as _, Commit, Topic};

use super::{config, values};

/// Names the directory for a test of this file that runs as a child, and asks it to play that part.
pub(super) const DIR: &str = "BULKHEAD_BUS_TEST_DIR";

pub(super) fn child(part: &str, dir: &Path, wrap: Option<&str>) -> Child {
    let own = std::env::current_exe().unwrap();
    let mut command = match wrap {
        None => Command::new(&own),
        Some(shell) => {
            let mut command = Command::new("sh");
            command.args(["-c", shell, "sh"]).arg(&own);
            command
        }
    };
    command
        .args(["--exact", part, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub(super) fn numbers_of(child: &mut Child) -> impl Iterator<Item = u64> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok())
}

/// The child's part: transacts numbered outputs with offsets, and tells each that was acknowledged.
#[tokio::test]
async fn writes_until_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let bus = Embedded::open(config(Path::new(&dir))).unwrap();
    loop {
        let next = bus.fetch(Topic::Observations, 0, 0).await.unwrap().high_watermark;
        let number = next.to_string();
        bus.publish(vec![record(Topic::Observations, "in", Some(&number))]).await.unwrap();
        let commit = Commit { topic: Topic::Observations, partition: 0, next: next + 1 };
        let output = record(Topic::Alerts, &number, Some(&number));
        bus.transact("detector", vec![output], vec![commit]).await.unwrap();
        println!("acknowledged {number}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_kill_9_and_nothing_is_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 1..=4_usize {
        let mut child = child("killed::writes_until_killed", dir.path(), None);
        let acknowledged = numbers_of(&mut child).nth(round * 7).expect("the child writes");
        child.kill().unwrap();
        child.wait().unwrap();

        let bus = Embedded::open(config(dir.path())).unwrap();
        let alerts = values(&bus, Topic::Alerts).await;
        let committed = bus.committed("detector", Topic::Observations, 0).await.unwrap().unwrap();
        assert!(acknowledged > before && committed > acknowledged, "{committed} {acknowledged}");
        // An input without its output may be there once, where the kill fell between the two; then its number is skipped.
        let inputs = values(&bus, Topic::Observations).await;
        let expect: Vec<String> = (0..inputs.len() as u64).map(|n| n.to_string()).collect();
        assert_eq!(inputs, expect);
        assert!(alerts.windows(2).all(|a| a[0].parse::<u64>().unwrap() < a[1].parse().unwrap()));
        assert!(alerts.contains(&acknowledged.to_string()));
        assert_eq!(alerts.last().unwrap(), &(committed - 1).to_string(), "one step, both or none");
        assert!(inputs.len() - alerts.len() <= round, "{} {}", inputs.len(), alerts.len());
        before = acknowledged;
    }
}
