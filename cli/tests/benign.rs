//! False alarms on the real thing: the demo's application under load, with what nobody taught it, and no alert.
//!
//! A restart, a reload, a log rotation, a command through the engine and a tenfold burst come after learning and were never
//! seen in it. `BULKHEAD_BENIGN_SECS` sets how long all of it takes after learning; the default keeps the suite short.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use bulkhead_tests::command::eventually;
use bulkhead_tests::image::workspace;
use bulkhead_tests::outside::Outside;
use bulkhead_tests::podman::{Podman, PodmanOptions};
use bulkhead_tests::requirement::{Need, met};
use bulkhead_tests::scratch;
use bulkhead_tests::service::{Place, Service};
use bulkhead_tests::shop::Shop;
use serde_json::Value;

/// How long learning may take.
const LEARNING_MAX: Duration = Duration::from_secs(240);

fn list(service: &Service, words: &[&str]) -> Vec<Value> {
    service.ask(words).unwrap().as_array().cloned().unwrap_or_default()
}

/// What was raised, for a failure's message.
fn told(service: &Service) -> Vec<String> {
    list(service, &["alerts", "list"])
        .iter()
        .map(|alert| {
            let parts: Vec<String> = alert["contributions"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|c| {
                    format!(
                        "{:.2} {} {} ({})",
                        c["share"].as_f64().unwrap_or(0.0),
                        c["subject"],
                        c["observed"],
                        c["expected"]
                    )
                })
                .collect();
            format!(
                "{} {} at {} score {} over {}: {parts:#?}",
                alert["class"], alert["title"], alert["first"], alert["score"], alert["threshold"]
            )
        })
        .collect()
}

#[test]
fn what_a_shop_does_when_nothing_is_wrong_raises_nothing() {
    if !met(
        "benign",
        &[Need::Root, Need::Cgroup2, Need::Bpf, Need::Netns, Need::Podman, Need::Images],
    ) {
        return;
    }
    let seconds: u64 =
        std::env::var("BULKHEAD_BENIGN_SECS").ok().and_then(|s| s.parse().ok()).unwrap_or(180);
    let pause = || sleep(Duration::from_secs(seconds / 9));
    let scratch = scratch::directory("benign").unwrap();
    let engine = scratch.path().join("podman");
    fs::create_dir(&engine).unwrap();
    let outside = Outside::open(None).unwrap();
    let options =
        PodmanOptions { home: None, upstream: Some(outside.peer(1)), cgroup_parent: None };
    let mut podman = Podman::start(&engine, options).unwrap();
    let socket = podman.service().unwrap();
    let place = Place::beside(scratch.path(), podman.cgroup_parent()).unwrap();
    let mut shop = Shop::open(&mut podman, &engine).unwrap();
    let of_this_run = format!(
        "[collector]\ndocker = []\npodman = [{:?}]\npodman-roots = []\nrunc-roots = []\n",
        socket.display().to_string()
    );
    let config = fs::read_to_string(workspace().join("deploy/demo/config.toml")).unwrap();
    let mut service = Service::start(&place, &[&config, &of_this_run]).unwrap();
    service.wait(Duration::from_secs(30)).unwrap();

    let learned = || {
        let workloads = list(&service, &["workloads"]);
        workloads.len() >= 5 && workloads.iter().all(|w| w["mode"] != "learn")
    };
    assert!(eventually(LEARNING_MAX, learned), "{:#?}", list(&service, &["workloads"]));
    pause();

    shop.replicas[0].restart().unwrap();
    pause();
    shop.web.exec(&["nginx", "-c", "/app/nginx.conf", "-s", "reload"]).unwrap();
    pause();
    let rotate = "mv /var/log/nginx/access.log /var/log/nginx/access.log.1 && kill -USR1 $(cat /run/nginx.pid) && sleep 1 && gzip /var/log/nginx/access.log.1";
    shop.web.exec(&["sh", "-c", rotate]).unwrap();
    pause();
    shop.replicas[1].exec(&["ls", "-l", "/"]).unwrap();
    pause();
    shop.set_rate(200).unwrap();
    pause();
    pause();
    shop.set_rate(20).unwrap();
    shop.web.restart().unwrap();
    pause();
    shop.redis.restart().unwrap();
    pause();

    let told = told(&service);
    assert!(told.is_empty(), "{told:#?}");
    let modes = list(&service, &["workloads"]);
    assert!(modes.iter().all(|w| w["mode"] == "enforce"), "{modes:#?}");
}
