//! When a dead child is started again: a decision over its history, without a clock.

use std::time::Duration;

/// Shortest pause before a restart.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Longest pause: a child that keeps dying costs little, and is back soon once the cause is gone.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A child that lived this long had started well; its earlier deaths are forgotten.
const LIVED_WELL: Duration = Duration::from_secs(5);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By its own decision, with this status.
    Exited(i32),
    /// By a signal.
    Killed,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start it again after this pause.
    Restart(Duration),
    /// Stop everything with this status: it said itself that it cannot start.
    GiveUp(i32),
}

/// The history of one child.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    short_lives: u32,
    started_well: bool,
}

impl History {
    /// Decides after the child lived this long and ended so.
    ///
    /// A child that has never lived well and exits by itself has reported what is wrong (a missing feature, a bad
    /// configuration): starting it again would only repeat the message. One that was killed, or that once lived well, is
    /// always started again, later each time.
    pub fn ended(&mut self, lived: Duration, end: End) -> Next {
        if lived >= LIVED_WELL {
            self.started_well = true;
            self.short_lives = 0;
        }
        if let End::Exited(status) = end
            && !self.started_well
        {
            return Next::GiveUp(status);
        }
        let pause = PAUSE_MIN.saturating_mul(1 << self.short_lives.min(16)).min(PAUSE_MAX);
        self.short_lives += 1;
        Next::Restart(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_child_that_cannot_start_stops_everything() {
        assert_eq!(History::default().ended(SHORT, End::Exited(2)), Next::GiveUp(2));
    }

    #[test]
    fn a_killed_child_comes_back_even_at_once() {
        assert_eq!(History::default().ended(SHORT, End::Killed), Next::Restart(PAUSE_MIN));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_shrink_after_a_good_life() {
        let mut history = History::default();
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            let Next::Restart(pause) = history.ended(SHORT, End::Killed) else { panic!() };
            assert!(pause >= last && pause <= PAUSE_MAX);
            last = pause;
        }
        assert_eq!(last, PAUSE_MAX);
        assert_eq!(history.ended(LONG, End::Exited(1)), Next::Restart(PAUSE_MIN));
    }
}
