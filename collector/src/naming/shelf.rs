//! One Podman's storage and event log taken together: a description is only given when both have spoken.
//!
//! While a container is being made its name, command and labels appear one after the other, within some milliseconds. A
//! description from a part of them would give it the name of another workload, so who asks too early is told to wait;
//! but not for ever, because an event log may have been rotated away, or be kept elsewhere (journald).

use std::collections::HashMap;
use std::time::Duration;

use bulkhead_domain::Timestamp;

use super::description::Description;
use super::event::{Exec, Happened};
use super::podman::{EventLog, Storage, StorageError};

/// How long a container's labels are waited for, ms.
pub const WAIT_MS: u64 = 2_000;

/// Containers that wait at once.
const WAITING_MAX: usize = 256;

/// What is known of a container.
#[derive(Debug)]
pub enum Answer {
    /// All that can be known without the service.
    Complete(Box<Description>),
    /// Ask again: more is being written.
    NotYet,
    /// Nothing.
    Absent,
}

/// Storage, log, and who waits.
#[derive(Debug)]
pub struct Shelf {
    storage: Storage,
    log: Option<EventLog>,
    waiting: HashMap<String, Timestamp>,
}

impl Shelf {
    /// Nothing read yet.
    pub fn new(storage: Storage) -> Self {
        Self { storage, log: None, waiting: HashMap::new() }
    }

    /// Whether anything was ever stored here.
    pub fn exists(&self) -> bool {
        self.storage.exists()
    }

    /// Ids of all containers.
    pub fn list(&self) -> Vec<String> {
        self.storage.list().unwrap_or_default()
    }

    /// Who was told to wait.
    pub fn waiting(&self) -> Vec<String> {
        self.waiting.keys().cloned().collect()
    }

    /// What happened since this was last asked; nothing before the log was found.
    pub fn happened(&mut self) -> Result<Vec<Happened>, StorageError> {
        self.log.as_mut().map_or(Ok(Vec::new()), EventLog::read)
    }

    /// The engine's exec sessions of a container.
    pub fn exec(&self, container: &str) -> Exec {
        self.storage.exec(container)
    }

    /// Describes a container, or says to wait.
    pub fn describe(&mut self, id: &str, now: Timestamp) -> Answer {
        let mut no_log = false;
        if self.log.is_none()
            && let Some(path) = self.storage.events(id)
        {
            no_log = !path.exists();
            if !no_log {
                let mut found = EventLog::new(&path);
                // What it still holds tells labels; what happened before now is past.
                match found.read() {
                    Ok(_) => self.log = Some(found),
                    Err(error) => tracing::warn!(cause = %error, "event log not read"),
                }
            }
        }
        let labels = self.log.as_ref().and_then(|log| log.labels(id)).cloned();
        let since = self.waiting.get(id).copied();
        let over = since.is_some_and(|since| now.since(since) >= Duration::from_millis(WAIT_MS));
        match self.storage.describe(id) {
            Ok(mut description) if labels.is_some() || no_log || over => {
                self.waiting.remove(id);
                description.labels.extend(labels.unwrap_or_default());
                Answer::Complete(Box::new(description))
            }
            Ok(_) | Err(StorageError::Unready) if !over => {
                if self.waiting.len() < WAITING_MAX {
                    self.waiting.entry(id.to_owned()).or_insert(now);
                }
                Answer::NotYet
            }
            Ok(_) | Err(_) => {
                self.waiting.remove(id);
                Answer::Absent
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ID: &str = "0cd273a3b8dc35f837ec2ecb40b72417200aeb86c849398a7eb1510d9f3c5be3";

    fn at(ms: u64) -> Timestamp {
        Timestamp(1_000_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn a_container_in_the_making_is_waited_for_but_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let containers = dir.path().join("overlay-containers");
        fs::create_dir_all(containers.join(ID).join("userdata")).unwrap();
        fs::write(
            containers.join("containers.json"),
            format!(r#"[{{"id":"{ID}","names":["web"],"image":"05","metadata":"{{}}"}}]"#),
        )
        .unwrap();
        let mut shelf = Shelf::new(Storage { root: dir.path().into() });
        assert!(
            matches!(shelf.describe(ID, at(0)), Answer::NotYet),
            "its command is not there yet"
        );
        assert_eq!(shelf.waiting(), [ID]);
        fs::write(
            containers.join(ID).join("userdata/config.json"),
            r#"{"process":{"args":["/bin/web"]}}"#,
        )
        .unwrap();
        assert!(matches!(shelf.describe(ID, at(10)), Answer::NotYet), "nor are its labels");
        let Answer::Complete(description) = shelf.describe(ID, at(WAIT_MS)) else {
            panic!("it goes without labels now")
        };
        assert_eq!(description.command, ["/bin/web"]);
        assert_eq!(shelf.waiting(), [""; 0]);
    }

    #[test]
    fn who_is_not_there_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::new(Storage { root: dir.path().into() });
        assert!(matches!(shelf.describe(ID, at(0)), Answer::Absent));
        assert!(!shelf.exists());
    }
}
