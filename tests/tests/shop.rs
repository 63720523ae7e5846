//! The application that the demo protects: it serves, and every attack on it really happens when nothing stops it.

use std::{sync::Arc, time::Duration};

use bulkhead_tests::{
    command::eventually,
    intruder::{self, Listener, NameServer},
    netns::Netns,
    outside::Outside,
    podman::{Podman, PodmanOptions},
    requirement::{Need, met},
    scratch,
    shop::Shop,
};

#[test]
fn an_unprotected_shop_serves_its_visitors_and_every_attack_gets_through() {
    if !met("shop", &[Need::Root, Need::Cgroup2, Need::Netns, Need::Podman, Need::Images]) {
        return;
    }
    let home = Arc::new(Netns::new("home").unwrap());
    home.sysctl("net.ipv4.ip_forward", "1").unwrap();
    let outside = Outside::open(Some(&home)).unwrap();
    let (attacker, resolver) = (outside.peer(2), outside.peer(1));
    let names = NameServer::open(&outside, resolver).unwrap();
    let listener = Listener::open(&outside, attacker).unwrap();
    let scratch = scratch::directory("shop").unwrap();
    let options = PodmanOptions { home: Some(home), upstream: Some(resolver), cgroup_parent: None };
    let mut podman = Podman::start(scratch.path(), options).unwrap();
    let mut shop = Shop::open(&mut podman, scratch.path()).unwrap();
    let patience = Duration::from_secs(60);

    shop.inject(0, &intruder::reverse_shell(attacker)).unwrap();
    let answered = || listener.answers().iter().any(|(_, text)| text.contains("uid=0"));
    assert!(eventually(patience, answered), "the shell did not answer: {:?}", listener.answers());

    shop.inject(1, &intruder::dns_tunnel()).unwrap();
    assert!(
        eventually(patience, || names.tunnelled() >= 250),
        "only {} names got out",
        names.tunnelled()
    );

    let received = || {
        let counters = shop.store.exec(&["cat", "/proc/net/dev"]).unwrap();
        let line =
            counters.lines().find(|line| line.trim().starts_with("eth0:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = received();
    shop.inject(1, &intruder::bulk_exfiltration()).unwrap();
    let arrived = eventually(patience, || received() - before > intruder::EXFILTRATION_BYTES);
    assert!(arrived, "the store got {} bytes", received() - before);

    let resets = || shop.redis.exec(&["cat", "/proc/net/snmp"]).unwrap();
    let out_rsts = |text: &str| {
        let line = text.lines().filter(|line| line.starts_with("Tcp:")).nth(1).unwrap();
        line.split(' ').nth(14).unwrap().parse::<u64>().unwrap()
    };
    let before = out_rsts(&resets());
    shop.inject(0, &intruder::port_scan(&[shop.redis.ip.unwrap(), shop.store.ip.unwrap()]))
        .unwrap();
    assert!(
        eventually(patience, || out_rsts(&resets()) - before >= 190),
        "the scan was not refused"
    );

    shop.set_rate(100).unwrap();
    assert!(
        eventually(patience, || shop.visits().unwrap().last().unwrap().ok > 60),
        "the burst did not come"
    );
    shop.replicas[1].restart().unwrap();
    let seen = shop.visits().unwrap().len();
    let served = || {
        shop.visits().unwrap().iter().skip(seen + 2).filter(|visits| visits.ok > 20).count() >= 3
    };
    assert!(eventually(patience, served), "{:?}", shop.visits().unwrap());
}
