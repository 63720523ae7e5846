//! What is on the machine that a demo could leave behind.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use bulkhead_tests::{command::output, requirement::cgroup2};

/// What there is at one moment, by name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub(crate) fn take() -> anyhow::Result<Self> {
        let mut there = BTreeSet::new();
        for (kind, directory) in [
            ("namespace", "/run/netns".into()),
            ("pin", "/sys/fs/bpf".into()),
            ("interface", "/sys/class/net".into()),
            ("cgroup", cgroup2().unwrap_or_default()),
            ("directory", std::path::PathBuf::from("/var/tmp")),
        ] {
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let name = entry?.file_name().to_string_lossy().into_owned();
                // A cgroup directory also holds the kernel's own files, which come and go with controllers.
                if kind != "cgroup" || !name.contains('.') {
                    there.insert(format!("{kind} {name}"));
                }
            }
        }
        let routes = output(Command::new("ip").args(["-o", "route"]))?;
        there.extend(routes.lines().map(|route| format!("route {}", route.trim())));
        Ok(Self(there))
    }

    /// What is there now and was not then, after the kernel had time to take namespaces and interfaces down.
    pub(crate) fn left(&self) -> anyhow::Result<Vec<String>> {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let left = Self::take()?.beyond(self);
            if left.is_empty() || Instant::now() >= end {
                return Ok(left);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What is in this one and was not in the other.
    fn beyond(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_added_is_left_behind() {
        let set = |names: &[&str]| Snapshot(names.iter().map(|name| (*name).to_owned()).collect());
        let left =
            set(&["interface lo", "pin bulkhead"]).beyond(&set(&["interface lo", "namespace old"]));
        assert_eq!(left, ["pin bulkhead"]);
    }
}
