//! A container as the kernel sees one: a cgroup, a network namespace, and processes that do what a test says.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use bulkhead_tests::{requirement::cgroup2, scratch::unique};

/// A cgroup of a test's own, removed with it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one below the root of the hierarchy.
    pub fn root(purpose: &str) -> Self {
        let root = cgroup2().expect("the group of tests asked for a cgroup v2 hierarchy");
        Self::make(root.join(format!("bh-{purpose}-{}", unique())))
    }

    /// Makes one below this one.
    pub fn child(&self, name: &str) -> Self {
        Self::make(self.path.join(name))
    }

    fn make(path: PathBuf) -> Self {
        fs::create_dir(&path).expect("root may make cgroups");
        Self { path }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its id, as programs know it.
    pub fn id(&self) -> u64 {
        fs::metadata(&self.path).expect("the cgroup exists while its owner does").ino()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Processes that have just ended may still be leaving it.
        for _ in 0..50 {
            if remove(&self.path) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a cgroup and those below it; whether it is gone.
fn remove(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(path).is_ok() || !path.exists()
}

/// What a process of a container left behind: its ids, and what it says.
#[derive(Debug)]
pub struct Done {
    /// Its process id.
    pub pid: u32,
    /// What its work returned.
    pub said: String,
}

/// A process that still runs, inside a cgroup and a namespace.
#[derive(Debug)]
pub struct Running {
    pid: libc::pid_t,
    line: UnixStream,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Reads one byte that the work wrote by [`Voice::ready`]: it is as far as it says.
    pub fn wait_ready(&mut self) {
        let mut byte = [0];
        self.line.read_exact(&mut byte).expect("the work says that it is ready before it ends");
        assert_eq!(byte, *b"!", "the work said something else first");
    }

    /// Lets [`Voice::wait`] return.
    pub fn go_on(&mut self) {
        self.line.write_all(b"!").expect("the work listens");
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Done {
        let mut said = String::new();
        self.line.read_to_string(&mut said).expect("what was said is text");
        let mut status = 0;
        // SAFETY: waits for a child of this process that nobody else waits for.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        assert_eq!(waited, self.pid);
        assert!(status == 0, "the work inside the container failed ({status:#x}): {said}");
        Done { pid: self.pid(), said }
    }
}

/// Speaks with whoever started this work.
#[derive(Debug)]
pub struct Voice(UnixStream);

impl Voice {
    /// Lets [`Running::wait_ready`] return.
    pub fn ready(&mut self) {
        self.0.write_all(b"!").expect("the test listens");
    }

    /// Waits for [`Running::go_on`].
    pub fn wait(&mut self) {
        self.0.read_exact(&mut [0]).expect("the test goes on");
    }
}

/// Starts work in a process of its own, inside a cgroup and perhaps a namespace.
pub fn start<T: std::fmt::Debug>(
    cgroup: &Cgroup,
    netns: Option<&Path>,
    work: impl FnOnce(&mut Voice) -> T,
) -> Running {
    let (near, far) = UnixStream::pair().expect("sockets can be made");
    // SAFETY: the child runs ordinary code on a copy of this one thread; the allocator survives forks, and the work
    // takes no lock that another thread could have held.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "cannot fork");
    if pid != 0 {
        return Running { pid, line: near };
    }
    let mut voice = Voice(far);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        enter(cgroup, netns);
        format!("{:?}", work(&mut voice))
    }));
    let (said, code) = match result {
        Ok(said) => (said, 0),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default();
            (text, 101)
        }
    };
    let _ = voice.0.write_all(said.as_bytes());
    drop(voice);
    // SAFETY: ends this process at once, without the parent's destructors.
    unsafe { libc::_exit(code) }
}

/// Does work in a process of its own, to its end.
pub fn run<T: std::fmt::Debug>(
    cgroup: &Cgroup,
    netns: Option<&Path>,
    work: impl FnOnce() -> T,
) -> Done {
    start(cgroup, netns, |_| work()).wait()
}

/// Moves the running process into a cgroup.
pub fn join(cgroup: &Path) {
    fs::write(cgroup.join("cgroup.procs"), "0").expect("root may move processes");
}

/// Seconds that work inside a container may take: it waits for peers, and a test that fails must not hang.
const WORK_SECONDS_MAX: u32 = 120;

fn enter(cgroup: &Cgroup, netns: Option<&Path>) {
    // SAFETY: a plain call; the signal ends this process.
    unsafe { libc::alarm(WORK_SECONDS_MAX) };
    join(cgroup.path());
    if let Some(netns) = netns {
        let file = fs::File::open(netns).expect("the namespace exists while its owner does");
        // SAFETY: a plain call on an open file.
        let entered =
            unsafe { libc::setns(std::os::fd::AsRawFd::as_raw_fd(&file), libc::CLONE_NEWNET) };
        assert_eq!(entered, 0, "root may enter namespaces");
    }
}
