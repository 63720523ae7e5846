//! What starts the containers: runc by itself, or an engine.

use std::{fs, path::Path, sync::Arc};

use anyhow::Context as _;
use bulkhead_tests::{
    command::Finished,
    docker::{Docker, DockerOptions},
    engine::{Container, RunOptions},
    image::Image,
    netns::Netns,
    podman::{Podman, PodmanOptions},
    runc::{Bare, Runc},
    scratch::container_id,
};

use super::Kind;

/// The workload that every container belongs to.
pub(super) const WORKLOAD: &str = "starts";
const LABEL: &str = "bulkhead.workload";
const NETWORK: &str = "starts";

pub(super) enum Runtime {
    Runc(Box<Runc>, Arc<Netns>),
    Podman(Box<Podman>, Image),
    Docker(Box<Docker>, Image),
}

/// A container that stays until it is removed.
pub(super) enum Kept {
    Bare(Bare),
    OfEngine(Container),
}

impl Runtime {
    pub(super) fn start(kind: Kind, directory: &Path, home: &Arc<Netns>) -> anyhow::Result<Self> {
        let directory = directory.join(kind.name());
        fs::create_dir(&directory)?;
        let image = Image::busybox()?;
        Ok(match kind {
            Kind::Runc => {
                let mut runc = Runc::start(&directory, &image)?;
                runc.annotate(LABEL, WORKLOAD);
                Self::Runc(Box::new(runc), Arc::clone(home))
            }
            Kind::Podman => {
                let options = PodmanOptions { home: Some(Arc::clone(home)), ..Default::default() };
                let mut podman = Podman::start(&directory, options)?;
                podman.import(&image)?;
                podman.network_create(NETWORK)?;
                Self::Podman(Box::new(podman), image)
            }
            Kind::Docker => {
                let options = DockerOptions { home: Some(Arc::clone(home)), upstream: None };
                let mut docker = Docker::start(&directory, options)?;
                docker.import(&image)?;
                docker.network_create(NETWORK)?;
                Self::Docker(Box::new(docker), image)
            }
        })
    }

    pub(super) fn cgroup_parent(&self) -> &str {
        match self {
            Self::Runc(runc, _) => runc.cgroup_parent(),
            Self::Podman(podman, _) => podman.cgroup_parent(),
            Self::Docker(docker, _) => docker.cgroup_parent(),
        }
    }

    /// The collector's part of the configuration, so that it looks at this runtime and at no other.
    pub(super) fn collector(&mut self) -> anyhow::Result<String> {
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        let (docker, podman, runc) = match self {
            Self::Runc(runc, _) => (String::new(), String::new(), quoted(&runc.state())),
            Self::Podman(podman, _) => (String::new(), quoted(&podman.service()?), String::new()),
            Self::Docker(docker, _) => (quoted(docker.socket()), String::new(), String::new()),
        };
        Ok(format!(
            "[collector]\ndocker = [{docker}]\npodman = [{podman}]\npodman-roots = []\nrunc-roots = [{runc}]\n"
        ))
    }

    /// Runs a container to its end and takes it away.
    pub(super) fn run_to_end(&self, script: &str) -> anyhow::Result<Finished> {
        let words = ["/bin/sh", "-c", script];
        let mut options = RunOptions { name: None, ..RunOptions::new("", &words) };
        options = options.on(NETWORK).label(LABEL, WORKLOAD);
        options.capabilities.push("NET_RAW".to_owned());
        Ok(match self {
            Self::Runc(runc, home) => runc.run_to_end(&container_id(), Some(home), &words)?,
            Self::Podman(podman, image) => podman.run_to_end(image, &options)?,
            Self::Docker(docker, image) => docker.run_to_end(image, &options)?,
        })
    }

    /// How a person names the container that was kept as `name`: to runc, name and id are one; engines take shorter ones.
    pub(super) fn name<'a>(&self, name: &'a str) -> &'a str {
        if matches!(self, Self::Runc(..)) { name } else { &name[..12] }
    }

    /// Starts a container of this name, 64 hexadecimal digits, that stays.
    pub(super) fn keep(&self, name: &str, script: &str) -> anyhow::Result<Kept> {
        let words = ["/bin/sh", "-c", script];
        let options = RunOptions::new(self.name(name), &words).on(NETWORK).label(LABEL, WORKLOAD);
        Ok(match self {
            Self::Runc(runc, home) => Kept::Bare(runc.run_as(name, Some(home), &words)?),
            Self::Podman(podman, image) => Kept::OfEngine(podman.run(image, &options)?),
            Self::Docker(docker, image) => Kept::OfEngine(docker.run(image, &options)?),
        })
    }

    /// Stops a container and starts it again as itself.
    pub(super) fn again(&self, container: &mut Kept, script: &str) -> anyhow::Result<()> {
        match (self, container) {
            (Self::Runc(runc, home), Kept::Bare(bare)) => {
                bare.remove()?;
                *bare = runc.run_as(&bare.id, Some(home), &["/bin/sh", "-c", script])?;
            }
            (_, Kept::OfEngine(container)) => container.kill_and_start()?,
            (_, Kept::Bare(_)) => anyhow::bail!("an engine keeps no bare container"),
        }
        Ok(())
    }
}

impl Kept {
    pub(super) fn remove(self) -> anyhow::Result<()> {
        match self {
            Self::Bare(bare) => bare.remove(),
            Self::OfEngine(container) => container.remove(),
        }
        .context("cannot remove the container")
    }
}
