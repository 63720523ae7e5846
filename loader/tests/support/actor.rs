//! Programs that run in a container: this test binary, executed again to do one thing that a test names.
//!
//! A process that was only forked counts as set up by its runtime; what a container does begins with an exec. So a test
//! starts `Actor`s, and each test binary has one test `actor` that calls [`act`], which does nothing unless asked.

use std::{
    ffi::CString,
    io::{BufRead as _, BufReader, Write as _},
    os::{fd::AsRawFd as _, unix::ffi::OsStrExt as _, unix::process::CommandExt as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::container::Cgroup;

/// Names the act in the environment of an actor.
const ACT: &str = "BULKHEAD_TEST_ACT";

/// A process inside a container that waits to be told to act.
#[derive(Debug)]
pub struct Actor {
    child: Child,
    tell: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts one inside a cgroup; returns once it has been executed there and waits.
    pub fn start(cgroup: &Cgroup, act: &str) -> Self {
        let mut command = command(act);
        enter_before_exec(&mut command, cgroup);
        Self::spawn(command)
    }

    /// Starts one outside of any container.
    pub fn start_outside(act: &str) -> Self {
        Self::spawn(command(act))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be executed again");
        let tell = child.stdin.take();
        let hear = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut actor = Self { child, tell, hear };
        actor.hear("ready");
        actor
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it act, and waits until it has.
    pub fn act(&mut self) {
        self.tell.as_mut().expect("it still listens").write_all(b"go\n").expect("it listens");
        self.hear("done");
    }

    /// Lets it end, and waits for that.
    pub fn end(mut self) {
        drop(self.tell.take());
        assert!(self.child.wait().expect("it is a child").success());
    }

    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        while line.trim() != word {
            line.clear();
            let read = self.hear.read_line(&mut line).expect("its words are text");
            assert!(read > 0, "the actor ended before it said {word:?}");
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program, made to do that.
pub fn command(act: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", "actor", "--nocapture", "--test-threads=1"]).env(ACT, act);
    command
}

/// Makes a command's process enter the cgroup between its fork and its exec.
pub fn enter_before_exec(command: &mut Command, cgroup: &Cgroup) {
    let procs = CString::new(cgroup.path().join("cgroup.procs").as_os_str().as_bytes())
        .expect("a path has no zero byte");
    // SAFETY: between fork and exec only system calls are made, on a path that was allocated before.
    unsafe {
        command.pre_exec(move || {
            let file = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if file < 0 || libc::write(file, c"0".as_ptr().cast(), 1) != 1 {
                return Err(std::io::Error::last_os_error());
            }
            libc::close(file);
            Ok(())
        });
    }
}

/// In the test `actor`: does what this process was executed for, each time it is told to; returns at once in a test run.
pub fn act(mut act: impl FnMut(&str)) {
    let Ok(name) = std::env::var(ACT) else { return };
    println!("\nready");
    let stdin = std::io::stdin();
    // One read per line: a buffered reader would read ahead.
    let mut byte = [0u8];
    loop {
        // SAFETY: reads one byte into a buffer of one.
        let read = unsafe { libc::read(stdin.as_raw_fd(), byte.as_mut_ptr().cast(), 1) };
        if read != 1 {
            break;
        }
        if byte[0] == b'\n' {
            act(&name);
            println!("\ndone");
        }
    }
    // Past the test harness, whose own calls belong to no test.
    std::process::exit(0);
}
