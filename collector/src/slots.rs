//! Which container has which slot: small indexes, reused as late as possible.
//!
//! A record that still waits in the ring when its container ends carries the old index, so a freed one goes to the end of
//! the queue. The kernel's counters of an index are never reset: whoever gets it takes differences from what it holds.

use std::collections::VecDeque;

/// The free indexes.
#[derive(Debug)]
pub struct Slots {
    free: VecDeque<u32>,
}

impl Slots {
    /// All indexes below `slots_max` but 0, which means "no container".
    pub fn new(slots_max: u32) -> Self {
        Self { free: (1..slots_max).collect() }
    }

    /// Takes an index that another run of the observer had given already; `false` when it is not free.
    pub fn keep(&mut self, index: u32) -> bool {
        let at = self.free.iter().position(|free| *free == index);
        at.and_then(|at| self.free.remove(at)).is_some()
    }

    /// The index that has been free longest; `None` when all are in use.
    pub fn claim(&mut self) -> Option<u32> {
        self.free.pop_front()
    }

    /// Whether one is free.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Gives an index back.
    pub fn release(&mut self, index: u32) {
        debug_assert!(!self.free.contains(&index), "an index is released once");
        self.free.push_back(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_index_is_the_last_to_come_back() {
        let mut slots = Slots::new(4);
        assert_eq!(slots.claim(), Some(1));
        slots.release(1);
        assert_eq!([slots.claim(), slots.claim(), slots.claim()], [Some(2), Some(3), Some(1)]);
        assert_eq!(slots.claim(), None);
    }

    #[test]
    fn an_index_of_an_earlier_run_is_kept_once() {
        let mut slots = Slots::new(4);
        assert!(slots.keep(2));
        assert!(!slots.keep(2));
        assert!(!slots.keep(0));
        assert_eq!([slots.claim(), slots.claim(), slots.claim()], [Some(1), Some(3), None]);
    }
}
