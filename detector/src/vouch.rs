//! Whom the engine vouches for: processes that its own exec event accounts for, and what they start.
//!
//! Evidence, not names: an entered process is vouched for when the collector matched it with the engine's exec event and
//! its user. Its children are `spawned`, so they are recognised by lineage: same process id, or a parent with a vouched
//! executable which nothing in the container runs of its own accord. As soon as something unvouched runs that same
//! executable, lineage by executable is ambiguous and no longer taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bulkhead_domain::Timestamp;
use bulkhead_domain::behaviour::Act;
use bulkhead_domain::process::{Origin, Process};
use serde::{Deserialize, Serialize};

/// How long after its last act a vouched executable still has children.
const SESSION: Duration = Duration::from_secs(600);

/// Processes and executables remembered per container.
const REMEMBERED: usize = 64;

/// Vouched processes of one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Vouched {
    pids: BTreeSet<u32>,
    executables: BTreeMap<String, Timestamp>,
    last: Option<Timestamp>,
}

impl Vouched {
    /// Whether the act's process is vouched for; remembers it when it is.
    pub(crate) fn judge(&mut self, act: &Act, process: &Process, at: Timestamp) -> bool {
        self.executables.retain(|_, last| at.since(*last) <= SESSION);
        let by_lineage =
            process.origin == Origin::Spawned && self.executables.contains_key(&process.parent);
        let vouched = process.engine_exec || self.pids.contains(&process.pid) || by_lineage;
        if !vouched {
            if let Act::Exec { path } = act {
                self.executables.remove(path);
                self.executables.remove(&process.executable);
            }
            return false;
        }
        if self.pids.len() >= REMEMBERED {
            self.pids.pop_first();
        }
        self.pids.insert(process.pid);
        if self.executables.len() < REMEMBERED {
            self.executables.insert(process.executable.clone(), at);
        }
        self.last = Some(at);
        true
    }

    /// Whether a vouched process was at work within `span` before that time.
    pub(crate) fn active(&self, at: Timestamp, span: Duration) -> bool {
        self.last.is_some_and(|last| at.since(last) <= span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(
        pid: u32,
        executable: &str,
        parent: &str,
        origin: Origin,
        engine_exec: bool,
    ) -> Process {
        Process {
            pid,
            executable: executable.into(),
            parent: parent.into(),
            uid: 0,
            origin,
            engine_exec,
        }
    }

    fn exec(path: &str) -> Act {
        Act::Exec { path: path.into() }
    }

    #[test]
    fn children_of_a_vouched_shell_are_vouched_until_another_runs_the_same_shell() {
        let mut vouched = Vouched::default();
        let at = Timestamp::from_secs(100);
        assert!(vouched.judge(
            &exec("/bin/sh"),
            &process(1, "/bin/sh", "", Origin::Entered, true),
            at
        ));
        assert!(vouched.judge(
            &exec("/bin/gzip"),
            &process(2, "/bin/gzip", "/bin/sh", Origin::Spawned, false),
            at
        ));
        let stranger = process(9, "/bin/sh", "/usr/bin/python3", Origin::Spawned, false);
        assert!(!vouched.judge(&exec("/bin/sh"), &stranger, at));
        assert!(!vouched.judge(
            &exec("/bin/id"),
            &process(10, "/bin/id", "/bin/sh", Origin::Spawned, false),
            at
        ));
    }

    #[test]
    fn entering_without_the_engines_word_is_not_enough() {
        let mut vouched = Vouched::default();
        let entered = process(1, "/bin/sh", "", Origin::Entered, false);
        assert!(!vouched.judge(&exec("/bin/sh"), &entered, Timestamp::from_secs(1)));
    }

    #[test]
    fn lineage_ends_with_the_session() {
        let mut vouched = Vouched::default();
        vouched.judge(
            &exec("/bin/sh"),
            &process(1, "/bin/sh", "", Origin::Entered, true),
            Timestamp::from_secs(1),
        );
        let late = process(5, "/bin/gzip", "/bin/sh", Origin::Spawned, false);
        assert!(!vouched.judge(&exec("/bin/gzip"), &late, Timestamp::from_secs(1000)));
    }
}
