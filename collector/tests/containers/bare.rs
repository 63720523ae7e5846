//! Containers without an engine: a bare runtime, and a cgroup below a watched parent.

use std::process::Command;

use crate::rig::{OwnCgroup, Rig, Scene};
use bulkhead_collector::naming::cgroup::Watch;
use bulkhead_domain::container::Engine;
use bulkhead_domain::inventory::LifeState;
use bulkhead_domain::process::Origin;
use bulkhead_tests::command::output;
use bulkhead_tests::image::Image;
use bulkhead_tests::requirement::{self, Need};
use bulkhead_tests::runc::Runc;
use bulkhead_tests::scratch;

#[test]
fn a_cgroup_below_a_watched_parent_is_a_container_by_its_path() {
    if !requirement::met("collector: cgroups", &[Need::Root, Need::Bpf, Need::Cgroup2]) {
        return;
    }
    let own = OwnCgroup::new();
    let watch = Watch { parents: vec![format!("/{}", own.0)], units: Vec::new() };
    let rig = Rig::start(Scene { watch, ..Scene::below(&own.0) });
    let path = own.path().join("pump");
    std::fs::create_dir(&path).unwrap();
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec /bin/sh -c '/bin/true; sleep 2'",
        path.display()
    );
    output(Command::new("sh").args(["-c", &script])).unwrap();

    let name = format!("/{}/pump", own.0);
    let started = rig.started(&name);
    assert_eq!((started.engine, started.key.engine_id.as_str()), (Engine::Cgroup, name.as_str()));
    assert_eq!(rig.act(&started, "exec /bin/sh").process.unwrap().origin, Origin::Started);
    assert_eq!(rig.act(&started, "exec /bin/true").process.unwrap().origin, Origin::Spawned);

    std::fs::remove_dir(&path).unwrap();
    rig.in_inventory(&name, LifeState::Stopped, |_| true);
}

#[test]
fn a_bare_runtimes_container_is_named_before_its_program_runs() {
    let needs = [Need::Root, Need::Bpf, Need::Cgroup2, Need::Runc, Need::Images];
    if !requirement::met("collector: runc", &needs) {
        return;
    }
    let directory = scratch::directory("runc").unwrap();
    let mut runc = Runc::start(directory.path(), &Image::busybox().unwrap()).unwrap();
    let rig = Rig::start(Scene {
        runc_roots: vec![directory.path().join("state")],
        ..Scene::below(runc.cgroup_parent())
    });
    let container = runc.run(None, &["/bin/sleep", "600"]).unwrap();
    let started = rig.started(&container.id);
    assert_eq!(started.key.engine_id, format!("/{}/{}", runc.cgroup_parent(), container.id));
    let first = rig.act(&started, "exec /bin/sleep").process.unwrap();
    assert_eq!((first.pid, first.origin), (container.pid, Origin::Started));

    // No engine vouches for who enters.
    container.exec(&["/bin/id"]).unwrap();
    let entered = rig.act(&started, "exec /bin/id").process.unwrap();
    assert_eq!((entered.origin, entered.engine_exec), (Origin::Entered, false));
}
