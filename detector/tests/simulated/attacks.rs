//! Four attacks from inside a container, and smaller ones: each an alert whose top contribution names it, with the measure
//! that fits.

use std::time::Duration;

use bulkhead_detector::Config;
use bulkhead_domain::alert::{Alert, AlertClass, Response};
use bulkhead_domain::behaviour::{Act, Behaviour, ForbiddenAct};
use bulkhead_domain::feature;
use bulkhead_domain::measure::{Action, Target};
use bulkhead_domain::net::{Peer, Protocol};
use bulkhead_domain::process::Process;
use bulkhead_domain::score::View;
use bulkhead_domain::window::{Direction, Loss};

use crate::shop::{Role, Shop, connect, flow, short_run, tcp};

fn learned(seed: u64) -> Shop {
    let mut shop = Shop::open(short_run(), seed, seed.is_multiple_of(2));
    shop.learn();
    shop.run(30);
    assert!(shop.alerts.is_empty(), "{:#?}", shop.told());
    shop
}

/// The one alert of the shop, which is on the attacked container.
fn only(shop: &Shop, role: Role) -> Alert {
    assert_eq!(shop.alerts.len(), 1, "{:#?}", shop.told());
    let alert = shop
        .alerts_of(role)
        .first()
        .copied()
        .expect("the alert is on the attacked container")
        .clone();
    let sum: f64 = alert.contributions.iter().map(|c| c.share).sum();
    assert!((sum - 1.0).abs() < 1e-9, "shares sum to {sum}");
    alert
}

fn outside(port: u16) -> Peer {
    Peer { address: [198, 51, 100, 7].into(), port, protocol: Protocol::TCP }
}

fn python() -> Process {
    Shop::own("/usr/bin/python3", "/usr/bin/server")
}

#[test]
fn a_reverse_shell_is_named_and_its_replica_cut_off() {
    for seed in 1..=6 {
        let mut shop = learned(seed);
        shop.act(
            Role::App1,
            Act::Connect { peer: outside(4444), name: None, refused: false },
            Some(python()),
        );
        let first = only(&shop, Role::App1);
        assert_eq!(
            first.contributions[0].act,
            Some(Act::Connect { peer: outside(4444), name: None, refused: false })
        );
        let deny = first.proposal.expect("a new peer outside can be denied");
        assert_eq!(deny.target, Target::Workload(Shop::workload(Role::App1)));
        assert_eq!(deny.action.to_string(), "deny 198.51.100.7");
        let shell = Some(Shop::own("/usr/bin/dash", "/usr/bin/python3"));
        shop.act(Role::App1, Act::Exec { path: "/usr/bin/dash".into() }, shell.clone());
        let act = ForbiddenAct::ShellOnSocket;
        shop.act(Role::App1, Act::Forbidden { act, object: "/usr/bin/dash".into() }, shell);
        shop.run(10);
        let alert = only(&shop, Role::App1);
        assert_eq!(alert.class, AlertClass::Forbidden);
        assert_eq!(alert.contributions[0].subject, "shell-on-socket /usr/bin/dash");
        assert!(alert.contributions[0].observed.contains("parent /usr/bin/python3"), "{alert:#?}");
        assert_eq!(alert.process.as_ref().unwrap().executable, "/usr/bin/dash");
        assert_eq!(alert.proposal.as_ref().unwrap().action, Action::Quarantine);
        assert!(alert.techniques.contains(&"T1059".to_owned()));
        assert!(alert.revision > 0 && alert.exceedances >= 3);
    }
}

#[test]
fn an_east_west_scan_is_one_alert_and_named_a_sweep() {
    for seed in 1..=6 {
        let mut shop = learned(seed);
        for port in 1..=100 {
            for sibling in [Role::App2, Role::Cache] {
                let act = Act::Connect { peer: tcp(sibling, port), name: None, refused: false };
                shop.act(Role::App1, act, Some(python()));
            }
        }
        let extra = shop.extra.entry(Role::App1).or_default();
        extra.features.extend([
            (feature::CONNECTS, 200.0),
            (feature::CONNECT_PORTS, 100.0),
            (feature::CONNECTS_FAILED, 198.0),
        ]);
        shop.act(Role::App2, Act::Inbound { peer: tcp(Role::App1, 0), port: 8080 }, None);
        shop.run(10);
        let alert = only(&shop, Role::App1);
        assert!(
            alert.contributions[0].subject.starts_with("connect sweep: 200 new ports"),
            "{alert:#?}"
        );
        assert!(
            alert.title.contains("swept 200 new ports or peers on 2 addresses"),
            "{}",
            alert.title
        );
        assert_eq!(alert.proposal.unwrap().action, Action::Quarantine);
        assert!(alert.techniques.contains(&"T1046".to_owned()));
    }
}

#[test]
fn bulk_exfiltration_to_the_known_store_is_named_by_its_bytes_and_only_that_peer_denied() {
    for seed in 1..=6 {
        let mut shop = learned(seed);
        shop.act(Role::App1, connect(Role::Store, 9000, "objectstore.dns.podman"), Some(python()));
        shop.extra.entry(Role::App1).or_default().peers.push(flow(
            Role::Store,
            9000,
            Direction::Outbound,
            0,
            [52e6, 1.4e6],
            1.0,
        ));
        shop.extra.entry(Role::Store).or_default().peers.push(flow(
            Role::App1,
            0,
            Direction::Inbound,
            9000,
            [1.4e6, 52e6],
            1.0,
        ));
        shop.run(10);
        let alert = only(&shop, Role::App1);
        let top = &alert.contributions[0];
        assert_eq!(top.view, View::Volume);
        assert!(
            top.subject.starts_with("bytes sent per connection to objectstore port 9000"),
            "{alert:#?}"
        );
        assert_eq!(top.observed, "49.6 MiB");
        let proposal = alert.proposal.clone().unwrap();
        assert_eq!(
            proposal.target,
            Target::Container(shop.key(Role::App1)),
            "siblings need the store"
        );
        assert_eq!(proposal.action.to_string(), "deny 10.89.0.6:9000/tcp");
        assert!(alert.provisional, "a threshold from minutes is extrapolated, and says so");
        assert!(alert.threshold.interval.is_some());
        assert!(alert.techniques.contains(&"T1048".to_owned()));
        assert!(alert.nearest_normal.starts_with("the highest of"), "{}", alert.nearest_normal);
    }
}

#[test]
fn a_dns_tunnel_is_named_by_the_domain_and_its_replica_cut_off() {
    for seed in 1..=6 {
        let mut shop = learned(seed);
        for i in 0..80_u32 {
            let name =
                format!("{:032x}{:08x}.t.example.net", u128::from(i) * 0x1234_5678_9abc_def1, i);
            shop.act(Role::App2, Act::Dns { name }, Some(python()));
        }
        let extra = shop.extra.entry(Role::App2).or_default();
        extra.features.extend([
            (feature::DNS_QUESTIONS, 80.0),
            (feature::DNS_NAMES, 80.0),
            (feature::DNS_NAME_BYTES, 54.0),
        ]);
        shop.run(10);
        let alert = only(&shop, Role::App2);
        assert!(
            alert.contributions[0].subject.contains("80 new names under t.example.net"),
            "{alert:#?}"
        );
        assert!(alert.title.contains("DNS tunnel"), "{}", alert.title);
        assert_eq!(
            alert.proposal.unwrap().action,
            Action::Quarantine,
            "the resolver is needed by all"
        );
        assert!(alert.techniques.contains(&"T1071.004".to_owned()));
    }
}

#[test]
fn an_attack_under_a_burst_is_found_all_the_same() {
    let mut shop = learned(1);
    shop.burst = 10.0;
    shop.run(20);
    shop.extra.entry(Role::App1).or_default().peers.push(flow(
        Role::Store,
        9000,
        Direction::Outbound,
        0,
        [52e6, 1.4e6],
        1.0,
    ));
    shop.run(10);
    let alert = only(&shop, Role::App1);
    assert!(alert.contributions[0].subject.contains("objectstore"), "{alert:#?}");
}

#[test]
fn a_restart_is_no_cover_for_new_peers_or_bulk() {
    let mut shop = learned(2);
    shop.restart(Role::App1);
    shop.act(
        Role::App1,
        Act::Connect { peer: outside(443), name: None, refused: false },
        Some(python()),
    );
    assert_eq!(shop.alerts_of(Role::App1).len(), 1);
    let mut shop = learned(2);
    shop.restart(Role::App1);
    shop.extra.entry(Role::App1).or_default().peers.push(flow(
        Role::Store,
        9000,
        Direction::Outbound,
        0,
        [52e6, 1.4e6],
        1.0,
    ));
    shop.step();
    assert_eq!(shop.alerts_of(Role::App1).len(), 1, "{:#?}", shop.told());
}

#[test]
fn an_engine_exec_that_reaches_a_new_peer_is_no_harmless_command() {
    let mut shop = learned(3);
    shop.engine_exec(Role::App1, "/usr/bin/curl", &[]);
    assert!(shop.alerts.is_empty());
    let mut curl = Shop::own("/usr/bin/curl", "");
    curl.engine_exec = true;
    shop.act(
        Role::App1,
        Act::Connect { peer: outside(80), name: None, refused: false },
        Some(curl),
    );
    assert!(only(&shop, Role::App1).contributions[0].subject.contains("198.51.100.7:80"));
}

#[test]
fn an_operators_reload_vouches_for_no_shell_of_the_same_server() {
    let mut shop = learned(3);
    shop.engine_exec(Role::Proxy, "/usr/bin/server", &[]);
    shop.run(10);
    let shell = Shop::own("/bin/sh", "/usr/bin/server");
    shop.act(Role::Proxy, Act::Exec { path: "/bin/sh".into() }, Some(shell));
    assert_eq!(only(&shop, Role::Proxy).contributions[0].subject, "exec /bin/sh");
}

#[test]
fn strange_calls_alone_count_when_they_last_and_learning_was_long_enough_to_tell() {
    let mut config = short_run();
    config.learning.at_least = Duration::from_secs(900);
    config.learning.at_most = Some(Duration::from_secs(1200));
    let mut shop = Shop::open(config, 4, false);
    shop.learn();
    for _ in 0..6 {
        shop.extra.entry(Role::App1).or_default().ngrams.extend((0..400).map(|i| 27_000 + i));
        shop.step();
    }
    let alert = only(&shop, Role::App1);
    assert_eq!(alert.contributions[0].view, View::Sequence, "{alert:#?}");
    assert!(alert.proposal.is_none(), "no packet would be less");
}

#[test]
fn what_is_never_learned_alerts_while_learning_and_is_not_learned() {
    let mut shop = Shop::open(short_run(), 5, false);
    shop.run(20);
    let socket =
        Act::Forbidden { act: ForbiddenAct::EngineSocket, object: "/var/run/docker.sock".into() };
    shop.act(Role::App1, socket.clone(), Some(python()));
    assert_eq!(
        only(&shop, Role::App1).response,
        Response::None,
        "nothing is applied while learning"
    );
    shop.learn();
    shop.run(120);
    shop.act(Role::App1, socket, Some(python()));
    assert_eq!(shop.alerts_of(Role::App1).len(), 2, "{:#?}", shop.told());
}

#[test]
fn another_image_under_a_known_name_is_an_alert_and_not_a_version() {
    let mut shop = learned(6);
    let mut container = shop.container(Role::App2, shop.now);
    container.digest = "sha256:2".into();
    shop.publish(Role::App2, bulkhead_domain::observation::Body::Started(container.clone()));
    assert!(shop.alerts.is_empty(), "another digest inherits");
    container.image = "evil.example/app".into();
    shop.publish(Role::App2, bulkhead_domain::observation::Body::Started(container));
    assert_eq!(only(&shop, Role::App2).class, AlertClass::Identity);
}

#[test]
fn a_flood_that_blinds_is_told_outside_the_budget_and_hides_no_counts() {
    let mut shop = learned(1);
    let extra = shop.extra.entry(Role::App1).or_default();
    extra.loss = Loss { by_cause: [("quota".to_owned(), 900)].into(), kept: 1000 };
    extra.peers.push(flow(Role::Store, 9000, Direction::Outbound, 0, [52e6, 1.4e6], 1.0));
    shop.step();
    let classes: Vec<AlertClass> = shop.alerts_of(Role::App1).iter().map(|a| a.class).collect();
    assert!(
        classes.contains(&AlertClass::Blinded) && classes.contains(&AlertClass::Deviation),
        "{:#?}",
        shop.told()
    );
    let blinded =
        shop.alerts_of(Role::App1).into_iter().find(|a| a.class == AlertClass::Blinded).unwrap();
    assert!((blinded.loss_ratio - 900.0 / 1900.0).abs() < 1e-9);
    assert!(blinded.contributions[0].observed.contains("900 quota"));
}

#[test]
fn a_refused_attempt_is_scored_and_its_retries_are_not() {
    let mut shop = learned(2);
    let refused = Act::Connect { peer: outside(4444), name: None, refused: true };
    for _ in 0..20 {
        shop.act(Role::App1, refused.clone(), Some(python()));
        shop.step();
    }
    let alert = only(&shop, Role::App1);
    assert_eq!(alert.exceedances, 1);
    assert!(alert.closed, "retries alone keep no incident open");
}

#[test]
fn ten_quiet_windows_end_an_incident_and_the_next_is_another_alert() {
    let mut shop = learned(3);
    shop.act(
        Role::App1,
        Act::Connect { peer: outside(1), name: None, refused: false },
        Some(python()),
    );
    shop.run(45);
    assert!(!only(&shop, Role::App1).closed);
    shop.run(15);
    assert!(only(&shop, Role::App1).closed);
    shop.act(
        Role::App1,
        Act::Connect { peer: outside(2), name: None, refused: false },
        Some(python()),
    );
    assert_eq!(shop.alerts_of(Role::App1).len(), 2);
}

#[test]
fn hostile_paths_reach_no_text_raw() {
    let mut shop = learned(4);
    let path = "/tmp/\u{1b}[2J\u{202e}x";
    shop.act(Role::App1, Act::Exec { path: path.into() }, Some(Shop::own(path, path)));
    let alert = only(&shop, Role::App1);
    let texts = [
        &alert.title,
        &alert.contributions[0].subject,
        &alert.contributions[0].observed,
        &alert.nearest_normal,
    ];
    assert!(texts.iter().all(|t| !t.contains('\u{1b}') && !t.contains('\u{202e}')), "{texts:?}");
}

#[test]
fn a_behaviour_with_no_process_is_scored_all_the_same() {
    let mut shop = learned(5);
    let key = shop.key(Role::App1);
    let act = Act::Connect { peer: outside(53), name: None, refused: false };
    let behaviour = Behaviour { act, process: None, count: 1 };
    shop.publish(Role::App1, bulkhead_domain::observation::Body::Behaviour(key, behaviour));
    assert!(only(&shop, Role::App1).process.is_none());
}

#[test]
fn exfiltration_in_parts_is_found_by_the_size_of_a_part() {
    // A looser budget than the default's five a day: half a minute of evidence from a minute of learning.
    let config = Config { budget: "24/day".parse().unwrap(), ..short_run() };
    for seed in 1..=6 {
        let mut shop = Shop::open(config.clone(), seed, seed.is_multiple_of(2));
        shop.learn();
        for _ in 0..2 {
            let parts = flow(Role::Store, 9000, Direction::Outbound, 0, [25e6, 6e5], 12.0);
            shop.extra.entry(Role::App1).or_default().peers.push(parts);
            shop.step();
        }
        let alert = only(&shop, Role::App1);
        assert!(alert.contributions[0].subject.contains("objectstore"), "{alert:#?}");
        assert!(alert.proposal.unwrap().action.to_string().starts_with("deny 10.89.0.6:9000"));
    }
}
