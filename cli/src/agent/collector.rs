//! The collector's side of the wiring.

use anyhow::Context as _;
use bulkhead_bus::Bus;
use bulkhead_collector::config::Config as Collecting;
use bulkhead_collector::naming::cgroup::Watch;
use bulkhead_collector::naming::engine::Source;
use bulkhead_collector::naming::podman::Storage;
use bulkhead_collector::observer::Observed;
use bulkhead_domain::container::Engine;
use bulkhead_loader::observe::{self, Observer};
use tokio::task::JoinSet;

use super::Cgroups;
use crate::config::{self, Config};

/// Loads the observers and starts the loop that drains them.
pub(super) fn start<B: Bus>(
    config: &Config,
    cgroups: &Cgroups,
    bus: B,
    stop: impl Future<Output = ()> + Send + 'static,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let pins = &config.paths.pins;
    let observer = Observer::load(&observe::Config {
        cgroup_root: cgroups.root.clone(),
        pin_dir: pins.join("SLOTS").exists().then(|| pins.clone()),
        slots_max: config.collector.containers_max,
    })
    .context("cannot observe this kernel; `bulkhead doctor` says what is missing")?;
    let collecting = Collecting {
        cluster: config.cluster.clone(),
        node: config.node.clone(),
        state: config.paths.agent_state(),
        cgroup_mount: cgroups.mount.clone(),
        cgroup_root: cgroups.root.clone(),
        sources: sources(&config.collector),
        runc_roots: config.collector.runc_roots.clone(),
        watch: Watch {
            parents: config.collector.cgroup_parents.clone(),
            units: config.collector.units.clone(),
        },
        step: config.collector.step,
        containers_max: config.collector.containers_max,
    };
    let kernel = Observed::new(observer);
    tasks.spawn(async move {
        bulkhead_collector::run::run(collecting, kernel, bus, stop)
            .await
            .context("the collector stopped")
    });
    Ok(())
}

/// One source for each socket; a Podman storage goes with the socket of the same place in the list.
fn sources(collector: &config::Collector) -> Vec<Source> {
    let docker = collector.docker.iter().map(|socket| Source {
        engine: Engine::Docker,
        socket: Some(socket.clone()),
        storage: None,
        required: collector.docker_required,
    });
    let places = collector.podman.len().max(collector.podman_roots.len());
    let podman = (0..places).map(|place| Source {
        engine: Engine::Podman,
        socket: collector.podman.get(place).cloned(),
        storage: collector.podman_roots.get(place).map(|root| Storage { root: root.clone() }),
        required: collector.podman_required,
    });
    docker.chain(podman).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_storages_of_podman_go_in_pairs_and_either_may_be_longer() {
        let collector = config::Collector {
            step: std::time::Duration::from_secs(5),
            docker: vec!["/d.sock".into()],
            podman: vec!["/p1.sock".into()],
            podman_roots: vec!["/r1".into(), "/r2".into()],
            runc_roots: Vec::new(),
            cgroup_parents: Vec::new(),
            units: Vec::new(),
            docker_required: false,
            podman_required: true,
            containers_max: 8,
        };
        let sources = sources(&collector);
        let shape: Vec<_> = sources
            .iter()
            .map(|s| (s.engine, s.socket.is_some(), s.storage.is_some(), s.required))
            .collect();
        assert_eq!(
            shape,
            [
                (Engine::Docker, true, false, false),
                (Engine::Podman, true, true, true),
                (Engine::Podman, false, true, true),
            ]
        );
    }
}
