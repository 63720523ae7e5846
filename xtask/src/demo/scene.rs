//! What the demo happens in: the application, the world outside, and a place for the product.

use std::{fs, net::Ipv4Addr, path::Path};

use anyhow::Context as _;
use bulkhead_tests::{
    image::Image,
    intruder::{Listener, NameServer},
    outside::Outside,
    podman::{Podman, PodmanOptions},
    scratch,
    service::Place,
    shop::{self, Shop},
};
use tempfile::TempDir;

use super::timeline::Timeline;

/// Everything but the application, in the order in which it has to go: the engine before its world.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) listener: Listener,
    _names: NameServer,
    /// The intruder's own machine.
    pub(crate) intruder: Ipv4Addr,
    /// Where the product keeps its state, its sockets and its configuration.
    pub(crate) place: Place,
    /// The part of the configuration that is not the same twice: where the engine and the resolver are.
    pub(crate) of_this_run: String,
    podman: Podman,
    _outside: Outside,
    _scratch: TempDir,
}

impl Scene {
    pub(crate) fn set(timeline: &Timeline) -> anyhow::Result<Self> {
        if !Image::debian_is_ready() {
            timeline.tell(
                "image",
                "making the application's image from Debian packages, once: about a minute",
            );
        }
        let image = Image::debian().context("cannot make the application's image")?;

        let scratch = scratch::directory("demo")?;
        let engine = scratch.path().join("podman");
        fs::create_dir(&engine)?;
        let outside = Outside::open(None)?;
        let (upstream, intruder) = (outside.peer(1), outside.peer(2));
        let names = NameServer::open(&outside, upstream)?;
        let listener = Listener::open(&outside, intruder)?;
        let options = PodmanOptions { home: None, upstream: Some(upstream), cgroup_parent: None };
        let mut podman = Podman::start(&engine, options)?;
        let podman_socket = podman.service()?;
        let place = Place::beside(scratch.path(), podman.cgroup_parent())?;
        podman.import(&image)?;
        let resolver = podman.network_create(shop::NETWORK)?.gateway();
        let of_this_run = of_this_run(&podman_socket, resolver);
        Ok(Self {
            listener,
            _names: names,
            intruder,
            place,
            of_this_run,
            podman,
            _outside: outside,
            _scratch: scratch,
        })
    }

    /// Brings the application up, under the load of its visitors.
    pub(crate) fn open_shop(&mut self, timeline: &Timeline) -> anyhow::Result<Shop> {
        let directory = self.place.directory.clone();
        let shop = Shop::open(&mut self.podman, &directory)?;
        timeline.tell(
            "engine",
            "podman runs nginx, two replicas of a Python app, Redis, an object store, visitors",
        );
        Ok(shop)
    }
}

fn of_this_run(podman_socket: &Path, resolver: Ipv4Addr) -> String {
    format!(
        "[collector]\ndocker = []\npodman = [{:?}]\npodman-roots = []\nrunc-roots = []\n\n\
         [guardrails]\nprotected = [\"{resolver}:53\"]\n",
        podman_socket.display().to_string()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_this_run_is_a_configuration_by_itself() {
        let text = of_this_run(Path::new("/d/podman.sock"), [10, 213, 1, 1].into());
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["collector"]["podman"][0].as_str(), Some("/d/podman.sock"));
        assert_eq!(table["guardrails"]["protected"][0].as_str(), Some("10.213.1.1:53"));
    }
}
