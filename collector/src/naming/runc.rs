//! Containers of a bare runtime: runc keeps one `state.json` for each, with its cgroup wherever the bundle put it.
//!
//! A directory under runc's root is made before the cgroup, the file after it and before the container's own program
//! runs; so a bare container has its name by the time it starts.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use bulkhead_domain::container::Engine;
use serde::Deserialize;

use super::description::{Description, bounded, naming_labels, timestamp};

/// Largest state that is read.
const STATE_BYTES_MAX: u64 = 4 << 20;

/// Containers read under one root.
const CONTAINERS_MAX: usize = 1024;

/// Where root's own runc keeps its state.
pub const ROOT: &str = "/run/runc";

/// One container of a bare runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bare {
    /// Absolute path of its cgroup v2 directory.
    pub cgroup: PathBuf,
    /// What the runtime knows of it; its id here is runc's name for it.
    pub description: Description,
}

/// All containers under runc's roots. A state that is being written is read the next time.
pub fn list(roots: &[PathBuf]) -> Vec<Bare> {
    roots
        .iter()
        .filter_map(|root| std::fs::read_dir(root).ok())
        .flatten()
        .flatten()
        .take(CONTAINERS_MAX)
        .filter_map(|entry| read(&entry.path().join("state.json")))
        .collect()
}

fn read(path: &Path) -> Option<Bare> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(STATE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    parse(&bytes)
}

/// Reads one state; `None` when it is not whole or has no cgroup v2 directory.
pub fn parse(bytes: &[u8]) -> Option<Bare> {
    let state: State = serde_json::from_slice(bytes).ok()?;
    // The unified hierarchy stands under the empty key, in the hybrid layout too.
    let cgroup = state.cgroup_paths.get("")?;
    // Config labels are `key=value` texts: annotations of the bundle, and `bundle=PATH`.
    let labels = state.config.labels.iter().filter_map(|label| label.split_once('='));
    Some(Bare {
        cgroup: cgroup.into(),
        description: Description {
            name: bounded(&state.id),
            labels: naming_labels(labels),
            pid: state.init_process_pid,
            started: timestamp(&state.created).unwrap_or_default(),
            ..Description::bare(Engine::Cgroup, &state.id)
        },
    })
}

#[derive(Deserialize)]
struct State {
    id: String,
    #[serde(default)]
    init_process_pid: u32,
    #[serde(default)]
    created: String,
    cgroup_paths: BTreeMap<String, String>,
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    labels: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_gives_cgroup_name_and_annotations() {
        let bare = parse(
            br#"{"id":"pump","init_process_pid":77,"created":"2026-01-31T08:15:30Z",
            "config":{"labels":["bundle=/srv/pump","bulkhead.workload=pumps"]},
            "cgroup_paths":{"":"/sys/fs/cgroup/unified/pump","cpu":"/sys/fs/cgroup/cpu/pump"}}"#,
        )
        .unwrap();
        assert_eq!(bare.cgroup, Path::new("/sys/fs/cgroup/unified/pump"));
        assert_eq!(bare.description.name, "pump");
        assert_eq!(bare.description.pid, 77);
        assert_eq!(bare.description.labels["bulkhead.workload"], "pumps");
    }

    #[test]
    fn a_state_that_is_not_whole_is_none_yet() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(br#"{"id":"pump","cgroup_paths":{},"config":{}}"#), None);
        assert_eq!(list(&["/nonexistent".into()]), []);
    }
}
