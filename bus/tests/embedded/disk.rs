//! Disks that are full, by a limit that any user may set and by a file system that is.

use std::path::Path;
use std::process::{Command, Stdio};

use bulkhead_bus::embedded::Embedded;
use bulkhead_bus::suite::{read_all, record};
use bulkhead_bus::{Bus as _, BusError, Topic};

use super::killed::{DIR, child, numbers_of};
use super::{config, values};

async fn fill(bus: &Embedded) -> (u64, BusError) {
    let mut written = 0;
    loop {
        let value = format!("{written:0>20000}");
        match bus.publish(vec![record(Topic::Alerts, "k", Some(&value))]).await {
            Ok(_) => written += 1,
            Err(error) => return (written, error),
        }
        assert!(written < 10_000, "the disk never fills");
    }
}

async fn assert_all_there(bus: &Embedded, written: u64) {
    let read = values(bus, Topic::Alerts).await;
    let expect: Vec<String> = (0..written).map(|n| format!("{n:0>20000}")).collect();
    assert!(read == expect, "{} of {written} are there", read.len());
}

/// The child's part: a file may not grow beyond a limit, which is what a full disk or a quota looks like to any user.
#[tokio::test]
async fn writes_until_the_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let Some(dir) = std::env::var_os(DIR) else { return };
    let bus = Embedded::open(config(Path::new(&dir))).unwrap();
    let free = getrlimit(Resource::Fsize);
    let tight = rustix::process::Rlimit { current: Some(6 << 20), ..free };
    setrlimit(Resource::Fsize, tight).unwrap();
    let (written, error) = fill(&bus).await;
    assert!(matches!(error, BusError::Full { .. }), "{error}");
    assert!(bus.health().is_err());
    assert_all_there(&bus, written).await;
    setrlimit(Resource::Fsize, free).unwrap();
    bus.publish(vec![record(Topic::Audit, "k", Some("again"))])
        .await
        .expect("it goes on by itself");
    assert!(bus.health().is_ok());
    assert_all_there(&bus, written).await;
    println!("\nacknowledged {written}");
}

#[tokio::test]
async fn a_file_that_may_not_grow_refuses_by_name_and_goes_on_when_it_may() {
    let dir = tempfile::tempdir().unwrap();
    // An ignored signal stays ignored over exec; unignored it would end the child where a full disk does not.
    let mut child =
        child("disk::writes_until_the_limit", dir.path(), Some("trap '' XFSZ; exec \"$@\""));
    let written = numbers_of(&mut child).last();
    assert!(child.wait().unwrap().success(), "the child's part held");
    let bus = Embedded::open(config(dir.path())).unwrap();
    assert_all_there(&bus, written.expect("it reports")).await;
}

/// A file system of its own that is unmounted at the end.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn tmpfs(bytes: usize) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        done.is_ok_and(|s| s.success()).then_some(Self(dir))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_named_loses_nothing_and_goes_on_when_there_is_room() {
    let Some(disk) = Mounted::tmpfs(8 << 20) else {
        assert!(std::env::var_os("CI").is_none(), "cannot mount a tmpfs");
        println!("SKIP full disk: cannot mount a tmpfs (needs root)");
        return;
    };
    let bus = Embedded::open(config(disk.0.path())).unwrap();
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 3 << 20]).unwrap();
    let (written, error) = fill(&bus).await;
    let text = error.to_string();
    assert!(matches!(error, BusError::Full { .. }) && text.contains("bus.redb"), "{text}");
    assert_all_there(&bus, written).await;
    drop(bus);
    let bus = Embedded::open(config(disk.0.path())).expect("opens when full");
    assert_all_there(&bus, written).await;
    std::fs::remove_file(&ballast).unwrap();
    bus.publish(vec![record(Topic::Audit, "k", Some("again"))])
        .await
        .expect("it goes on by itself");
    assert_all_there(&bus, written).await;
    assert_eq!(read_all(&bus, Topic::Audit).await.len(), 1);
    drop(bus); // before the file system goes
}
