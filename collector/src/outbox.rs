//! What waits for the bus: one bounded queue in order, which sheds by worth when it is full.
//!
//! Windows go first (the next one says what changed since), behaviours next, inventory and health last. What is shed is
//! counted by container, and reported in the container's next window as `outbox_windows` or `outbox_behaviours`.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// How much a record is worth keeping, from the first to be shed to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// A window.
    Window,
    /// A behaviour.
    Behaviour,
    /// A start, a stop, inventory, health.
    Life,
}

impl Worth {
    /// The cause under which a shed record is counted.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Window => "outbox_windows",
            Self::Behaviour => "outbox_behaviours",
            Self::Life => "outbox_life",
        }
    }
}

#[derive(Debug)]
struct Entry<T> {
    worth: Worth,
    cgroup: u64,
    item: T,
}

/// The queue.
#[derive(Debug)]
pub struct Outbox<T> {
    entries: VecDeque<Entry<T>>,
    entries_max: usize,
    shed: HashMap<u64, BTreeMap<&'static str, u64>>,
}

impl<T> Outbox<T> {
    /// A queue of at most this many records.
    pub fn new(entries_max: usize) -> Self {
        Self { entries: VecDeque::new(), entries_max, shed: HashMap::new() }
    }

    /// Puts a record at the end. When the queue is full the oldest record of the least worth goes, or, when all that
    /// wait are worth more, this one.
    pub fn push(&mut self, worth: Worth, cgroup: u64, item: T) {
        if self.entries.len() >= self.entries_max {
            let least = self.entries.iter().map(|entry| entry.worth).min().unwrap_or(worth);
            if least > worth {
                self.count(worth, cgroup);
                return;
            }
            let oldest = self.entries.iter().position(|entry| entry.worth == least);
            if let Some(gone) = oldest.and_then(|at| self.entries.remove(at)) {
                self.count(gone.worth, gone.cgroup);
            }
        }
        self.entries.push_back(Entry { worth, cgroup, item });
    }

    /// Takes the oldest records, at most this many, in order.
    pub fn take(&mut self, records_max: usize) -> Vec<T> {
        let count = records_max.min(self.entries.len());
        self.entries.drain(..count).map(|entry| entry.item).collect()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What was shed of a container since this was last asked.
    pub fn take_shed(&mut self, cgroup: u64) -> BTreeMap<&'static str, u64> {
        self.shed.remove(&cgroup).unwrap_or_default()
    }

    fn count(&mut self, worth: Worth, cgroup: u64) {
        *self.shed.entry(cgroup).or_default().entry(worth.cause()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_go_before_behaviours_and_those_before_lives() {
        let mut outbox = Outbox::new(3);
        outbox.push(Worth::Life, 1, "start");
        outbox.push(Worth::Window, 1, "window");
        outbox.push(Worth::Behaviour, 1, "exec");
        outbox.push(Worth::Behaviour, 2, "connect");
        assert_eq!(outbox.take_shed(1), [("outbox_windows", 1)].into());
        outbox.push(Worth::Life, 2, "stop");
        assert_eq!(outbox.take_shed(1), [("outbox_behaviours", 1)].into());
        assert_eq!(outbox.take(9), ["start", "connect", "stop"]);
    }

    #[test]
    fn a_window_never_displaces_what_is_worth_more() {
        let mut outbox = Outbox::new(1);
        outbox.push(Worth::Behaviour, 1, "exec");
        outbox.push(Worth::Window, 2, "window");
        assert_eq!(outbox.take_shed(2), [("outbox_windows", 1)].into());
        assert_eq!(outbox.take(9), ["exec"]);
        assert!(outbox.is_empty());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order_or_is_counted(
            pushes in proptest::collection::vec((0..3_u8, 0..4_u64), 0..80), entries_max in 1..20_usize,
        ) {
            let mut outbox = Outbox::new(entries_max);
            for (at, (worth, cgroup)) in pushes.iter().enumerate() {
                let worth = [Worth::Window, Worth::Behaviour, Worth::Life][usize::from(*worth)];
                outbox.push(worth, *cgroup, at);
            }
            let shed: u64 = (0..4).flat_map(|cgroup| outbox.take_shed(cgroup)).map(|(_, count)| count).sum();
            let out = outbox.take(usize::MAX);
            prop_assert!(out.is_sorted());
            prop_assert!(out.len() <= entries_max);
            prop_assert_eq!(out.len() as u64 + shed, pushes.len() as u64);
        }
    }
}
