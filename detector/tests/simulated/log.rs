//! What the log promises: the same log gives the same answers, duplicates change nothing, snapshots lose nothing, and
//! people's decisions take effect in its order.

use std::time::Duration;

use bulkhead_detector::{ArtifactError, Config, Engine, Output};
use bulkhead_domain::alert::{Alert, Review};
use bulkhead_domain::behaviour::{Act, BehaviourKind, ForbiddenAct};
use bulkhead_domain::intent::{Intent, Wish};
use bulkhead_domain::net::{Peer, Protocol};
use bulkhead_domain::observation::Body;
use bulkhead_domain::window::Direction;
use bulkhead_domain::{Mode, Observation};

use crate::shop::{Role, Shop, flow, short_run};

fn attack(shop: &mut Shop) {
    shop.act(
        Role::App1,
        Act::Exec { path: "/bin/sh".into() },
        Some(Shop::own("/bin/sh", "/usr/bin/server")),
    );
    shop.extra.entry(Role::App1).or_default().peers.push(flow(
        Role::Store,
        9000,
        Direction::Outbound,
        0,
        [52e6, 1.4e6],
        1.0,
    ));
    shop.run(30);
}

fn recorded() -> Shop {
    let mut shop = Shop::open(short_run(), 3, true);
    shop.learn();
    shop.run(20);
    attack(&mut shop);
    shop.restart(Role::App1);
    shop.run(100);
    shop
}

fn wish(shop: &mut Shop, role: Role, wish: Wish) {
    shop.publish(role, Body::Intent(Intent { wish, who: "ann".into(), why: "known".into() }));
}

fn answers(engine: &mut Engine, log: &[Observation]) -> Vec<Output> {
    log.iter().flat_map(|o| engine.handle(o)).collect()
}

#[test]
fn the_same_log_gives_the_same_answers_to_the_byte() {
    let log = recorded().log;
    let run = || {
        let mut engine = Engine::new(short_run());
        let outputs = answers(&mut engine, &log);
        let snapshots: Vec<_> =
            engine.workloads().iter().map(|w| engine.snapshot(w).unwrap()).collect();
        (format!("{outputs:?}"), snapshots)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_record_delivered_again_changes_nothing() {
    let log = recorded().log;
    let mut once = Engine::new(short_run());
    let first = answers(&mut once, &log);
    let mut twice = Engine::new(short_run());
    let doubled: Vec<Output> =
        log.iter().flat_map(|o| [twice.handle(o), twice.handle(o)].concat()).collect();
    assert_eq!(first, doubled);
    assert_eq!(twice.view().duplicates, log.len() as u64);
}

#[test]
fn a_snapshot_at_any_record_goes_on_as_if_nothing_had_happened() {
    let log = recorded().log;
    let mut whole = Engine::new(short_run());
    let expected = answers(&mut whole, &log);
    for cut in [1, log.len() / 7, log.len() / 2, log.len() - 5] {
        let mut before = Engine::new(short_run());
        let mut outputs = answers(&mut before, &log[..cut]);
        let snapshots: Vec<_> =
            before.workloads().iter().map(|w| before.snapshot(w).unwrap()).collect();
        let mut after = Engine::new(short_run());
        for snapshot in &snapshots {
            assert!(snapshot.len() < 1 << 20);
            after.restore(snapshot).unwrap();
        }
        // The loop reads again from an offset before the cut: what was absorbed is refused by its id.
        let from = cut.saturating_sub(40);
        outputs.extend(answers(&mut after, &log[from..]));
        assert_eq!(outputs, expected, "cut at {cut}");
        assert_eq!(after.view().workloads, whole.view().workloads);
    }
}

#[test]
fn a_corrupt_or_foreign_snapshot_is_refused_and_changes_nothing() {
    let mut shop = recorded();
    let bytes = shop.engine.snapshot(&Shop::workload(Role::App1)).unwrap();
    let mut damaged = bytes.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let mut engine = Engine::new(short_run());
    assert_eq!(engine.restore(&damaged), Err(ArtifactError::Checksum));
    assert_eq!(engine.restore(b"junk"), Err(ArtifactError::Magic));
    let mut other = Engine::new(Config { step_ms: 1000, ..short_run() });
    assert!(matches!(other.restore(&bytes), Err(ArtifactError::FeatureSet { .. })));
    assert!(engine.workloads().is_empty() && other.workloads().is_empty());
}

#[test]
fn windows_of_another_step_are_refused_and_counted() {
    let shop = recorded();
    let mut engine = Engine::new(Config { step_ms: 1000, ..short_run() });
    answers(&mut engine, &shop.log);
    let view = engine.view();
    assert!(
        view.workloads[0].maturity.waits_for.iter().any(|w| w.contains("windows were refused"))
    );
}

#[test]
fn an_accepted_alert_is_normal_from_then_on_until_it_is_taken_back() {
    let mut shop = Shop::open(short_run(), 3, true);
    shop.learn();
    attack(&mut shop);
    let id = *shop.alerts.keys().next().unwrap();
    assert_eq!(shop.alerts.len(), 1, "{:#?}", shop.told());
    wish(&mut shop, Role::App1, Wish::AcceptAlert(id));
    let accepted: &Alert = &shop.alerts[&id];
    assert!(
        accepted.closed && matches!(&accepted.review, Review::Accepted { who, .. } if who == "ann")
    );
    attack(&mut shop);
    assert_eq!(shop.alerts.len(), 1, "{:#?}", shop.told());
    wish(&mut shop, Role::App1, Wish::RetractAlert(id));
    attack(&mut shop);
    assert_eq!(shop.alerts.len(), 2, "{:#?}", shop.told());
}

#[test]
fn an_accepted_forbidden_act_is_silent_and_only_that_one() {
    let mut shop = Shop::open(short_run(), 3, true);
    let act = |object: &str| Act::Forbidden { act: ForbiddenAct::Ptrace, object: object.into() };
    wish(&mut shop, Role::App1, Wish::AcceptAct(act("/usr/bin/server")));
    shop.act(Role::App1, act("/usr/bin/server"), None);
    assert!(shop.alerts.is_empty());
    shop.act(Role::App1, act("/usr/bin/other"), None);
    assert_eq!(shop.alerts.len(), 1);
}

#[test]
fn a_shell_on_a_socket_accepted_somewhere_is_seen_in_the_fleet() {
    let mut shop = Shop::open(short_run(), 3, true);
    let act = Act::Forbidden { act: ForbiddenAct::ShellOnSocket, object: "/bin/inetd-sh".into() };
    wish(&mut shop, Role::Cache, Wish::AcceptAct(act.clone()));
    shop.act(Role::App1, act, None);
    assert!(shop.alerts.is_empty(), "{:#?}", shop.told());
}

#[test]
fn a_muted_alert_is_silent_for_its_time() {
    let mut shop = Shop::open(short_run(), 3, true);
    shop.learn();
    let peer = Peer { address: [203, 0, 113, 5].into(), port: 443, protocol: Protocol::TCP };
    let act = Act::Connect { peer, name: None, refused: false };
    shop.act(Role::App1, act.clone(), None);
    let id = *shop.alerts.keys().next().unwrap();
    wish(&mut shop, Role::App1, Wish::Mute { alert: id, duration: Some(Duration::from_secs(300)) });
    shop.run(60);
    shop.act(Role::App1, act.clone(), None);
    assert_eq!(shop.alerts.len(), 1, "{:#?}", shop.told());
    shop.run(300);
    shop.act(Role::App1, act, None);
    assert_eq!(shop.alerts.len(), 2, "{:#?}", shop.told());
}

#[test]
fn a_mute_that_is_ended_is_over_at_once() {
    let mut shop = Shop::open(short_run(), 3, true);
    shop.learn();
    let peer = Peer { address: [203, 0, 113, 5].into(), port: 443, protocol: Protocol::TCP };
    let act = Act::Connect { peer, name: None, refused: false };
    shop.act(Role::App1, act.clone(), None);
    let id = *shop.alerts.keys().next().unwrap();
    wish(&mut shop, Role::App1, Wish::Mute { alert: id, duration: None });
    wish(&mut shop, Role::App1, Wish::Mute { alert: id, duration: Some(Duration::ZERO) });
    assert_eq!(shop.alerts[&id].review, Review::Open);
    shop.run(60);
    shop.act(Role::App1, act, None);
    assert_eq!(shop.alerts.len(), 2, "{:#?}", shop.told());
}

#[test]
fn people_set_the_mode_and_a_reset_forgets() {
    let mut shop = Shop::open(short_run(), 3, true);
    shop.learn();
    wish(
        &mut shop,
        Role::App1,
        Wish::SetMode { mode: Mode::Detect, learn_for: None, until_mature: false },
    );
    assert_eq!(shop.mode(Role::App1), Mode::Detect);
    shop.act(Role::App1, Act::Exec { path: "/bin/sh".into() }, None);
    let alert = shop.alerts.values().next().unwrap();
    assert_eq!(alert.mode, Mode::Detect);
    wish(&mut shop, Role::App1, Wish::Reset);
    assert_eq!(shop.mode(Role::App1), Mode::Learn);
    assert!(shop.engine.baseline(&Shop::workload(Role::App1)).unwrap().entries.is_empty());
}

#[test]
fn what_was_learned_near_an_alert_waits_for_review() {
    let mut shop = Shop::open(short_run(), 3, false);
    shop.run(20);
    let act = Act::Forbidden { act: ForbiddenAct::MemfdExec, object: "memfd:x".into() };
    shop.act(Role::App1, act, Some(Shop::own("/usr/bin/x", "/usr/bin/server")));
    let peer = Peer { address: [203, 0, 113, 9].into(), port: 443, protocol: Protocol::TCP };
    shop.act(Role::App1, Act::Connect { peer, name: None, refused: false }, None);
    let baseline = shop.engine.baseline(&Shop::workload(Role::App1)).unwrap();
    let entry =
        baseline.entries.iter().find(|e| e.act.to_string().contains("203.0.113.9")).unwrap();
    assert!(entry.review && entry.act.kind() == BehaviourKind::Connect);
}

#[test]
fn learning_that_never_matures_ends_by_the_clock() {
    let mut config = short_run();
    config.novelty_per_day = Some(0.001);
    let mut shop = Shop::open(config, 3, false);
    shop.run(145);
    assert!(shop.modes.is_empty());
    shop.run(10);
    assert_eq!(shop.modes.len(), 5, "one for each workload");
    assert!(!shop.engine.view().workloads[0].maturity.mature);
}

#[test]
fn a_baseline_names_where_each_entry_comes_from() {
    let shop = recorded();
    let baseline = shop.engine.baseline(&Shop::workload(Role::App1)).unwrap();
    let store = baseline.entries.iter().find(|e| e.act.to_string().contains(":9000")).unwrap();
    assert!(store.cells > 1 && store.replicas == 2 && store.evidence.sequence > 0, "{store:?}");
    assert_eq!(baseline.thresholds.len(), 2);
}
