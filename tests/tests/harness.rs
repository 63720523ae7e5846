//! The harness itself, on real engines: what it starts is reachable, and what it leaves is nothing.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

use bulkhead_tests::{
    command::eventually,
    docker::{Docker, DockerOptions},
    engine::RunOptions,
    image::Image,
    netns::Netns,
    outside::Outside,
    podman::{Podman, PodmanOptions},
    requirement::{Need, met},
    runc::Runc,
    scratch,
};

const PODMAN: [Need; 4] = [Need::Root, Need::Cgroup2, Need::Netns, Need::Podman];
const DOCKER: [Need; 4] = [Need::Root, Need::Cgroup2, Need::Netns, Need::Docker];

/// A listener outside that says `harbour` to whoever connects, for the length of a test.
fn greet(outside: &Outside, port: u16) {
    let address = outside.peer(0);
    let listener = outside
        .netns()
        .enter(move || TcpListener::bind((address, port)))
        .expect("the namespace can be entered")
        .expect("the port is free");
    thread::spawn(move || {
        for stream in listener.incoming().take(16) {
            let Ok(mut stream) = stream else { return };
            let _ = stream.write_all(b"harbour\n");
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        }
    });
}

#[test]
fn podmans_containers_meet_by_name_and_reach_only_the_outside_that_was_made() {
    if !met("harness/podman", &PODMAN) {
        return;
    }
    let home = Arc::new(Netns::new("home").unwrap());
    home.sysctl("net.ipv4.ip_forward", "1").unwrap();
    let outside = Outside::open(Some(&home)).unwrap();
    let scratch = scratch::directory("podman").unwrap();
    let resolver = outside.peer(1);
    let asked = outside.netns().enter(move || UdpSocket::bind((resolver, 53))).unwrap().unwrap();
    asked.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    greet(&outside, 4444);

    let mut podman = Podman::start(
        scratch.path(),
        PodmanOptions {
            home: Some(Arc::clone(&home)),
            upstream: Some(resolver),
            cgroup_parent: None,
        },
    )
    .unwrap();
    podman.network_create("quay").unwrap();
    let image = Image::busybox().unwrap();
    let server = podman.run(
        &image,
        &RunOptions::new("server", &["nc", "-ll", "-p", "80", "-e", "echo", "hello"]).on("quay"),
    );
    let server = server.unwrap();
    let mut client =
        podman.run(&image, &RunOptions::new("client", &["sleep", "600"]).on("quay")).unwrap();
    assert!(
        client.cgroup.starts_with(
            bulkhead_tests::requirement::cgroup2().unwrap().join(podman.cgroup_parent())
        )
    );
    assert_eq!(server.id.len(), 64);

    let met = eventually(Duration::from_secs(20), || {
        client
            .try_exec(&["nc", "-w", "2", "server", "80"])
            .is_ok_and(|said| said.stdout.contains("hello"))
    });
    assert!(met, "the client does not reach the server by name");
    let said = client
        .exec(&["sh", "-c", &format!("nc -w 2 {} 4444 < /dev/null", outside.peer(0))])
        .unwrap();
    assert_eq!(said.trim(), "harbour");

    client.exec_detached(&["nslookup", "far.example.test"]).unwrap();
    let mut question = [0; 512];
    let (length, _) = asked.recv_from(&mut question).unwrap();
    assert!(question[..length].windows(4).any(|window| window == b"\x03far"));

    let (pid, cgroup) = (client.pid, client.cgroup_id().unwrap());
    client.restart().unwrap();
    assert_ne!(client.pid, pid);
    assert_ne!(client.cgroup_id().unwrap(), cgroup);
    podman.service().unwrap();

    let parent = bulkhead_tests::requirement::cgroup2().unwrap().join(podman.cgroup_parent());
    assert!(parent.exists());
    drop(podman);
    assert!(!parent.exists(), "the cgroups stayed");
    assert!(!scratch.path().exists(), "the files stayed");
    let links = home.ip(&["-o", "link"]).unwrap();
    assert!(!links.contains("bhp"), "a bridge stayed: {links}");
}

#[test]
fn dockers_containers_meet_by_name_and_survive_nothing() {
    if !met("harness/docker", &DOCKER) {
        return;
    }
    let scratch = scratch::directory("docker").unwrap();
    let home = Arc::new(Netns::new("home").unwrap());
    let outside = Outside::open(Some(&home)).unwrap();
    greet(&outside, 4444);
    let mut docker = Docker::start(
        scratch.path(),
        DockerOptions { home: Some(Arc::clone(&home)), upstream: None },
    )
    .unwrap();
    docker.network_create("quay").unwrap();
    let image = Image::busybox().unwrap();
    let _server = docker
        .run(
            &image,
            &RunOptions::new("server", &["nc", "-ll", "-p", "80", "-e", "echo", "hello"])
                .on("quay"),
        )
        .unwrap();
    let mut client =
        docker.run(&image, &RunOptions::new("client", &["sleep", "600"]).on("quay")).unwrap();
    let met = eventually(Duration::from_secs(20), || {
        client
            .try_exec(&["nc", "-w", "2", "server", "80"])
            .is_ok_and(|said| said.stdout.contains("hello"))
    });
    assert!(met, "the client does not reach the server by name");
    let said = client
        .exec(&["sh", "-c", &format!("nc -w 2 {} 4444 < /dev/null", outside.peer(0))])
        .unwrap();
    assert_eq!(said.trim(), "harbour");
    let pid = client.pid;
    client.restart().unwrap();
    assert_ne!(client.pid, pid);
    let parent = bulkhead_tests::requirement::cgroup2().unwrap().join(docker.cgroup_parent());
    assert!(parent.exists());
    drop(docker);
    assert!(!parent.exists(), "the cgroups stayed");
    assert!(!scratch.path().exists(), "the files stayed");
}

#[test]
fn runc_starts_a_container_that_only_the_kernel_knows() {
    if !met("harness/runc", &[Need::Root, Need::Cgroup2, Need::Netns, Need::Runc]) {
        return;
    }
    let scratch = scratch::directory("runc").unwrap();
    let netns = Netns::new("box").unwrap();
    netns.add_address(std::net::Ipv4Addr::new(192, 0, 2, 77)).unwrap();
    let mut runc = Runc::start(scratch.path(), &Image::busybox().unwrap()).unwrap();
    let container = runc.run(Some(&netns), &["sleep", "600"]).unwrap();
    assert!(container.cgroup.ends_with(&container.id));
    assert!(container.exec(&["ip", "addr"]).unwrap().contains("192.0.2.77"));
    drop(runc);
    assert!(!container.cgroup.exists());
}
