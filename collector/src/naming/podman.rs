//! Podman without its service: names from its storage, and what happens from its event log.
//!
//! Podman has no daemon, so usually nobody listens at a socket. What it writes is enough: `<root>/<driver>-containers/
//! containers.json` holds names and images, each container's `userdata/config.json` its command, and the file event log
//! (`events_logger = "file"`) carries labels with every event. With the journald event log labels are not readable here,
//! and the socket is the way to have them. Where the log lies is found by the containers' monitors ([`Storage::events`]).

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bulkhead_domain::container::Engine;
use serde::Deserialize;
use thiserror::Error;

use super::description::{
    Description, bounded, naming_command, naming_labels, repository, timestamp,
};
use super::docker::{CONTAINERS_MAX, is_id};
use super::event::{Exec, Happened};

/// Largest file of the storage that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Most of the event log that is read at start, and in one go later.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// Where one Podman keeps its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// `--root`.
    pub root: PathBuf,
}

/// Why storage names nothing.
#[derive(Debug, Error)]
pub enum StorageError {
    /// Not readable.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Of another shape.
    #[error("{path} is not what podman writes")]
    Shape {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// No container of that id.
    #[error("podman's storage holds no such container")]
    Absent,
    /// It was made, and has not begun to start.
    #[error("the container has not started yet")]
    Unready,
}

impl Storage {
    /// Whether anything was ever stored here.
    pub fn exists(&self) -> bool {
        !self.drivers().is_empty()
    }

    /// What storage knows of a container, without labels.
    pub fn describe(&self, id: &str) -> Result<Description, StorageError> {
        for directory in self.drivers() {
            let path = directory.join("containers.json");
            let stored: Vec<Stored> = read_json(&path)?;
            if let Some(stored) = stored.into_iter().find(|stored| stored.id == id) {
                return read_stored(&stored, &directory);
            }
        }
        Err(StorageError::Absent)
    }

    /// Ids of all containers.
    pub fn list(&self) -> Result<Vec<String>, StorageError> {
        let mut ids = Vec::new();
        for directory in self.drivers() {
            let stored: Vec<Stored> = read_json(&directory.join("containers.json"))?;
            ids.extend(stored.into_iter().map(|stored| stored.id).filter(|id| is_id(id)));
        }
        ids.truncate(CONTAINERS_MAX);
        Ok(ids)
    }

    /// The processes of a container's exec sessions, which conmon leaves in a file each.
    pub fn exec(&self, container: &str) -> Exec {
        let mut exec = Exec::of(container);
        for directory in self.drivers() {
            let Ok(sessions) = std::fs::read_dir(directory.join(container).join("userdata")) else {
                continue;
            };
            exec.pids.extend(
                sessions
                    .flatten()
                    .filter(|session| session.file_name().to_str().is_some_and(is_id))
                    .filter_map(|session| {
                        std::fs::read_to_string(session.path().join("exec_pid")).ok()
                    })
                    .filter_map(|pid| pid.trim().parse::<u32>().ok())
                    .take(64),
            );
        }
        exec
    }

    /// The event log of the Podman that runs this container.
    ///
    /// Its place depends on an option (`--tmpdir`) that storage does not keep. But each container's monitor was told where
    /// to leave exit codes, beside the log; and the container's own mounts say where the monitor's pid is.
    pub fn events(&self, container: &str) -> Option<PathBuf> {
        let spec = self.drivers().into_iter().find_map(|directory| {
            read_json::<Spec>(&directory.join(container).join("userdata/config.json")).ok()
        })?;
        let userdata = spec
            .mounts
            .iter()
            .filter_map(|mount| Path::new(mount.source.as_deref()?).parent())
            .find(|directory| directory.join("conmon.pid").is_file())?;
        let pid = std::fs::read_to_string(userdata.join("conmon.pid")).ok()?;
        let arguments =
            std::fs::read(format!("/proc/{}/cmdline", pid.trim().parse::<u32>().ok()?)).ok()?;
        events_beside(&arguments)
    }

    /// The directories with containers, one for each storage driver in use.
    fn drivers(&self) -> Vec<PathBuf> {
        ["overlay", "vfs", "btrfs", "zfs"]
            .map(|driver| self.root.join(format!("{driver}-containers")))
            .into_iter()
            .filter(|directory| directory.join("containers.json").is_file())
            .collect()
    }
}

/// The event log beside the directory of exit codes that a monitor's arguments name.
fn events_beside(arguments: &[u8]) -> Option<PathBuf> {
    let mut words = arguments.split(|byte| *byte == 0);
    words.find(|word| *word == b"--exit-dir")?;
    let exits = std::str::from_utf8(words.next()?).ok()?;
    Some(Path::new(exits).parent()?.join("events/events.log"))
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, StorageError> {
    let fail = |source| StorageError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(fail)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    serde_json::from_slice(&bytes)
        .map_err(|source| StorageError::Shape { path: path.into(), source })
}

fn read_stored(stored: &Stored, directory: &Path) -> Result<Description, StorageError> {
    let metadata: Metadata = serde_json::from_str(&stored.metadata).unwrap_or_default();
    let spec = directory.join(&stored.id).join("userdata/config.json");
    // Absent, or half written, until the container first starts: then its command is not known yet.
    let spec: Spec = read_json(&spec).map_err(|_| StorageError::Unready)?;
    let image = stored.image.as_deref().unwrap_or_default();
    Ok(Description {
        name: bounded(stored.names.iter().flatten().next().map_or("", String::as_str)),
        image: repository(&metadata.image_name),
        digest: if image.is_empty() { String::new() } else { bounded(&format!("sha256:{image}")) },
        labels: naming_labels(
            spec.annotations.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())),
        ),
        command: naming_command(
            spec.process.iter().flat_map(|process| &process.args).map(String::as_str),
        ),
        started: stored.created.as_deref().and_then(timestamp).unwrap_or_default(),
        ..Description::bare(Engine::Podman, &stored.id)
    })
}

#[derive(Deserialize)]
struct Stored {
    id: String,
    names: Option<Vec<String>>,
    image: Option<String>,
    #[serde(default)]
    metadata: String,
    created: Option<String>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(rename = "image-name", default)]
    image_name: String,
}

#[derive(Default, Deserialize)]
struct Spec {
    annotations: Option<BTreeMap<String, String>>,
    process: Option<SpecProcess>,
    #[serde(default)]
    mounts: Vec<SpecMount>,
}

#[derive(Deserialize)]
struct SpecMount {
    source: Option<String>,
}

#[derive(Deserialize)]
struct SpecProcess {
    #[serde(default)]
    args: Vec<String>,
}

/// Reads Podman's file event log as it grows, over its rotation.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    inode: u64,
    at: u64,
    labels: HashMap<String, BTreeMap<String, String>>,
}

impl EventLog {
    /// A reader that has read nothing yet: the first call of [`EventLog::read`] gives what the log still holds.
    pub fn new(path: &Path) -> Self {
        Self { path: path.into(), inode: 0, at: 0, labels: HashMap::new() }
    }

    /// What was written since the last call. A log that is absent has nothing to say.
    pub fn read(&mut self) -> Result<Vec<Happened>, StorageError> {
        let fail = |source| StorageError::Read { path: self.path.clone(), source };
        let mut file = match std::fs::File::open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(fail)?,
        };
        let metadata = file.metadata().map_err(fail)?;
        if metadata.ino() != self.inode || metadata.len() < self.at {
            self.inode = metadata.ino();
            self.at = metadata.len().saturating_sub(LOG_BYTES_MAX);
        }
        file.seek(SeekFrom::Start(self.at)).map_err(fail)?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_MAX).read_to_end(&mut bytes).map_err(fail)?;
        // A line that is still being written is read the next time.
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        self.at += whole as u64;
        Ok(bytes[..whole].split(|b| *b == b'\n').filter_map(|line| self.read_line(line)).collect())
    }

    /// The labels that events carried of a container.
    pub fn labels(&self, id: &str) -> Option<&BTreeMap<String, String>> {
        self.labels.get(id)
    }

    fn read_line(&mut self, line: &[u8]) -> Option<Happened> {
        let event: Logged = serde_json::from_slice(line).ok()?;
        if event.kind.as_deref() != Some("container") {
            return None;
        }
        let id = event.id.filter(|id| is_id(id))?;
        let status = event.status?;
        if status == "remove" {
            self.labels.remove(&id);
            return Some(Happened::Removed(id));
        }
        if self.labels.len() < CONTAINERS_MAX {
            let labels = event.attributes.unwrap_or_default();
            self.labels.insert(
                id.clone(),
                naming_labels(labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
            );
        }
        match status.as_str() {
            "create" | "init" | "start" | "restart" | "rename" | "unpause" => {
                Some(Happened::Changed(id))
            }
            "died" | "cleanup" => Some(Happened::Ended(id)),
            "exec" => Some(Happened::Exec { container: id, session: None }),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Logged {
    #[serde(rename = "ID")]
    id: Option<String>,
    #[serde(rename = "Status")]
    status: Option<String>,
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "Attributes")]
    attributes: Option<BTreeMap<String, String>>,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    const ID: &str = "0cd273a3b8dc35f837ec2ecb40b72417200aeb86c849398a7eb1510d9f3c5be3";

    fn storage() -> (tempfile::TempDir, Storage) {
        let dir = tempfile::tempdir().unwrap();
        let containers = dir.path().join("vfs-containers");
        fs::create_dir_all(containers.join(ID).join("userdata")).unwrap();
        fs::write(
            containers.join("containers.json"),
            format!(
                r#"[{{"id":"{ID}","names":["web"],"image":"0545","layer":"27","metadata":"{{\"image-name\":\"localhost/bb:1\"}}","created":"2026-01-31T08:15:30Z"}}]"#
            ),
        )
        .unwrap();
        let storage = Storage { root: dir.path().into() };
        (dir, storage)
    }

    #[test]
    fn storage_alone_gives_name_image_and_command() {
        let (dir, storage) = storage();
        fs::write(
            dir.path().join(format!("vfs-containers/{ID}/userdata/config.json")),
            r#"{"process":{"args":["/bin/sleep","300"]},"annotations":{"bulkhead.workload":"web"}}"#,
        )
        .unwrap();
        let described = storage.describe(ID).unwrap();
        assert_eq!(described.name, "web");
        assert_eq!(described.image, "localhost/bb");
        assert_eq!(described.digest, "sha256:0545");
        assert_eq!(described.command, ["/bin/sleep", "300"]);
        assert_eq!(described.labels["bulkhead.workload"], "web");
        assert_eq!(storage.list().unwrap(), [ID]);
    }

    #[test]
    fn a_container_that_never_started_is_not_described_yet() {
        let (_dir, storage) = storage();
        assert!(matches!(storage.describe(ID), Err(StorageError::Unready)));
        assert!(matches!(storage.describe("other"), Err(StorageError::Absent)));
    }

    #[test]
    fn exec_sessions_are_found_by_the_file_that_conmon_leaves() {
        let (dir, storage) = storage();
        let session = dir.path().join(format!("vfs-containers/{ID}/userdata/{ID}"));
        fs::create_dir_all(&session).unwrap();
        fs::write(session.join("exec_pid"), "4242").unwrap();
        assert_eq!(storage.exec(ID).pids, [4242]);
    }

    #[test]
    fn the_log_lies_beside_the_exit_codes_that_the_monitor_was_told_of() {
        let arguments = b"/usr/bin/conmon\0-c\0x\0--exit-dir\0/run/libpod/exits\0-s\0";
        assert_eq!(events_beside(arguments).unwrap(), Path::new("/run/libpod/events/events.log"));
        assert_eq!(events_beside(b"/usr/bin/conmon\0--exit-dir"), None);
        let (_dir, storage) = storage();
        assert_eq!(storage.events(ID), None, "nobody monitors it");
    }

    #[test]
    fn the_log_is_read_once_in_whole_lines_and_over_its_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.log");
        let mut log = EventLog::new(&path);
        assert_eq!(log.read().unwrap(), [], "an absent log says nothing");
        let line = |status: &str| {
            format!(
                r#"{{"ID":"{ID}","Image":"localhost/bb:1","Name":"web","Status":"{status}","Type":"container","Attributes":{{"bulkhead.workload":"web","x":"y"}}}}"#
            )
        };
        let mut file = fs::File::create(&path).unwrap();
        writeln!(file, "{}\n{{\"Type\":\"image\",\"Status\":\"pull\"}}\nnonsense", line("create"))
            .unwrap();
        write!(file, "{}", line("start")).unwrap();
        assert_eq!(log.read().unwrap(), [Happened::Changed(ID.into())]);
        assert_eq!(log.labels(ID).unwrap()["bulkhead.workload"], "web");
        assert_eq!(log.labels(ID).unwrap().len(), 1);
        writeln!(file).unwrap();
        assert_eq!(log.read().unwrap(), [Happened::Changed(ID.into())]);
        assert_eq!(log.read().unwrap(), []);
        fs::remove_file(&path).unwrap();
        fs::write(&path, format!("{}\n{}\n", line("exec"), line("died"))).unwrap();
        assert_eq!(
            log.read().unwrap(),
            [Happened::Exec { container: ID.into(), session: None }, Happened::Ended(ID.into())]
        );
        fs::write(&path, format!("{}\n", line("remove"))).unwrap();
        assert_eq!(log.read().unwrap(), [Happened::Removed(ID.into())]);
        assert_eq!(log.labels(ID), None);
    }
}
