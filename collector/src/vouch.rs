//! Whether an engine vouches for a process that entered a container: its own exec event, not the process's looks.
//!
//! The event and the process race each other: the process may be seen first. So a behaviour of an entered process waits,
//! at most [`WAIT_MS`], for the event; and an event whose process the engine could not name vouches for one process only,
//! within [`WINDOW_MS`].

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bulkhead_domain::Timestamp;

use crate::naming::event::Exec;

/// How long a behaviour of an entered process waits for an engine's word, ms.
pub const WAIT_MS: u64 = 1_000;

/// How far an event and the process that it vouches for may lie apart, ms: engines tell within this, loaded or not.
pub const WINDOW_MS: u64 = 5_000;

/// Events remembered for one container; a health check every second leaves room for a minute of others.
const EVENTS_MAX: usize = 64;

/// Containers with events remembered.
const CONTAINERS_MAX: usize = 4096;

#[derive(Debug)]
struct Event {
    at: Timestamp,
    /// The processes that the engine named, or the one that used the event up.
    pids: Vec<u32>,
    user: String,
}

/// The engines' exec events of late, by container.
#[derive(Debug, Default)]
pub struct Vouchers {
    by_container: HashMap<String, VecDeque<Event>>,
}

impl Vouchers {
    /// Remembers an engine's exec event.
    pub fn note(&mut self, exec: Exec, at: Timestamp) {
        if self.by_container.len() >= CONTAINERS_MAX
            && !self.by_container.contains_key(&exec.container)
        {
            return;
        }
        let events = self.by_container.entry(exec.container).or_default();
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(Event { at, pids: exec.pids, user: exec.user });
    }

    /// The user for whom an engine ran this process; `None` when no event vouches for it (yet).
    pub fn vouch(&mut self, container: &str, pid: u32, entered: Timestamp) -> Option<&str> {
        let events = self.by_container.get_mut(container)?;
        let near = |event: &Event| apart(event.at, entered) <= Duration::from_millis(WINDOW_MS);
        let position = events
            .iter()
            .position(|event| near(event) && event.pids.contains(&pid))
            .or_else(|| events.iter().position(|event| near(event) && event.pids.is_empty()))?;
        let event = &mut events[position];
        if event.pids.is_empty() {
            event.pids.push(pid);
        }
        Some(&event.user)
    }

    /// Forgets what is too old to vouch for anything.
    pub fn expire(&mut self, now: Timestamp) {
        self.by_container.retain(|_, events| {
            events.retain(|event| apart(event.at, now) <= Duration::from_millis(2 * WINDOW_MS));
            !events.is_empty()
        });
    }
}

fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(pids: &[u32]) -> Exec {
        Exec { container: "web".into(), pids: pids.to_vec(), user: "1000".into() }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_000 + secs)
    }

    #[test]
    fn an_event_vouches_for_the_process_it_names_and_no_other() {
        let mut vouchers = Vouchers::default();
        assert_eq!(vouchers.vouch("web", 7, at(0)), None);
        vouchers.note(exec(&[7]), at(0));
        assert_eq!(vouchers.vouch("web", 8, at(0)), None);
        assert_eq!(vouchers.vouch("other", 7, at(0)), None);
        assert_eq!(vouchers.vouch("web", 7, at(0)), Some("1000"));
        assert_eq!(vouchers.vouch("web", 7, at(1)), Some("1000"), "its later acts too");
    }

    #[test]
    fn an_event_without_a_process_is_used_up_by_the_first() {
        let mut vouchers = Vouchers::default();
        vouchers.note(exec(&[]), at(0));
        assert!(vouchers.vouch("web", 7, at(1)).is_some());
        assert!(vouchers.vouch("web", 7, at(2)).is_some());
        assert_eq!(vouchers.vouch("web", 8, at(1)), None);
    }

    #[test]
    fn an_event_long_past_vouches_for_nothing() {
        let mut vouchers = Vouchers::default();
        vouchers.note(exec(&[7]), at(0));
        assert_eq!(vouchers.vouch("web", 7, at(60)), None);
        vouchers.expire(at(60));
        assert!(vouchers.by_container.is_empty());
    }

    #[test]
    fn the_process_may_be_seen_before_the_event() {
        let mut vouchers = Vouchers::default();
        vouchers.note(exec(&[]), at(3));
        assert!(vouchers.vouch("web", 7, at(1)).is_some());
    }
}
