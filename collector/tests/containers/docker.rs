//! Containers of a real Docker daemon on the real kernel.

use crate::rig::{Rig, Scene};
use bulkhead_collector::naming::engine::Source;
use bulkhead_domain::container::Engine;
use bulkhead_domain::health::Condition;
use bulkhead_domain::inventory::LifeState;
use bulkhead_domain::observation::Body;
use bulkhead_domain::process::Origin;
use bulkhead_tests::docker::{Docker, DockerOptions};
use bulkhead_tests::engine::RunOptions;
use bulkhead_tests::image::Image;
use bulkhead_tests::requirement::{self, Need};
use bulkhead_tests::scratch;

const NEEDS: [Need; 6] =
    [Need::Root, Need::Bpf, Need::Cgroup2, Need::Netns, Need::Docker, Need::Images];

#[test]
fn a_docker_container_is_named_vouched_for_and_found_again_after_restarts() {
    if !requirement::met("collector: docker", &NEEDS) {
        return;
    }
    let directory = scratch::directory("docker").unwrap();
    let image = Image::busybox().unwrap();
    let mut docker = Docker::start(directory.path(), DockerOptions::default()).unwrap();
    docker.network_create("sea").unwrap();
    docker.import(&image).unwrap();
    let source = Source {
        engine: Engine::Docker,
        socket: Some(docker.socket().to_owned()),
        storage: None,
        required: true,
    };
    let rig = Rig::start(Scene { sources: vec![source], ..Scene::below(docker.cgroup_parent()) });

    let script = "while true; do /bin/ls /tmp > /dev/null; sleep 1; done";
    let options = RunOptions::new("web-1", &["/bin/sh", "-c", script])
        .on("sea")
        .label("com.docker.compose.project", "shop")
        .label("com.docker.compose.service", "web");
    let mut container = docker.run(&image, &options).unwrap();
    let started = rig.started("web-1");
    assert_eq!(started.workload.to_string(), "local/shop/service/web/");
    assert_eq!(started.key.engine_id, container.id);
    let first = rig.act(&started, "exec /bin/sh").process.unwrap();
    assert_eq!((first.pid, first.origin), (container.pid, Origin::Started));
    let address = container.ip.unwrap();
    rig.in_inventory(&container.id, LifeState::Running, |c| c.addresses.contains(&address.into()));

    container.exec(&["/bin/id"]).unwrap();
    let entered = rig.act(&started, "exec /bin/id").process.unwrap();
    assert_eq!((entered.origin, entered.engine_exec), (Origin::Entered, true));

    // The same container in another cgroup: the same identity for leases, the same workload.
    container.restart().unwrap();
    let again = rig.wait_for("its second start", |all| {
        all.iter().find_map(|o| match &o.body {
            Body::Started(c) if c.name == "web-1" && c.key.cgroup != started.key.cgroup => {
                Some(c.clone())
            }
            _ => None,
        })
    });
    assert_eq!(again.key.cgroup, container.cgroup_id().unwrap());
    assert_eq!(again.key.lease_scope(), started.key.lease_scope());
    assert_eq!(again.workload, started.workload);
    rig.act(&again, "exec /bin/ls");

    docker.restart_daemon().unwrap();
    for condition in [Condition::EngineLost, Condition::EngineBack] {
        rig.wait_for(&format!("{condition:?}"), |all| {
            all.iter()
                .any(|o| matches!(&o.body, Body::Health(h) if h.condition == condition))
                .then_some(())
        });
    }
}
