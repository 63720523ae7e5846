//! Container images made on the spot: no registry of images is asked.
//!
//! An image is an archive under `target/images`, named after its recipe and made once.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    command::{DOWNLOAD_SECONDS_MAX, find, finish_within, output},
    error::{HarnessError, io},
    scratch::{directory, fnv1a},
};

/// The release of Debian that images are made of, whatever the machine itself runs.
const SUITE: &str = "bookworm";

/// What the application image has beyond the smallest Debian: servers, and the tools an intruder would look for.
const PACKAGES: &str =
    "nginx-light,redis-server,curl,python3,netcat-openbsd,iproute2,iputils-ping,procps";

/// Raised when the way an image is put together changes.
const RECIPE: u32 = 1;

/// An image: the name engines know it by, and the archive it comes from.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    archive: PathBuf,
}

impl Image {
    /// A statically linked busybox and nothing else: 2 MB, imported at once.
    pub fn busybox() -> Result<Self, HarnessError> {
        Self::made("busybox", &format!("busybox {RECIPE}"), |root| {
            let busybox = find("busybox").ok_or_else(|| missing("busybox"))?;
            for part in ["bin", "dev", "etc", "proc", "sys", "tmp", "root", "run", "var/www"] {
                let path = root.join(part);
                fs::create_dir_all(&path).map_err(io(format!("cannot make {}", path.display())))?;
            }
            fs::copy(&busybox, root.join("bin/busybox")).map_err(io("cannot copy busybox"))?;
            let applets = output(Command::new(&busybox).arg("--list"))?;
            for applet in applets.lines().filter(|applet| *applet != "busybox") {
                std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))
                    .map_err(io(format!("cannot link {applet}")))?;
            }
            let write = |name: &str, text: &str| {
                fs::write(root.join("etc").join(name), text)
                    .map_err(io(format!("cannot write {name}")))
            };
            write(
                "passwd",
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            )?;
            write("group", "root:x:0:\nnogroup:x:65534:\n")
        })
    }

    /// Debian with nginx, Redis, Python and curl; the first call takes about a minute.
    pub fn debian() -> Result<Self, HarnessError> {
        Self::made("debian", &format!("debian {SUITE} {PACKAGES} {RECIPE}"), |root| {
            let debootstrap = find("debootstrap").ok_or_else(|| missing("debootstrap"))?;
            let finished = finish_within(
                Command::new(debootstrap)
                    .arg("--variant=minbase")
                    .arg(format!("--include={PACKAGES}"))
                    .args([SUITE.as_ref(), root.as_os_str(), mirror()?.as_ref()]),
                Duration::from_secs(DOWNLOAD_SECONDS_MAX),
            )?;
            if !finished.status.success() {
                let tail: Vec<_> = finished.stdout.lines().rev().take(5).collect();
                return Err(HarnessError::Command {
                    command: format!("debootstrap {SUITE}"),
                    cause: format!("{} {}", tail.join(" | "), finished.stderr.trim()),
                });
            }
            for part in [
                "var/cache/apt",
                "var/lib/apt/lists",
                "usr/share/doc",
                "usr/share/man",
                "usr/share/locale",
            ] {
                // Absent is as good as emptied.
                let _ = fs::remove_dir_all(root.join(part));
            }
            // Engines bind their own over it.
            fs::write(root.join("etc/resolv.conf"), "").map_err(io("cannot empty resolv.conf"))
        })
    }

    /// The name engines know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its archive: one layer, as `tar` makes it.
    pub fn archive(&self) -> &Path {
        &self.archive
    }

    /// Unpacks it, for a runtime that wants a directory.
    pub fn unpack(&self, root: &Path) -> Result<(), HarnessError> {
        fs::create_dir_all(root).map_err(io(format!("cannot make {}", root.display())))?;
        output(Command::new("tar").arg("-C").arg(root).arg("-xf").arg(&self.archive)).map(drop)
    }

    /// Whether the archive of the application image exists already, so that no minute has to be announced.
    pub fn debian_is_ready() -> bool {
        archive_path("debian", &format!("debian {SUITE} {PACKAGES} {RECIPE}")).is_file()
    }

    fn made(
        kind: &str,
        recipe: &str,
        fill: impl FnOnce(&Path) -> Result<(), HarnessError>,
    ) -> Result<Self, HarnessError> {
        let archive = archive_path(kind, recipe);
        let image = Self {
            name: format!("localhost/bulkhead/{kind}:{:08x}", fnv1a(recipe.as_bytes()) as u32),
            archive,
        };
        if image.archive.is_file() {
            return Ok(image);
        }
        let cache = image.archive.parent().expect("an archive is in the cache");
        fs::create_dir_all(cache).map_err(io(format!("cannot make {}", cache.display())))?;
        let lock = File::create(cache.join(".lock")).map_err(io("cannot lock the image cache"))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| io("cannot lock the image cache")(error.into()))?;
        // Another run may have made it while this one waited.
        if image.archive.is_file() {
            return Ok(image);
        }
        let scratch = directory("image")?;
        let root = scratch.path().join("root");
        fs::create_dir(&root).map_err(io("cannot make the image's root"))?;
        fill(&root)?;
        let partial = image.archive.with_extension("partial");
        output(
            Command::new("tar")
                .arg("-C")
                .arg(&root)
                .args(["--exclude=./dev/*", "--exclude=./proc/*"])
                .arg("-cf")
                .args([partial.as_os_str(), ".".as_ref()]),
        )?;
        fs::rename(&partial, &image.archive)
            .map_err(io(format!("cannot keep {}", image.archive.display())))?;
        Ok(image)
    }
}

fn archive_path(kind: &str, recipe: &str) -> PathBuf {
    workspace().join("target/images").join(format!("{kind}-{:016x}.tar", fnv1a(recipe.as_bytes())))
}

/// The root of the workspace that this harness was built in.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in a folder of the workspace")
}

fn missing(program: &str) -> HarnessError {
    HarnessError::Unexpected(format!(
        "{program} is not installed; `cargo xtask setup containers` does it"
    ))
}

/// Where this machine gets Debian's packages from, by its own settings.
fn mirror() -> Result<String, HarnessError> {
    let listed = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(COMPONENT) $(RELEASE) $(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    choose_mirror(&listed).ok_or_else(|| {
        HarnessError::Unexpected(
            "no Debian archive among this machine's package sources".to_owned(),
        )
    })
}

/// The first main archive of Debian: not the security one, which is no base to install from.
fn choose_mirror(listed: &str) -> Option<String> {
    listed.lines().find_map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        let [origin, component, .., uri] = words[..] else { return None };
        (origin == "Debian" && component == "main" && !uri.contains("security"))
            .then(|| uri.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_machines_own_main_archive() {
        let listed = "Other main stable https://example.net/other/\n\
                      Debian main bookworm-security https://example.net/debian-security/\n\
                      Debian main bookworm https://example.net/debian/\n";
        assert_eq!(choose_mirror(listed).as_deref(), Some("https://example.net/debian/"));
        assert_eq!(choose_mirror(""), None);
    }
}
