//! The application that the demo protects: it serves, and every attack on it really happens when nothing stops it.

use std::{sync::Arc, time::Duration};

use bulkhead_tests::{
    command::eventually,
    intruder::{self, Attack, Listener, NameServer},
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

    let siblings = [shop.redis.ip.unwrap(), shop.store.ip.unwrap()];
    let inject = |replica: usize, attack: Attack| {
        shop.inject(replica, &attack.code(attacker, &siblings)).unwrap();
    };
    let attempts = |replica: usize, attack| {
        intruder::attempts(attack, &shop.replicas[replica].logs().unwrap())
    };

    inject(0, Attack::ReverseShell);
    let answered = || listener.answers().iter().any(|(_, text)| text.contains("uid=0"));
    assert!(eventually(patience, answered), "the shell did not answer: {:?}", listener.answers());

    inject(1, Attack::DnsTunnel);
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
    inject(1, Attack::BulkExfiltration);
    let arrived = eventually(patience, || received() - before > intruder::EXFILTRATION_BYTES);
    assert!(arrived, "the store got {} bytes", received() - before);

    let out_resets = || {
        let text = shop.redis.exec(&["cat", "/proc/net/snmp"]).unwrap();
        let line = text.lines().filter(|line| line.starts_with("Tcp:")).nth(1).unwrap();
        line.split(' ').nth(14).unwrap().parse::<u64>().unwrap()
    };
    let before = out_resets();
    inject(0, Attack::PortScan);
    assert!(eventually(patience, || out_resets() - before >= 190), "the scan was not refused");

    for (replica, attack) in
        [(0, Attack::PortScan), (1, Attack::DnsTunnel), (1, Attack::BulkExfiltration)]
    {
        let told = attempts(replica, attack);
        assert!(!told.is_empty() && told.iter().all(|attempt| attempt.ok), "{attack:?}: {told:?}");
    }

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
