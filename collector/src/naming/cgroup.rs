//! From a cgroup's path to the container it is, with no engine asked: the shapes that runtimes give their cgroups.

use bulkhead_domain::container::Engine;

/// What a cgroup's path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// A container that this engine, or a runtime's shim (`None`), knows by its id.
    Container {
        /// The engine that the path names, where it does.
        engine: Option<Engine>,
        /// The engine's id: 64 hex digits.
        id: String,
    },
    /// A cgroup directly under a watched parent: a container without an engine.
    Watched,
    /// A systemd unit that was asked for.
    Unit(String),
}

/// Which cgroups without an engine's name are containers all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Parents, as paths below the mount (`/runc`): each of their children is a container.
    pub parents: Vec<String>,
    /// Systemd units, by full name or with one `*` (`web@*.service`).
    pub units: Vec<String>,
}

/// Name of the cgroup in which the enforcer tries the guards: nobody's container.
const CANARY: &str = "bulkhead-canary";

/// What a path below the mount is; `None` for a cgroup that is no container's top directory.
///
/// Directories inside a container (an init system's own slices) are part of it: the kernel's look-up walks up to the
/// nearest slot, so they are never recognised for themselves.
pub fn recognise(path: &str, watch: &Watch) -> Option<Recognised> {
    let (parent, leaf) = path.rsplit_once('/')?;
    if parent.split('/').any(|part| engine_id(part).is_some()) {
        return None;
    }
    if let Some((engine, id)) = engine_id(leaf) {
        let engine = engine.or_else(|| parent_engine(parent));
        return Some(Recognised::Container { engine, id: id.into() });
    }
    // The enforcer's self-test has a cgroup of its own, directly below the guarded root.
    if leaf == CANARY {
        return None;
    }
    if watch.parents.iter().any(|watched| watched.trim_end_matches('/') == parent) {
        return Some(Recognised::Watched);
    }
    (leaf.ends_with(".service") && watch.units.iter().any(|pattern| matches(pattern, leaf)))
        .then(|| Recognised::Unit(leaf.into()))
}

/// The id in one part of a path, with the engine that its prefix names.
///
/// `docker-ID.scope`, `libpod-ID.scope`, `libpod-ID`, `cri-containerd-ID.scope`, `crio-ID.scope`, or the bare id.
/// `libpod-conmon-ID.scope` holds Podman's monitor, not the container.
fn engine_id(part: &str) -> Option<(Option<Engine>, &str)> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let (prefix, id) = name.rsplit_once('-').map_or(("", name), |(prefix, id)| (prefix, id));
    if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    match prefix {
        "docker" => Some((Some(Engine::Docker), id)),
        "libpod" => Some((Some(Engine::Podman), id)),
        "" | "cri-containerd" | "crio" => Some((None, id)),
        _ => None,
    }
}

/// The engine that a bare id's parent names.
fn parent_engine(parent: &str) -> Option<Engine> {
    match parent.rsplit('/').next() {
        Some("docker") => Some(Engine::Docker),
        Some("libpod_parent") => Some(Engine::Podman),
        _ => None,
    }
}

/// Whether a name fits a pattern with at most one `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0cd273a3b8dc35f837ec2ecb40b72417200aeb86c849398a7eb1510d9f3c5be3";

    fn of(path: &str) -> Option<Recognised> {
        let watch = Watch { parents: vec!["/runc".into()], units: vec!["web@*.service".into()] };
        recognise(&path.replace("ID", ID), &watch)
    }

    fn container(engine: Option<Engine>) -> Recognised {
        Recognised::Container { engine, id: ID.into() }
    }

    #[test]
    fn each_runtimes_shape_is_known() {
        for (path, engine) in [
            ("/docker/ID", Some(Engine::Docker)),
            ("/system.slice/docker-ID.scope", Some(Engine::Docker)),
            ("/libpod_parent/libpod-ID", Some(Engine::Podman)),
            ("/machine.slice/libpod-ID.scope", Some(Engine::Podman)),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-ID.scope",
                None,
            ),
            ("/kubepods/burstable/pod1/ID", None),
        ] {
            assert_eq!(of(path), Some(container(engine)), "{path}");
        }
    }

    #[test]
    fn what_is_inside_or_beside_a_container_is_not_one() {
        for path in [
            "/libpod_parent/libpod-ID/container",
            "/docker/ID/init.scope",
            "/machine.slice/libpod-conmon-ID.scope",
            "/docker",
            "/runc/bulkhead-canary",
            "/system.slice/ssh.service",
            "/",
            "",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn without_an_engine_parents_and_units_are_asked_for() {
        assert_eq!(of("/runc/web"), Some(Recognised::Watched));
        assert_eq!(of("/runc/web/inner"), None);
        assert_eq!(
            of("/system.slice/web@1.service"),
            Some(Recognised::Unit("web@1.service".into()))
        );
        assert_eq!(recognise("/runc/web", &Watch::default()), None);
    }
}
