//! Mounts of the host's file systems inside a container: found in its `mountinfo` when it starts.
//!
//! One of the acts that repetition never makes normal: a container that is given the host's root, its configuration or an
//! engine's socket can leave its walls without a system call that would look strange.

use std::collections::BTreeSet;

/// Host directories whose mount is reported, when the whole of them is mounted. What engines mount into every container
/// (`/etc/hosts`, `resolv.conf`) are single files of their own storage.
const DIRECTORIES: [&str; 14] = [
    "/",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib/modules",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sys",
    "/usr",
    "/var",
    "/var/run",
];

/// Sockets of container engines, by file name.
pub const ENGINE_SOCKETS: [&str; 5] =
    ["containerd.sock", "crio.sock", "docker.sock", "podman.sock", "dockershim.sock"];

/// Lines read of one table.
const LINES_MAX: usize = 4096;

/// Mounts reported of one container.
const FOUND_MAX: usize = 16;

/// The host's paths that are mounted in a container, by the tables of both.
///
/// None for a process that still sees, or is meant to see, the host's root: a runtime before it changes roots has every
/// mount of the host, and so has a systemd unit.
pub fn host_mounts(container: &str, host: &str) -> BTreeSet<String> {
    let host: Vec<Mount<'_>> = host.lines().take(LINES_MAX).filter_map(parse).collect();
    let is_hosts_root = |mount: &Mount<'_>| {
        mount.point == "/"
            && host.iter().any(|h| (h.point, h.device, h.root) == ("/", mount.device, mount.root))
    };
    if container.lines().take(LINES_MAX).filter_map(parse).any(|mount| is_hosts_root(&mount)) {
        return BTreeSet::new();
    }
    container
        .lines()
        .take(LINES_MAX)
        .filter_map(parse)
        .filter(|mount| mount.point != "/")
        .filter_map(|mount| host_path(&mount, &host))
        .filter(|path| {
            DIRECTORIES.contains(&path.as_str())
                || path.rsplit('/').next().is_some_and(|name| ENGINE_SOCKETS.contains(&name))
        })
        .take(FOUND_MAX)
        .collect()
}

/// Where the host has what a container mounts: the same device, the mount's root below the host's.
fn host_path(mount: &Mount<'_>, host: &[Mount<'_>]) -> Option<String> {
    host.iter()
        .filter(|candidate| candidate.device == mount.device && !candidate.is_virtual())
        .filter_map(|candidate| {
            let below = mount.root.strip_prefix(candidate.root.trim_end_matches('/'))?;
            if !below.is_empty() && !below.starts_with('/') {
                return None;
            }
            let path = format!("{}{below}", candidate.point.trim_end_matches('/'));
            let path = path.trim_end_matches('/');
            Some(if path.is_empty() { "/".to_owned() } else { path.to_owned() })
        })
        .min_by_key(String::len)
}

struct Mount<'a> {
    device: &'a str,
    root: &'a str,
    point: &'a str,
    kind: &'a str,
}

impl Mount<'_> {
    /// File systems that each container has its own view of; their device number may be shared all the same.
    fn is_virtual(&self) -> bool {
        matches!(
            self.kind,
            "cgroup" | "cgroup2" | "devpts" | "mqueue" | "proc" | "sysfs" | "overlay"
        )
    }
}

/// One line (proc(5), `mountinfo`): id, parent, device, root, mount point, options, optional fields, `-`, type, source.
fn parse(line: &str) -> Option<Mount<'_>> {
    let mut fields = line.split(' ');
    let device = fields.nth(2)?;
    let root = fields.next()?;
    let point = fields.next()?;
    let kind = fields.skip_while(|field| *field != "-").nth(1)?;
    Some(Mount { device, root, point, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /run rw,nosuid shared:5 - tmpfs tmpfs rw
24 22 0:22 / /proc rw - proc proc rw
25 22 8:2 / /home rw - ext4 /dev/sda2 rw
";

    fn found(container: &str) -> Vec<String> {
        host_mounts(container, HOST).into_iter().collect()
    }

    #[test]
    fn an_ordinary_container_mounts_nothing_of_the_hosts() {
        let container = "\
700 600 0:80 / / rw - overlay overlay rw
701 700 0:90 / /proc rw - proc proc rw
702 700 8:1 /var/lib/containers/userdata/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw
703 700 8:1 /srv/data /data rw - ext4 /dev/sda1 rw
704 700 0:91 / /run rw - tmpfs tmpfs rw
";
        assert_eq!(found(container), [""; 0]);
    }

    #[test]
    fn the_hosts_root_configuration_and_engine_socket_are_found_wherever_they_are_mounted() {
        let container = "\
700 600 0:80 / / rw - overlay overlay rw
701 700 8:1 / /mnt rw - ext4 /dev/sda1 rw
702 700 8:1 /etc /opt/cfg ro - ext4 /dev/sda1 rw
703 700 0:21 /docker.sock /tmp/d.sock rw - tmpfs tmpfs rw
704 700 8:2 / /data rw - ext4 /dev/sda2 rw
nonsense
";
        assert_eq!(found(container), ["/", "/etc", "/home", "/run/docker.sock"]);
    }

    #[test]
    fn a_runtime_before_it_changes_roots_mounts_nothing_by_itself() {
        assert_eq!(found(HOST), [""; 0]);
    }

    #[test]
    fn a_root_without_overlay_is_the_containers_own() {
        assert_eq!(found("700 600 8:1 /var/lib/x/rootfs / rw - ext4 /dev/sda1 rw\n"), [""; 0]);
    }
}
