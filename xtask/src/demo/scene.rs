//! What the demo happens in: the application, the world outside, and a place for the product.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bulkhead_tests::{
    image::Image,
    intruder::{Listener, NameServer},
    outside::Outside,
    podman::{Podman, PodmanOptions},
    requirement::cgroup2,
    scratch,
    shop::Shop,
};
use tempfile::TempDir;

use super::timeline::Timeline;

/// Everything, in the order in which it has to go: the application before its engine, the engine before its world.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) shop: Shop,
    pub(crate) listener: Listener,
    _names: NameServer,
    /// The intruder's own machine.
    pub(crate) intruder: Ipv4Addr,
    /// Where the product keeps its state, its sockets and its configuration.
    pub(crate) place: Place,
    _podman: Podman,
    _outside: Outside,
    _scratch: TempDir,
}

/// Where the product works in this run, apart from any other on the machine.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) cgroup_root: PathBuf,
    pub(crate) pins: PathBuf,
    pub(crate) podman_socket: PathBuf,
    /// The resolver that containers ask.
    pub(crate) resolver: Ipv4Addr,
}

impl Scene {
    pub(crate) fn set(timeline: &Timeline) -> anyhow::Result<Self> {
        if !Image::debian_is_ready() {
            timeline.tell(
                "image",
                "making the application's image from Debian packages, once: about a minute",
            );
        }
        Image::debian().context("cannot make the application's image")?;

        let scratch = scratch::directory("demo")?;
        // The controller has a user of its own, and has to reach its own directory.
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
        let engine = scratch.path().join("podman");
        fs::create_dir(&engine)?;
        let outside = Outside::open(None)?;
        let (upstream, intruder) = (outside.peer(1), outside.peer(2));
        let names = NameServer::open(&outside, upstream)?;
        let listener = Listener::open(&outside, intruder)?;
        let options = PodmanOptions { home: None, upstream: Some(upstream), cgroup_parent: None };
        let mut podman = Podman::start(&engine, options)?;
        let podman_socket = podman.service()?;
        let cgroup_root =
            cgroup2().context("no cgroup v2 hierarchy is mounted")?.join(podman.cgroup_parent());
        fs::create_dir_all(&cgroup_root)?;
        let pins = Path::new("/sys/fs/bpf").join(podman.cgroup_parent());
        let shop = Shop::open(&mut podman, &engine)?;
        let resolver = shop.gateway();
        let place = Place {
            directory: scratch.path().to_owned(),
            cgroup_root,
            pins,
            podman_socket,
            resolver,
        };
        timeline.tell(
            "engine",
            "podman runs nginx, two replicas of a Python app, Redis, an object store, visitors",
        );
        Ok(Self {
            shop,
            listener,
            _names: names,
            intruder,
            place,
            _podman: podman,
            _outside: outside,
            _scratch: scratch,
        })
    }

    /// Whom a scan looks at.
    pub(crate) fn siblings(&self) -> Vec<Ipv4Addr> {
        [&self.shop.redis, &self.shop.store]
            .into_iter()
            .filter_map(|container| container.ip)
            .collect()
    }
}
