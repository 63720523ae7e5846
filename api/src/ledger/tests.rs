//! What the ledger promises.

use super::*;
use crate::fixture::{alert, container, deny};

#[test]
fn the_latest_revision_of_an_alert_wins_in_any_order() {
    let mut ledger = Ledger::default();
    ledger.alert(alert(1, 2));
    ledger.alert(alert(1, 1));
    assert_eq!(ledger.alerts().map(|a| a.revision).collect::<Vec<_>>(), [2]);
    ledger.alert(alert(1, 3));
    assert_eq!(ledger.alerts().map(|a| a.revision).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_follower_sees_each_change_after_its_cursor_once() {
    let mut ledger = Ledger::default();
    ledger.alert(alert(1, 1));
    let cursor = ledger.cursor();
    assert_eq!(ledger.alerts_after(cursor).count(), 0);
    ledger.alert(alert(2, 1));
    ledger.alert(alert(1, 2));
    let ids: Vec<u64> = ledger.alerts_after(cursor).map(|a| a.id.0).collect();
    assert_eq!(ids, [2, 1]);
}

#[test]
fn alerts_are_bounded_and_the_oldest_leave_first() {
    let mut ledger = Ledger::default();
    for id in 0..=ALERTS_MAX as u64 {
        ledger.alert(alert(id, 1));
    }
    assert_eq!(ledger.alerts().count(), ALERTS_MAX);
    assert!(ledger.alerts().all(|a| a.id.0 != 0));
}

#[test]
fn a_late_stop_of_an_earlier_life_does_not_hide_a_restarted_container() {
    let mut ledger = Ledger::default();
    let (old, new) = (container("web-1", 1), container("web-1", 2));
    let word = |container: Container, state| InventoryRecord { container, state, at: Timestamp(0) };
    ledger.inventory(word(old.clone(), LifeState::Running));
    ledger.inventory(word(new.clone(), LifeState::Running));
    ledger.inventory(word(old, LifeState::Stopped));
    assert_eq!(ledger.containers().count(), 1);
    ledger.inventory(word(new, LifeState::Stopped));
    assert_eq!(ledger.containers().count(), 0);
}

#[test]
fn measures_end_by_release_and_by_time() {
    let mut ledger = Ledger::default();
    ledger.measure(MeasureRecord::Set(deny(1, "198.51.100.7", 100)));
    ledger.measure(MeasureRecord::Set(deny(2, "198.51.100.8", 200)));
    assert_eq!(ledger.measures(Timestamp(50)).len(), 2);
    assert_eq!(ledger.measures(Timestamp(100)).len(), 1);
    ledger.measure(MeasureRecord::Released {
        id: MeasureId(2),
        workload: container("web-1", 1).workload,
        cluster: "local".into(),
        who: "ada".into(),
        why: String::new(),
        at: Timestamp(60),
    });
    assert!(ledger.measures(Timestamp(100)).is_empty());
}

#[test]
fn a_measure_names_the_containers_it_concerns_now() {
    let mut ledger = Ledger::default();
    let at = Timestamp(0);
    for (name, cgroup) in [("web-2", 2), ("web-1", 1)] {
        let container = container(name, cgroup);
        ledger.inventory(InventoryRecord { container, state: LifeState::Running, at });
    }
    ledger.measure(MeasureRecord::Set(deny(1, "198.51.100.7", 100)));
    let summaries = ledger.measure_summaries(Some(MeasureKind::Deny), Timestamp(50));
    assert_eq!(summaries[0].containers, ["web-1", "web-2"]);
    assert!(ledger.measure_summaries(Some(MeasureKind::Quarantine), Timestamp(50)).is_empty());
}
