//! Containers of a real Podman on the real kernel: names, acts and windows come out right.

use crate::rig::{Rig, Scene};
use bulkhead_collector::naming::engine::Source;
use bulkhead_collector::naming::podman::Storage;
use bulkhead_domain::container::Engine;
use bulkhead_domain::feature;
use bulkhead_domain::health::Condition;
use bulkhead_domain::inventory::LifeState;
use bulkhead_domain::observation::Body;
use bulkhead_domain::process::Origin;
use bulkhead_tests::engine::RunOptions;
use bulkhead_tests::image::Image;
use bulkhead_tests::podman::{Podman, PodmanOptions};
use bulkhead_tests::requirement::{self, Need};
use bulkhead_tests::scratch;

const NEEDS: [Need; 6] =
    [Need::Root, Need::Bpf, Need::Cgroup2, Need::Netns, Need::Podman, Need::Images];

/// A script that does one of each thing every half a second.
const BUSY: &str = "/bin/httpd -p 8080 -h /tmp; while true; do /bin/ls /tmp >/dev/null; \
    /bin/wget -q -O /dev/null http://127.0.0.1:8080/none; sleep 0.5; done";

fn source(podman: &std::path::Path, socket: Option<std::path::PathBuf>) -> Source {
    Source {
        engine: Engine::Podman,
        socket,
        storage: Some(Storage { root: podman.join("root") }),
        required: true,
    }
}

fn scene(parent: &str, source: Source) -> Scene {
    Scene { sources: vec![source], ..Scene::below(parent) }
}

#[test]
fn a_container_is_named_without_a_service_and_its_acts_and_windows_are_published() {
    if !requirement::met("collector: podman", &NEEDS) {
        return;
    }
    let directory = scratch::directory("podman").unwrap();
    let image = Image::busybox().unwrap();
    let mut podman = Podman::start(directory.path(), PodmanOptions::default()).unwrap();
    podman.network_create("sea").unwrap();
    podman.import(&image).unwrap();
    let rig = Rig::start(scene(podman.cgroup_parent(), source(directory.path(), None)));

    let options = RunOptions::new("web-1", &["/bin/sh", "-c", BUSY])
        .on("sea")
        .label("bulkhead.workload", "web");
    let container = podman.run(&image, &options).unwrap();

    let started = rig.started("web-1");
    assert_eq!(started.workload.to_string(), "local/harbour/label/web/");
    assert_eq!(started.key.engine_id, container.id);
    assert_eq!(started.key.cgroup, container.cgroup_id().unwrap());
    assert_eq!(started.engine, Engine::Podman);
    assert!(started.digest.starts_with("sha256:"), "{started:?}");

    // What the container is comes from the kernel, whichever engine made it.
    let address = container.ip.unwrap();
    let known = rig.in_inventory(&container.id, LifeState::Running, |container| {
        container.addresses.contains(&address.into())
    });
    assert_eq!(known.pid, container.pid);
    assert!(!known.host_network);
    assert_ne!(known.netns, 0);

    // Who did what: the container's own first process, and what it runs.
    let first = rig.act(&started, "exec /bin/sh");
    let first = first.process.unwrap();
    assert_eq!((first.pid, first.origin), (container.pid, Origin::Started));
    let listed = rig.act(&started, "exec /bin/ls").process.unwrap();
    assert_eq!((listed.origin, listed.parent.as_str()), (Origin::Spawned, "/bin/sh"));
    rig.act(&started, "listen 8080/tcp");
    let fetched = rig.act(&started, "connect 127.0.0.1:8080/tcp").process.unwrap();
    assert!(fetched.executable.ends_with("wget"), "{fetched:?}");

    // Windows hold what was done, by name.
    let window = rig.window(&started, "a busy window", |window| {
        window.feature(feature::EXECS) >= 2.0 && window.feature(feature::CONNECTS) >= 1.0
    });
    assert!(window.syscalls.contains_key("execve"), "{:?}", window.syscalls);
    assert!(window.feature(feature::FORKS) >= 2.0);
    assert!(window.feature(feature::NGRAMS) > 0.0);
    assert!(!window.bigrams.is_empty() && window.peers.iter().any(|p| p.peer.port == 8080));
    assert_eq!(window.loss.lost(), 0, "{:?}", window.loss);

    // Its end is its end.
    container.remove().unwrap();
    rig.wait_for("the stop", |all| {
        all.iter()
            .any(|o| matches!(&o.body, Body::Stopped(key) if *key == started.key))
            .then_some(())
    });
    rig.in_inventory(&started.key.engine_id, LifeState::Stopped, |_| true);
}

#[test]
fn the_engines_exec_is_vouched_for_and_a_stranger_is_not() {
    if !requirement::met("collector: podman exec", &NEEDS) {
        return;
    }
    let directory = scratch::directory("exec").unwrap();
    let image = Image::busybox().unwrap();
    let podman = Podman::start(directory.path(), PodmanOptions::default()).unwrap();
    podman.import(&image).unwrap();
    let rig = Rig::start(scene(podman.cgroup_parent(), source(directory.path(), None)));
    let options = RunOptions::new("web-1", &["/bin/sleep", "600"]).on("none");
    let container = podman.run(&image, &options).unwrap();
    let started = rig.started("web-1");
    rig.act(&started, "exec /bin/sleep");

    container.exec(&["/bin/sh", "-c", "/bin/id; /bin/ls"]).unwrap();
    let shell = rig.act(&started, "exec /bin/sh").process.unwrap();
    assert_eq!((shell.origin, shell.engine_exec), (Origin::Entered, true));
    let inner = rig.act(&started, "exec /bin/id").process.unwrap();
    assert_eq!((inner.origin, inner.engine_exec), (Origin::Entered, true), "of the same session");

    // Somebody on the host enters the cgroup and runs a program: no engine knows of it.
    let procs = container.cgroup.join("cgroup.procs");
    let script = format!("echo $$ > {} && exec /usr/bin/uname", procs.display());
    bulkhead_tests::command::output(std::process::Command::new("sh").args(["-c", &script]))
        .unwrap();
    let stranger = rig.act(&started, "exec /usr/bin/uname").process.unwrap();
    assert_eq!((stranger.origin, stranger.engine_exec), (Origin::Entered, false));
}

#[test]
fn a_service_that_restarts_is_lost_and_back_and_names_stay() {
    if !requirement::met("collector: podman service", &NEEDS) {
        return;
    }
    let directory = scratch::directory("service").unwrap();
    let image = Image::busybox().unwrap();
    let mut podman = Podman::start(directory.path(), PodmanOptions::default()).unwrap();
    podman.import(&image).unwrap();
    let socket = podman.service().unwrap();
    let api = Source { storage: None, ..source(directory.path(), Some(socket)) };
    let rig = Rig::start(scene(podman.cgroup_parent(), api));
    let sleep = |name: &str| RunOptions::new(name, &["/bin/sleep", "600"]).on("none");
    podman
        .run(
            &image,
            &sleep("web-1")
                .label("com.docker.compose.project", "shop")
                .label("com.docker.compose.service", "web"),
        )
        .unwrap();
    let started = rig.started("web-1");
    assert_eq!(started.workload.to_string(), "local/shop/service/web/");

    let condition = |condition: Condition| {
        rig.wait_for(&format!("{condition:?}"), |all| {
            all.iter()
                .any(|o| matches!(&o.body, Body::Health(h) if h.condition == condition))
                .then_some(())
        });
    };
    podman.stop_service();
    condition(Condition::EngineLost);
    rig.window(&started, "a window while the engine is away", |_| true);
    podman.service().unwrap();
    condition(Condition::EngineBack);
    podman.run(&image, &sleep("web-2").label("bulkhead.workload", "late")).unwrap();
    assert_eq!(rig.started("web-2").workload.owner, "late");
    let stopped = rig.observations().iter().any(|o| matches!(o.body, Body::Stopped(_)));
    assert!(!stopped, "an engine's restart ends no container");
}

#[test]
fn a_collector_that_restarts_finds_who_runs_and_goes_on_with_a_new_epoch() {
    if !requirement::met("collector: restart", &NEEDS) {
        return;
    }
    let directory = scratch::directory("restart").unwrap();
    let image = Image::busybox().unwrap();
    let podman = Podman::start(directory.path(), PodmanOptions::default()).unwrap();
    podman.import(&image).unwrap();
    let again = || scene(podman.cgroup_parent(), source(directory.path(), None));
    let rig = Rig::start(again());
    let options = RunOptions::new("web-1", &["/bin/sh", "-c", BUSY])
        .on("none")
        .label("bulkhead.workload", "web");
    let container = podman.run(&image, &options).unwrap();
    let first = rig.started("web-1");
    let epoch = rig.observations()[0].id.epoch;

    let rig = rig.restart(again());
    let later = |all: &[bulkhead_domain::Observation]| {
        all.iter()
            .find(|o| {
                o.id.epoch > epoch && matches!(&o.body, Body::Started(c) if c.name == "web-1")
            })
            .cloned()
    };
    let found = rig.wait_for("the container's start in the new epoch", later);
    let Body::Started(found) = found.body else { unreachable!("it was matched so") };
    assert_eq!((found.key, &found.workload), (first.key, &first.workload));
    assert_eq!(found.workload.owner, "web", "its label is still known");
    rig.window(&rig.started("web-1"), "a window of the new epoch", |window| {
        window.feature(feature::EXECS) >= 1.0
    });
    // Its shell came before the observers, and is nobody who entered.
    let listed = rig.wait_for("what it runs", |all| {
        all.iter().filter(|o| o.id.epoch > epoch).find_map(|o| match &o.body {
            Body::Behaviour(_, b) if b.act.to_string() == "exec /bin/ls" => b.process.clone(),
            _ => None,
        })
    });
    assert_ne!(listed.origin, Origin::Entered);
    assert!(listed.parent.ends_with("busybox"), "{listed:?}");
    drop(container);
}

#[test]
fn a_shell_on_a_network_socket_is_told_whatever_it_does() {
    if !requirement::met("collector: reverse shell", &NEEDS) {
        return;
    }
    let directory = scratch::directory("shell").unwrap();
    let image = Image::busybox().unwrap();
    let podman = Podman::start(directory.path(), PodmanOptions::default()).unwrap();
    podman.import(&image).unwrap();
    let rig = Rig::start(scene(podman.cgroup_parent(), source(directory.path(), None)));
    // Both ends are inside the container: a listener that gives its visitor a shell, and the visitor.
    let script =
        "/bin/nc -l -p 9000 -e /bin/sh & sleep 1; echo /bin/id | /bin/nc 127.0.0.1 9000; sleep 600";
    let options = RunOptions::new("web-1", &["/bin/ash", "-c", script]).on("none");
    podman.run(&image, &options).unwrap();
    let started = rig.started("web-1");
    let shell = rig.act(&started, "shell-on-socket /bin/sh").process.unwrap();
    assert_eq!(shell.origin, Origin::Spawned);
    rig.act(&started, "exec /bin/id");
    rig.act(&started, "inbound 127.0.0.1 to port 9000/tcp");
}
