//! The processes that containers run: which executable, whose child, and whether they came from outside.
//!
//! Filled by exec events; ends are not reported, so the table is swept now and then. A process that never executed anything (a forked worker) is looked up in `/proc` the first time
//! it acts. Who descends from a process that entered came from outside too, and shares its session: one word of the
//! engine vouches for the shell and for what the shell runs.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bulkhead_domain::Timestamp;
use bulkhead_domain::process::{Origin, Process};
use bulkhead_domain::text::printable;

/// Processes remembered; beyond it the one that was seen first is forgotten.
pub const PROCESSES_MAX: usize = 32_768;

/// Longest path kept, in characters.
const PATH_CHARS_MAX: usize = 512;

/// A program that executes itself, as shells with built-in commands do: it is whatever it was before.
const SELF: &str = "/proc/self/exe";

/// How long a process that ended is remembered, ms: its last acts may still wait in the ring.
const AFTERLIFE_MS: u64 = 5_000;

/// What `/proc` says of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Path of the executable.
    pub executable: String,
    /// Its parent.
    pub parent: u32,
    /// Effective user id.
    pub uid: u32,
}

/// An exec as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Process id.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Path of the executable, as the kernel resolved it.
    pub path: String,
    /// Effective user id.
    pub uid: u32,
    /// How it came to be in its container.
    pub origin: Origin,
    /// When.
    pub at: Timestamp,
}

/// The process from outside that a process descends from, or is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub pid: u32,
    /// When it entered.
    pub entered: Timestamp,
}

#[derive(Clone, Debug)]
struct Known {
    executable: String,
    parent: String,
    uid: u32,
    origin: Origin,
    session: Option<Session>,
    ended: Option<Timestamp>,
    born: u64,
}

/// All processes of containers, by id.
#[derive(Debug, Default)]
pub struct Processes {
    by_pid: HashMap<u32, Known>,
    order: VecDeque<(u32, u64)>,
    births: u64,
}

impl Processes {
    /// Takes in an exec, and returns the process as behaviours name it.
    pub fn executed(
        &mut self,
        exec: &Executed,
        look: impl Fn(u32) -> Option<Looked>,
    ) -> (Process, Option<Session>) {
        let parent = self.by_pid.get(&exec.parent);
        let before = self.by_pid.get(&exec.pid);
        let session = match exec.origin {
            // The session began with the first exec: what follows in the same process, and its children, are still it.
            Origin::Entered => Some(
                before
                    .and_then(|before| before.session)
                    .filter(|session| session.pid == exec.pid)
                    .or_else(|| parent.and_then(|parent| parent.session))
                    .unwrap_or(Session { pid: exec.pid, entered: exec.at }),
            ),
            Origin::Started => None,
            Origin::Spawned | Origin::Unknown => {
                before.or(parent).and_then(|relative| relative.session)
            }
        };
        let parent_inside = parent.is_some();
        let parent = match parent {
            Some(parent) => parent.executable.clone(),
            None => look(exec.parent).map(|looked| bounded(&looked.executable)).unwrap_or_default(),
        };
        let origin = match exec.origin {
            _ if session.is_some() => Origin::Entered,
            // The kernel lost track, but its parent is known to be inside.
            Origin::Unknown if parent_inside => Origin::Spawned,
            origin => origin,
        };
        let path = match (exec.path.as_str(), before) {
            (SELF, Some(before)) => before.executable.clone(),
            (SELF, None) if parent_inside => parent.clone(),
            (path, _) => bounded(path),
        };
        self.insert(
            exec.pid,
            Known {
                executable: path,
                parent,
                uid: exec.uid,
                origin,
                session,
                ended: None,
                born: 0,
            },
        );
        self.known(exec.pid).expect("it was put there just now")
    }

    /// The process behind an act, and the session it belongs to; `None` when nobody knows it any more.
    pub fn of(
        &mut self,
        pid: u32,
        look: impl Fn(u32) -> Option<Looked>,
    ) -> Option<(Process, Option<Session>)> {
        if pid == 0 {
            return None;
        }
        if let Some(found) = self.known(pid) {
            return Some(found);
        }
        let looked = look(pid)?;
        let parent = self.by_pid.get(&looked.parent);
        let session = parent.and_then(|parent| parent.session);
        let origin = match (session, parent) {
            (Some(_), _) => Origin::Entered,
            (None, Some(_)) => Origin::Spawned,
            (None, None) => Origin::Unknown,
        };
        let parent = match parent {
            Some(parent) => parent.executable.clone(),
            None => {
                look(looked.parent).map(|parent| bounded(&parent.executable)).unwrap_or_default()
            }
        };
        let executable = bounded(&looked.executable);
        let known =
            Known { executable, parent, uid: looked.uid, origin, session, ended: None, born: 0 };
        self.insert(pid, known);
        self.known(pid)
    }

    /// Marks those that are there no longer: a process's end is not reported, and its id is used again.
    pub fn sweep(&mut self, now: Timestamp, alive: impl Fn(u32) -> bool) {
        for (pid, known) in &mut self.by_pid {
            if known.ended.is_none() && !alive(*pid) {
                known.ended = Some(now);
            }
        }
    }

    /// Forgets what ended a while ago.
    pub fn expire(&mut self, now: Timestamp) {
        let over = |ended: Timestamp| now.since(ended) > Duration::from_millis(AFTERLIFE_MS);
        self.by_pid.retain(|_, known| !known.ended.is_some_and(over));
        let by_pid = &self.by_pid;
        self.order.retain(|(pid, born)| by_pid.get(pid).is_some_and(|known| known.born == *born));
    }

    fn known(&self, pid: u32) -> Option<(Process, Option<Session>)> {
        let known = self.by_pid.get(&pid)?;
        let process = Process {
            pid,
            executable: known.executable.clone(),
            parent: known.parent.clone(),
            uid: known.uid,
            origin: known.origin,
            engine_exec: false,
        };
        Some((process, known.session))
    }

    fn insert(&mut self, pid: u32, known: Known) {
        self.births += 1;
        self.by_pid.insert(pid, Known { born: self.births, ..known });
        self.order.push_back((pid, self.births));
        while self.by_pid.len() > PROCESSES_MAX || self.order.len() > 4 * PROCESSES_MAX {
            let Some((pid, born)) = self.order.pop_front() else { break };
            if self.by_pid.get(&pid).is_some_and(|known| known.born == born) {
                self.by_pid.remove(&pid);
            }
        }
    }
}

/// What `/proc` says of a process now; `None` when it is gone.
pub fn look(pid: u32) -> Option<Looked> {
    let executable = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str, at: usize| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().nth(at))
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    };
    Some(Looked {
        executable: executable.to_string_lossy().into_owned(),
        parent: field("PPid:", 0),
        // Real, effective, saved, file system.
        uid: field("Uid:", 1),
    })
}

/// A path cut to the bound, its control characters escaped.
fn bounded(path: &str) -> String {
    printable(path, PATH_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(pid: u32, parent: u32, path: &str, origin: Origin) -> Executed {
        Executed { pid, parent, path: path.into(), uid: 0, origin, at: Timestamp::from_secs(1) }
    }

    fn nobody(_: u32) -> Option<Looked> {
        None
    }

    #[test]
    fn a_process_knows_its_parents_executable() {
        let mut processes = Processes::default();
        processes.executed(&exec(1, 0, "/bin/init", Origin::Started), nobody);
        let (process, session) =
            processes.executed(&exec(2, 1, "/bin/web", Origin::Spawned), nobody);
        assert_eq!(
            (process.executable.as_str(), process.parent.as_str()),
            ("/bin/web", "/bin/init")
        );
        assert_eq!((process.origin, session), (Origin::Spawned, None));
    }

    #[test]
    fn what_an_entered_shell_runs_came_from_outside_too() {
        let mut processes = Processes::default();
        let entered = exec(7, 0, "/bin/sh", Origin::Entered);
        let (_, session) = processes.executed(&entered, nobody);
        assert_eq!(session, Some(Session { pid: 7, entered: Timestamp::from_secs(1) }));
        let (child, inherited) =
            processes.executed(&exec(8, 7, "/bin/ls", Origin::Spawned), nobody);
        assert_eq!((child.origin, inherited), (Origin::Entered, session));
        // A second exec of the same process does not begin a new session.
        let later =
            Executed { at: Timestamp::from_secs(9), ..exec(7, 0, "/bin/ls", Origin::Entered) };
        assert_eq!(processes.executed(&later, nobody).1, session);
    }

    #[test]
    fn a_forked_worker_is_looked_up_once() {
        let mut processes = Processes::default();
        processes.executed(&exec(1, 0, "/bin/web", Origin::Started), nobody);
        let worker = Looked { executable: "/bin/web".into(), parent: 1, uid: 33 };
        let (process, _) = processes.of(5, |_| Some(worker.clone())).unwrap();
        assert_eq!(
            (process.origin, process.uid, process.parent.as_str()),
            (Origin::Spawned, 33, "/bin/web")
        );
        assert!(processes.of(5, nobody).is_some(), "known without looking again");
        assert_eq!(processes.of(6, nobody), None);
        assert_eq!(processes.of(0, |_| Some(worker.clone())), None, "no process is nobody's");
    }

    #[test]
    fn a_program_that_executes_itself_is_what_it_was() {
        let mut processes = Processes::default();
        processes.executed(&exec(1, 0, "/bin/busybox", Origin::Started), nobody);
        let (child, _) = processes.executed(&exec(2, 1, SELF, Origin::Spawned), nobody);
        assert_eq!(child.executable, "/bin/busybox");
    }

    #[test]
    fn a_child_of_somebody_inside_was_spawned_whatever_the_kernel_knows() {
        let mut processes = Processes::default();
        processes.executed(&exec(1, 0, "/bin/sh", Origin::Started), nobody);
        let (child, _) = processes.executed(&exec(2, 1, "/bin/ls", Origin::Unknown), nobody);
        assert_eq!(child.origin, Origin::Spawned);
        let (lost, _) = processes.executed(&exec(3, 99, "/bin/ls", Origin::Unknown), nobody);
        assert_eq!(lost.origin, Origin::Unknown);
    }

    #[test]
    fn a_process_outlives_its_end_by_what_still_waits() {
        let mut processes = Processes::default();
        processes.executed(&exec(1, 0, "/bin/web", Origin::Started), nobody);
        processes.sweep(Timestamp::from_secs(9), |_| true);
        processes.sweep(Timestamp::from_secs(10), |_| false);
        processes.expire(Timestamp::from_secs(11));
        assert!(processes.of(1, nobody).is_some());
        processes.expire(Timestamp::from_secs(30));
        assert!(processes.of(1, nobody).is_none());
        assert!(processes.order.is_empty());
    }

    #[test]
    fn the_table_is_bounded() {
        let mut processes = Processes::default();
        for pid in 1..=PROCESSES_MAX as u32 + 10 {
            processes.executed(&exec(pid, 0, "/bin/x", Origin::Spawned), nobody);
        }
        assert_eq!(processes.by_pid.len(), PROCESSES_MAX);
        assert!(processes.of(1, nobody).is_none());
    }

    #[test]
    fn a_path_is_never_kept_raw() {
        let mut processes = Processes::default();
        let (process, _) = processes.executed(&exec(1, 0, "/tmp/\x1b[2J", Origin::Spawned), nobody);
        assert_eq!(process.executable, "/tmp/\\u{1b}[2J");
    }

    #[test]
    fn this_process_is_found_in_proc() {
        let own = look(std::process::id()).unwrap();
        assert!(own.executable.contains("bulkhead"), "{own:?}");
        assert_ne!(own.parent, 0);
    }
}
