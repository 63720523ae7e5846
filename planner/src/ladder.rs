//! How long a measure lasts: longer each time that the same one is needed again.

use std::time::Duration;

use bulkhead_domain::Timestamp;
use bulkhead_domain::measure::{Measure, Proposal};

/// After this long without the same measure, the ladder begins again: four times its highest default step.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(28 * 86_400);

/// The step for this proposal, from how many automatic measures of the same target and action came before.
///
/// A container keeps its steps over a restart (its engine's id stays); a measure that a person released does not count,
/// because it should not have been.
pub fn rung<'a>(
    proposal: &Proposal,
    history: impl IntoIterator<Item = &'a Measure>,
    now: Timestamp,
) -> u8 {
    let before = history
        .into_iter()
        .filter(|m| !m.is_manual() && is_same(proposal, m))
        .filter(|m| now.since(m.expires) < FORGOTTEN_AFTER)
        .count();
    u8::try_from(before).unwrap_or(u8::MAX)
}

/// How long a step lasts; beyond the last one, as long as that. An empty ladder is one of ten minutes.
pub fn ttl(ladder: &[Duration], rung: u8) -> Duration {
    let step = ladder.get(usize::from(rung)).or(ladder.last());
    step.copied().unwrap_or(Duration::from_secs(600))
}

/// Whether a measure does what the proposal wants, to whom it wants it.
pub fn is_same(proposal: &Proposal, measure: &Measure) -> bool {
    measure.action == proposal.action
        && crate::plan::is_same_target(&measure.target, &proposal.target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, container_target, deny, measure, proposal, workload_target};

    #[test]
    fn the_first_time_is_the_first_step() {
        assert_eq!(rung(&proposal(workload_target(), deny()), [], at(0)), 0);
    }

    #[test]
    fn each_repeat_is_a_step_up_through_restarts_too() {
        let mut before = measure(1, container_target(1), deny(), at(0), at(600));
        let mut target = container_target(1);
        if let bulkhead_domain::measure::Target::Container(key) = &mut target {
            key.cgroup += 1;
        }
        let again = proposal(target, deny());
        assert_eq!(rung(&again, [&before], at(700)), 1);
        before.action = bulkhead_domain::measure::Action::Quarantine;
        assert_eq!(rung(&again, [&before], at(700)), 0, "another action has a ladder of its own");
    }

    #[test]
    fn what_a_person_decided_is_no_step() {
        let mut manual = measure(1, workload_target(), deny(), at(0), at(600));
        manual.decider = bulkhead_domain::measure::Decider::Manual { who: "ann".into() };
        assert_eq!(rung(&proposal(workload_target(), deny()), [&manual], at(700)), 0);
    }

    #[test]
    fn after_four_weeks_it_begins_again() {
        let before = measure(1, workload_target(), deny(), at(0), at(600));
        let again = proposal(workload_target(), deny());
        let weeks = |n: u64| at(600 + n * 7 * 86_400);
        assert_eq!(rung(&again, [&before], weeks(3)), 1);
        assert_eq!(rung(&again, [&before], weeks(4)), 0);
    }

    #[test]
    fn the_last_step_is_the_longest() {
        let ladder = [Duration::from_secs(10), Duration::from_secs(60)];
        assert_eq!(ttl(&ladder, 0), Duration::from_secs(10));
        assert_eq!(ttl(&ladder, 1), Duration::from_secs(60));
        assert_eq!(ttl(&ladder, 9), Duration::from_secs(60));
        assert_eq!(ttl(&[], 0), Duration::from_secs(600));
    }
}
