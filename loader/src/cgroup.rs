//! Finds the cgroup v2 hierarchy, which is mounted in different places, and tells the id of a directory in it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Why a hierarchy or a directory in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The table of mounts cannot be read.
    #[error("cannot read {path}")]
    Mounts {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// No cgroup v2 hierarchy is mounted.
    #[error(
        "no cgroup v2 hierarchy is mounted: `mount -t cgroup2 none /sys/fs/cgroup`, or give --cgroup-root"
    )]
    NotMounted,
    /// A directory is not there.
    #[error("cannot open the cgroup {path}")]
    Open {
        /// The directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Where the cgroup v2 hierarchy is: `/sys/fs/cgroup` where it is unified, a folder below it where it is hybrid.
pub fn root() -> Result<PathBuf, CgroupError> {
    let path = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(path)
        .map_err(|source| CgroupError::Mounts { path: path.into(), source })?;
    root_in(&mounts).ok_or(CgroupError::NotMounted)
}

/// Id of a cgroup directory, as the programs know it: its inode.
pub fn id(directory: &Path) -> Result<u64, CgroupError> {
    fs::metadata(directory)
        .map(|metadata| metadata.ino())
        .map_err(|source| CgroupError::Open { path: directory.display().to_string(), source })
}

/// The mount point in a `mountinfo` table; of several the shortest, which covers most.
fn root_in(mounts: &str) -> Option<PathBuf> {
    let points = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let fields: Vec<_> = before.split(' ').collect();
        // A bind mount of a part of the hierarchy is not its root.
        let whole = fields.get(3) == Some(&"/");
        let ours = whole && after.split(' ').next() == Some("cgroup2");
        fields.get(4).filter(|_| ours).map(|point| unescape(point))
    });
    points.min_by_key(|point| point.as_os_str().len())
}

/// A path of the table, in which blanks are octal escapes.
fn unescape(field: &str) -> PathBuf {
    PathBuf::from(field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hybrid_layout_has_it_below_the_others() {
        let mounts = "\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:4 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
";
        assert_eq!(root_in(mounts), Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn a_bind_mount_of_a_part_is_not_the_root() {
        let mounts = "\
40 24 0:27 /user.slice /mnt rw - cgroup2 none rw
41 24 0:27 / /sys/fs/cgroup rw - cgroup2 none rw
";
        assert_eq!(root_in(mounts), Some("/sys/fs/cgroup".into()));
    }

    #[test]
    fn a_machine_without_one_is_told_so() {
        assert_eq!(root_in("30 24 0:26 / /sys/fs/cgroup rw - cgroup cgroup rw\n"), None);
    }
}
