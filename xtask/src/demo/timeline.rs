//! What happens, line by line, with the time since the beginning.

use std::time::{Duration, Instant};

/// The clock of the demo.
#[derive(Debug)]
pub(crate) struct Timeline {
    started: Instant,
}

impl Timeline {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Tells what happened.
    pub(crate) fn tell(&self, who: &str, what: &str) {
        println!("{} {who:<10} {what}", stamp(self.elapsed()));
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Tells more about what was told last.
pub(crate) fn more(what: &str) {
    println!("{:17} {what}", "");
}

/// Minutes and seconds.
pub(crate) fn stamp(time: Duration) -> String {
    format!("{:>2}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_minutes_and_seconds() {
        assert_eq!(stamp(Duration::from_secs(65)), " 1:05");
    }
}
