//! Watches the cgroup tree, so that a new container is known within a millisecond of its cgroup's creation.
//!
//! An inotify watch on every directory, bounded; a directory is listed after its watch is set, so that what was made in
//! between is found too. When the kernel drops notices (queue overflow) or the bound is reached, [`Tree::scan`], which
//! the loop calls now and then anyway, finds the rest.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// Directories watched at most; a node with 1,000 containers of three levels stays below.
pub const WATCHES_MAX: usize = 8192;

/// Levels below the root that are looked at.
const DEPTH_MAX: usize = 10;

/// A cgroup that came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A directory that was not there before.
    Made {
        /// Cgroup id: the directory's inode.
        cgroup: u64,
        /// Path below the mount, beginning with `/`.
        path: String,
    },
    /// A directory that is there no longer.
    Gone {
        /// The id it had.
        cgroup: u64,
    },
}

/// The tree below one cgroup v2 directory, and the watches on it.
#[derive(Debug)]
pub struct Tree {
    mount: PathBuf,
    root: PathBuf,
    notices: OwnedFd,
    watched: HashMap<i32, PathBuf>,
    known: HashMap<PathBuf, u64>,
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notices.as_fd()
    }
}

impl AsRawFd for Tree {
    fn as_raw_fd(&self) -> RawFd {
        self.notices.as_raw_fd()
    }
}

impl Tree {
    /// Watches the directories below `root`, a directory of the cgroup v2 file system mounted at `mount`.
    ///
    /// The directories that are there already are the first result of [`Tree::scan`].
    pub fn new(mount: &Path, root: &Path) -> io::Result<Self> {
        std::fs::metadata(root)?;
        let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            mount: mount.into(),
            root: root.into(),
            notices,
            watched: HashMap::new(),
            known: HashMap::new(),
        })
    }

    /// Looks at the whole tree: what is new since the last look, and what is gone.
    pub fn scan(&mut self) -> Vec<Change> {
        let mut seen = HashSet::new();
        let mut changes = Vec::new();
        self.walk(&self.root.clone(), &mut seen, &mut changes);
        let gone: Vec<PathBuf> =
            self.known.keys().filter(|path| !seen.contains(*path)).cloned().collect();
        for path in gone {
            changes.extend(self.forget(&path));
        }
        changes
    }

    /// What notices say has changed; an empty answer means that nothing waits.
    pub fn read(&mut self) -> io::Result<Vec<Change>> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 16 << 10];
        let mut touched = Vec::new();
        let mut overflow = false;
        {
            let mut reader = Reader::new(self.notices.as_fd(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        let flags = event.events();
                        overflow |= flags.contains(ReadFlags::QUEUE_OVERFLOW);
                        if flags.contains(ReadFlags::IGNORED) {
                            self.watched.remove(&event.wd());
                        } else if let (Some(directory), Some(name)) =
                            (self.watched.get(&event.wd()), event.file_name())
                            && flags.contains(ReadFlags::ISDIR)
                        {
                            touched.push(directory.join(name.to_string_lossy().as_ref()));
                        }
                    }
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if overflow {
            return Ok(self.scan());
        }
        let mut changes = Vec::new();
        for path in touched {
            // The directory's state now decides, not the order of notices: it may have been made anew meanwhile.
            match inode(&path) {
                Some(id) if self.known.get(&path) == Some(&id) => {}
                Some(_) => {
                    changes.extend(self.forget(&path));
                    self.walk(&path, &mut HashSet::new(), &mut changes);
                }
                None => changes.extend(self.forget(&path)),
            }
        }
        Ok(changes)
    }

    fn walk(&mut self, path: &Path, seen: &mut HashSet<PathBuf>, changes: &mut Vec<Change>) {
        let depth = path.strip_prefix(&self.root).map_or(0, |below| below.components().count());
        let Some(id) = inode(path) else { return };
        seen.insert(path.into());
        if self.known.get(path) != Some(&id) {
            changes.extend(self.forget(path));
            if self.watched.len() < WATCHES_MAX {
                let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
                if let Ok(watch) = inotify::add_watch(&self.notices, path, flags) {
                    self.watched.insert(watch, path.into());
                }
            }
            self.known.insert(path.into(), id);
            if let Some(below) = below(&self.mount, path) {
                changes.push(Change::Made { cgroup: id, path: below });
            }
        }
        if depth >= DEPTH_MAX {
            return;
        }
        let Ok(entries) = std::fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.walk(&entry.path(), seen, changes);
            }
        }
    }

    /// Removes a directory and what was below it.
    fn forget(&mut self, path: &Path) -> Vec<Change> {
        let gone: Vec<PathBuf> =
            self.known.keys().filter(|known| known.starts_with(path)).cloned().collect();
        gone.iter()
            .filter_map(|path| self.known.remove(path))
            .map(|cgroup| Change::Gone { cgroup })
            .collect()
    }
}

/// A directory's inode; on cgroup v2 that is its cgroup id.
pub fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir).map(|metadata| metadata.ino())
}

/// A path as seen from the mount, beginning with `/`.
fn below(mount: &Path, path: &Path) -> Option<String> {
    let rest = path.strip_prefix(mount).ok()?;
    Some(format!("/{}", rest.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn made(changes: &[Change]) -> Vec<&str> {
        let mut paths: Vec<&str> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Made { path, .. } => Some(path.as_str()),
                Change::Gone { .. } => None,
            })
            .collect();
        paths.sort_unstable();
        paths
    }

    #[test]
    fn what_is_there_and_what_comes_is_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("docker/one")).unwrap();
        let mut tree = Tree::new(dir.path(), dir.path()).unwrap();
        assert_eq!(made(&tree.scan()), ["/", "/docker", "/docker/one"]);
        assert_eq!(tree.read().unwrap(), []);
        // Nested in one go: the inner one is made before its parent can be watched.
        fs::create_dir_all(dir.path().join("libpod_parent/two/inner")).unwrap();
        assert_eq!(
            made(&tree.read().unwrap()),
            ["/libpod_parent", "/libpod_parent/two", "/libpod_parent/two/inner"]
        );
        assert_eq!(tree.scan(), [], "a look finds nothing twice");
    }

    #[test]
    fn what_goes_is_told_with_the_id_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker");
        fs::create_dir(&path).unwrap();
        let mut tree = Tree::new(dir.path(), dir.path()).unwrap();
        tree.scan();
        let cgroup = inode(&path).unwrap();
        fs::remove_dir(&path).unwrap();
        assert_eq!(tree.read().unwrap(), [Change::Gone { cgroup }]);
        assert_eq!(tree.scan(), []);
    }

    #[test]
    fn a_missed_notice_is_made_good_by_the_next_look() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(dir.path(), dir.path()).unwrap();
        // No watch yet, so no notice.
        fs::create_dir(dir.path().join("docker")).unwrap();
        assert_eq!(tree.read().unwrap(), []);
        assert_eq!(made(&tree.scan()), ["/", "/docker"]);
        assert!(Tree::new(dir.path(), &dir.path().join("nowhere")).is_err());
    }
}
