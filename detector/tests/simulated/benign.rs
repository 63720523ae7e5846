//! False alarms: what a shop does when nothing is wrong, none of it seen in learning, told apart by evidence alone.

use crate::shop::{ROLES, Role, Shop, short_run, tcp};
use bulkhead_domain::Mode;
use bulkhead_domain::behaviour::Act;
use bulkhead_domain::feature;
use bulkhead_domain::net::{Peer, Protocol};
use bulkhead_domain::observation::Body;

fn learned(seed: u64, fresh: bool) -> Shop {
    let mut shop = Shop::open(short_run(), seed, fresh);
    shop.learn();
    shop
}

#[test]
fn a_short_run_matures_and_says_which_bound_it_reached() {
    let mut shop = learned(1, false);
    shop.step();
    for workload in shop.engine.view().workloads {
        assert_eq!(workload.mode, Mode::Enforce, "{}", workload.name);
        assert_eq!(
            workload.detectors_on.len(),
            3,
            "{}: {:?}",
            workload.name,
            workload.detectors_on
        );
        let text = workload.maturity.waits_for.join("\n");
        assert!(text.contains("has not seen a whole day"), "{text}");
    }
}

#[test]
fn a_quiet_hour_stays_within_the_budget() {
    // 5 a day for the whole shop allow 0.2 an hour: one alert in five hours is the expectation, two are still luck.
    let mut raised = Vec::new();
    for seed in 1..=5 {
        let mut shop = learned(seed, seed % 2 == 0);
        shop.run(3600);
        raised.extend(shop.told());
    }
    assert!(raised.len() <= 2, "{raised:#?}");
}

#[test]
fn a_tenfold_burst_raises_nothing() {
    for seed in 1..=5 {
        let mut shop = learned(seed, false);
        shop.run(30);
        shop.burst = 10.0;
        shop.run(60);
        shop.burst = 1.0;
        shop.run(60);
        assert!(shop.alerts.is_empty(), "seed {seed}: {:#?}", shop.told());
    }
}

#[test]
fn saturation_under_a_burst_takes_error_paths_and_raises_nothing() {
    for seed in 1..=3 {
        let mut shop = learned(seed, false);
        shop.run(20);
        shop.burst = 10.0;
        for _ in 0..12 {
            for role in [Role::Proxy, Role::App1, Role::App2, Role::Load] {
                let extra = shop.extra.entry(role).or_default();
                extra.ngrams.extend((0..40).map(|i| 28_000 + i));
                extra.features.extend([(feature::CONNECTS_FAILED, 250.0), (feature::FORKS, 20.0)]);
            }
            shop.step();
        }
        shop.burst = 1.0;
        shop.run(60);
        assert!(shop.alerts.is_empty(), "seed {seed}: {:#?}", shop.told());
    }
}

#[test]
fn restarts_raise_nothing_although_no_start_was_ever_seen() {
    for seed in 1..=3 {
        for role in ROLES {
            let mut shop = learned(seed, false);
            shop.run(20);
            shop.restart(role);
            shop.run(60);
            assert!(shop.alerts.is_empty(), "seed {seed} {role:?}: {:#?}", shop.told());
        }
    }
}

#[test]
fn operators_errands_through_the_engine_raise_nothing() {
    let mut shop = learned(3, false);
    shop.run(20);
    shop.engine_exec(Role::Proxy, "/usr/sbin/nginx", &[]);
    shop.run(30);
    shop.engine_exec(Role::Proxy, "/bin/sh", &["/bin/mv", "/bin/kill", "/bin/gzip"]);
    shop.run(30);
    shop.engine_exec(Role::App1, "/bin/ls", &[]);
    shop.run(60);
    assert!(shop.alerts.is_empty(), "{:#?}", shop.told());
}

#[test]
fn a_reload_by_signal_alone_is_over_before_its_calls_count() {
    let mut shop = learned(4, false);
    shop.run(20);
    for _ in 0..2 {
        let extra = shop.extra.entry(Role::Proxy).or_default();
        extra.features.extend([(feature::FORKS, 4.0), (feature::EXITS, 4.0)]);
        extra.ngrams.extend((0..250).map(|i| 25_000 + i));
        shop.step();
    }
    shop.run(60);
    assert!(shop.alerts.is_empty(), "{:#?}", shop.told());
}

#[test]
fn ten_minutes_with_everything_at_once_raise_nothing() {
    for seed in 11..=14 {
        let mut shop = learned(seed, seed % 2 == 0);
        shop.run(60);
        shop.restart(Role::App1);
        shop.run(60);
        shop.engine_exec(Role::Proxy, "/usr/sbin/nginx", &[]);
        shop.run(60);
        shop.engine_exec(Role::Proxy, "/bin/sh", &["/bin/mv", "/bin/kill", "/bin/gzip"]);
        shop.run(60);
        shop.engine_exec(Role::App2, "/usr/bin/id", &[]);
        shop.run(60);
        shop.burst = 10.0;
        shop.run(60);
        shop.burst = 1.0;
        let save = shop.extra.entry(Role::Cache).or_default();
        save.features.push((feature::FORKS, 1.0));
        save.ngrams.extend((0..60).map(|i| 26_000 + i));
        shop.run(240);
        assert!(shop.alerts.is_empty(), "seed {seed}: {:#?}", shop.told());
    }
}

#[test]
fn a_replica_that_comes_back_at_another_address_is_the_same_peer_and_so_is_its_old_one() {
    let mut shop = learned(7, false);
    let old = tcp(Role::App1, 8080);
    let new = Peer { address: [10, 89, 0, 77].into(), ..old };
    let mut container = shop.container(Role::App1, shop.now);
    container.addresses = vec![new.address];
    container.key.cgroup += 1;
    shop.publish(Role::App1, Body::Started(container));
    for peer in [old, new] {
        shop.act(Role::Proxy, Act::Connect { peer, name: None, refused: false }, None);
    }
    assert!(shop.alerts.is_empty(), "{:#?}", shop.told());
}

#[test]
fn an_address_told_wrongly_while_a_container_starts_makes_no_stranger_of_the_resolver() {
    let mut shop = Shop::open(short_run(), 7, false);
    let resolver = Peer { address: [10, 89, 0, 1].into(), port: 53, protocol: Protocol::UDP };
    let ask = || Act::Connect { peer: resolver, name: None, refused: false };
    shop.act(Role::App1, ask(), None);
    shop.learn();
    for (after, address) in [(0, [10, 89, 0, 1]), (1, [10, 89, 0, 77])] {
        shop.now += after;
        let mut container = shop.container(Role::App2, shop.now);
        container.addresses = vec![address.into()];
        container.key.cgroup += 1;
        shop.publish(Role::App2, Body::Started(container));
        shop.act(Role::App1, ask(), None);
    }
    assert!(shop.alerts.is_empty(), "{:#?}", shop.told());
}

#[test]
fn the_resolver_that_neighbours_ask_is_no_stranger_and_another_one_is() {
    let mut shop = Shop::open(short_run(), 7, false);
    let resolver = |host| Act::Connect {
        peer: Peer { address: [10, 89, 0, host].into(), port: 53, protocol: Protocol::UDP },
        name: None,
        refused: false,
    };
    shop.act(Role::App1, resolver(1), None);
    shop.learn();
    shop.act(Role::Proxy, resolver(1), None);
    assert!(shop.alerts.is_empty(), "{:#?}", shop.told());
    shop.act(Role::Proxy, resolver(99), None);
    assert_eq!(shop.alerts.len(), 1);
}
