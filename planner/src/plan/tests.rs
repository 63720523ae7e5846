//! What the planner does, and what it never does.

use bulkhead_domain::alert::Review;
use bulkhead_domain::measure::MeasureRecord;

use super::*;
use crate::fixture::{
    alert, at, container, container_target, deny, measure, proposal, released, running, settings,
    workload, workload_target,
};

fn peer(text: &str) -> PeerMatch {
    text.parse().unwrap()
}

fn with_replicas(number: u64) -> State {
    let mut state = State::default();
    (1..=number).for_each(|n| state.inventory(running(container(n))));
    state
}

fn denies() -> Alert {
    alert(1, Some(proposal(workload_target(), deny())), at(0))
}

fn quarantines(number: u64) -> Alert {
    alert(number, Some(proposal(container_target(number), Action::Quarantine)), at(0))
}

fn imposed(plan: &Plan) -> &Measure {
    match &plan.steps[..] {
        [Step::Impose(measure)] => measure,
        other => panic!("expected one measure, found {other:?}"),
    }
}

#[track_caller]
fn reason(plan: &Plan) -> &str {
    match &plan.steps[..] {
        [Step::HoldBack { reason, .. }] => reason,
        other => panic!("expected it to be held back, found {other:?}"),
    }
}

#[test]
fn in_enforce_the_proposal_becomes_a_measure_with_the_first_ttl() {
    let plan = plan(&denies(), &with_replicas(1), &settings(), at(1));
    let measure = imposed(&plan);
    assert_eq!((&measure.target, &measure.action), (&workload_target(), &deny()));
    assert_eq!((measure.created, measure.expires), (at(1), at(11)));
    assert_eq!(measure.decider, Decider::Automatic { alert: denies().id, rung: 0 });
    assert_eq!(measure.cluster, "local");
}

#[test]
fn in_learn_and_detect_nothing_is_done() {
    for mode in [Mode::Learn, Mode::Detect] {
        let alert = Alert { mode, ..denies() };
        assert_eq!(plan(&alert, &with_replicas(1), &settings(), at(1)), Plan::default());
    }
}

#[test]
fn an_alert_without_a_proposal_a_closed_one_and_a_reviewed_one_lead_to_nothing() {
    let accepted = Review::Accepted { who: "ann".into(), why: "known".into() };
    for alert in [
        Alert { proposal: None, ..denies() },
        Alert { closed: true, ..denies() },
        Alert { review: accepted, ..denies() },
        Alert { review: Review::Muted { who: "ann".into() }, ..denies() },
    ] {
        assert_eq!(plan(&alert, &with_replicas(1), &settings(), at(1)), Plan::default());
    }
}

#[test]
fn the_same_alert_again_has_the_same_id_so_that_a_redelivery_is_harmless() {
    let (state, settings) = (with_replicas(1), settings());
    let (first, again) =
        (plan(&denies(), &state, &settings, at(1)), plan(&denies(), &state, &settings, at(2)));
    assert_eq!(imposed(&first).id, imposed(&again).id);
}

#[test]
fn what_is_in_force_is_not_imposed_again() {
    let mut state = with_replicas(1);
    state.measure(MeasureRecord::Set(measure(9, workload_target(), deny(), at(0), at(100))));
    assert_eq!(plan(&denies(), &state, &settings(), at(1)), Plan::default());
}

#[test]
fn a_wider_measure_is_enough() {
    let container_deny = alert(1, Some(proposal(container_target(1), deny())), at(0));
    for (target, action, enough) in [
        (workload_target(), Action::Deny(peer("203.0.113.0/24")), true),
        (container_target(1), Action::Quarantine, true),
        (container_target(2), Action::Quarantine, false),
        (workload_target(), Action::Deny(peer("203.0.113.9:443/tcp")), false),
        (workload_target(), Action::Deny(peer("203.0.113.8")), false),
    ] {
        let mut state = with_replicas(2);
        let text = format!("{target} {action}");
        state.measure(MeasureRecord::Set(measure(9, target, action, at(0), at(100))));
        let planned = plan(&container_deny, &state, &settings(), at(1));
        assert_eq!(planned == Plan::default(), enough, "{text}");
    }
}

#[test]
fn a_repeat_lasts_longer_and_one_that_a_person_released_does_not_count() {
    let mut state = with_replicas(1);
    let before = measure(9, workload_target(), deny(), at(0), at(10));
    state.measure(MeasureRecord::Set(before.clone()));
    let again = Alert { last: at(20), ..denies() };
    let repeated = plan(&again, &state, &settings(), at(20));
    assert_eq!(imposed(&repeated).expires, at(80));
    assert_eq!(imposed(&repeated).decider, Decider::Automatic { alert: again.id, rung: 1 });
    state.measure(released(&before));
    let forgiven = plan(&again, &state, &settings(), at(20));
    assert_eq!(imposed(&forgiven).expires, at(30));
}

#[test]
fn old_evidence_alerts_and_never_acts() {
    let state = with_replicas(1);
    assert!(!plan(&denies(), &state, &settings(), at(60)).steps.is_empty());
    imposed(&plan(&denies(), &state, &settings(), at(60)));
    let late = plan(&denies(), &state, &settings(), at(61));
    assert!(reason(&late).contains("evidence is 1m1s old"), "{}", reason(&late));
}

#[test]
fn a_protected_workload_is_never_measured_by_full_or_by_short_name() {
    for entry in [workload().to_string(), workload().short()] {
        let mut settings = settings();
        settings.guardrails.protect = vec![entry.clone()];
        let held = plan(&denies(), &with_replicas(1), &settings, at(1));
        assert!(reason(&held).contains(&entry), "{}", reason(&held));
    }
}

#[test]
fn a_protected_or_needed_peer_is_never_denied_not_even_in_part() {
    for (rule, held) in [
        ("203.0.113.9", true),
        ("203.0.113.0/24", true),
        ("203.0.113.9:53/udp", true),
        ("203.0.113.8", false),
        ("2001:db8::/32", false),
    ] {
        let mut protected = settings();
        protected.guardrails.protected = vec![peer(rule)];
        let needed = Settings { node_critical: vec![peer(rule)], ..settings() };
        for settings in [protected, needed] {
            let plan = plan(&denies(), &with_replicas(1), &settings, at(1));
            assert_eq!(matches!(plan.steps[..], [Step::HoldBack { .. }]), held, "{rule}");
        }
    }
}

#[test]
fn a_quarantine_ignores_protected_peers_because_it_denies_none_by_name() {
    let mut settings = settings();
    settings.guardrails.protected = vec![peer("0.0.0.0/0")];
    imposed(&plan(&quarantines(1), &with_replicas(1), &settings, at(1)));
}

#[test]
fn at_most_so_many_measures_a_minute() {
    let mut settings = settings();
    settings.guardrails.measures_per_minute_max = 2;
    let mut state = with_replicas(1);
    for number in [8, 9] {
        let other = Action::Deny(peer(&format!("198.51.100.{number}")));
        state.measure(MeasureRecord::Set(measure(number, workload_target(), other, at(0), at(5))));
    }
    let held = plan(&denies(), &state, &settings, at(10));
    assert!(reason(&held).contains("at most 2"), "{}", reason(&held));
    imposed(&plan(&denies(), &state, &settings, at(60)));
}

#[test]
fn a_persons_measures_do_not_count_against_the_minute() {
    let mut settings = settings();
    settings.guardrails.measures_per_minute_max = 1;
    let mut state = with_replicas(1);
    let mut manual =
        measure(8, workload_target(), Action::Deny(peer("198.51.100.8")), at(0), at(5));
    manual.decider = Decider::Manual { who: "ann".into() };
    state.measure(MeasureRecord::Set(manual));
    imposed(&plan(&denies(), &state, &settings, at(1)));
}

#[test]
fn at_most_a_share_of_the_replicas_is_quarantined_and_always_one() {
    for (running, cut, allowed) in [
        (1, 0, true),
        (2, 0, true),
        (2, 1, false),
        (5, 1, false),
        (6, 1, true),
        (6, 2, false),
        (9, 2, true),
    ] {
        let mut state = with_replicas(running);
        for number in 2..2 + cut {
            let target = container_target(number);
            let quarantine = measure(number, target, Action::Quarantine, at(0), at(900));
            state.measure(MeasureRecord::Set(quarantine));
        }
        let plan = plan(&quarantines(1), &state, &settings(), at(1));
        let imposed = matches!(plan.steps[..], [Step::Impose(_)]);
        assert_eq!(imposed, allowed, "{cut} of {running}: {plan:?}");
    }
}

#[test]
fn the_quarantine_of_a_container_that_is_gone_leaves_room() {
    let mut state = with_replicas(2);
    let gone = measure(9, container_target(7), Action::Quarantine, at(0), at(900));
    state.measure(MeasureRecord::Set(gone));
    imposed(&plan(&quarantines(1), &state, &settings(), at(1)));
}

#[test]
fn a_whole_workload_of_several_replicas_is_not_quarantined() {
    let whole = alert(1, Some(proposal(workload_target(), Action::Quarantine)), at(0));
    imposed(&plan(&whole, &with_replicas(1), &settings(), at(1)));
    reason(&plan(&whole, &with_replicas(2), &settings(), at(1)));
}

#[test]
fn a_container_that_the_inventory_does_not_know_yet_may_be_quarantined() {
    imposed(&plan(&quarantines(1), &State::default(), &settings(), at(1)));
}
