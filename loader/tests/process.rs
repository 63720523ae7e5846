//! Processes: what the kernel reports of them is what `/proc` says, and where they came from is never guessed.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bulkhead_abi::slot::{FLAG_OBSERVED, Slot};
use bulkhead_loader::observe::{
    Config, Event, Observer,
    process::{ExecEvent, Origin, ProcessCounters},
};
use bulkhead_tests::requirement::{Need, met};

use support::{
    actor::{Actor, act, command, enter_before_exec},
    container::Cgroup,
};

/// How long to wait for what must come; nothing waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Observed {
    root: Cgroup,
    observer: Observer,
    slots: u32,
    events: Vec<Event>,
}

impl Observed {
    fn open(group: &str) -> Option<Self> {
        if !met(group, &[Need::Root, Need::Bpf, Need::Cgroup2]) {
            return None;
        }
        let root = Cgroup::root("proc");
        let config = Config { cgroup_root: root.path().into(), pin_dir: None, slots_max: 8 };
        let observer = Observer::load(&config).expect("this machine loads programs");
        Some(Self { root, observer, slots: 0, events: Vec::new() })
    }

    fn container(&mut self, name: &str) -> (Cgroup, u32) {
        let cgroup = self.root.child(name);
        self.slots += 1;
        let slot = Slot { index: self.slots, flags: FLAG_OBSERVED, ..Slot::default() };
        self.observer.claim_slot(cgroup.id(), slot).expect("the map has room");
        (cgroup, self.slots)
    }

    fn drain(&mut self) {
        while let Some(event) = self.observer.next() {
            self.events.push(event);
        }
    }

    fn execs(&mut self, slot: u32) -> Vec<ExecEvent> {
        self.drain();
        let execs = self.events.iter().filter_map(|event| match event {
            Event::Exec(exec) if exec.slot == slot => Some(exec.clone()),
            _ => None,
        });
        execs.collect()
    }

    /// The one exec of that process; waits for it.
    fn exec(&mut self, slot: u32, pid: u32) -> ExecEvent {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut execs = self.execs(slot);
            execs.retain(|exec| exec.pid == pid);
            if !execs.is_empty() {
                assert_eq!(execs.len(), 1, "{execs:#?}");
                return execs.remove(0);
            }
            assert!(Instant::now() < until, "{pid} was not reported: {:#?}", self.execs(slot));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn counters(&self, slot: u32) -> ProcessCounters {
        self.observer.processes.counters(slot).expect("the slot has counters")
    }
}

/// A field of `/proc/PID/status`, up to its first blank.
fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()).expect("there is such a field").to_owned()
}

/// `sleep`, in the container, with these standard streams.
fn sleeper(cgroup: &Cgroup) -> Command {
    let mut command = Command::new("/bin/sleep");
    command.arg("60").stdin(Stdio::null()).stdout(Stdio::null());
    enter_before_exec(&mut command, cgroup);
    command
}

fn end(mut child: Child) {
    child.kill().expect("it is a child");
    child.wait().expect("it is a child");
}

#[test]
fn actor() {
    act(|what| match what {
        // Bounded by the number of its rounds.
        "forks" => (0..200).for_each(|_| {
            // SAFETY: the child does nothing but end.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::_exit(0);
                }
                assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
            }
        }),
        "threads" => (0..50).for_each(|_| {
            std::thread::spawn(|| ()).join().expect("it does nothing");
        }),
        "spawn" => {
            assert!(Command::new("/bin/true").status().expect("every machine has it").success());
        }
        "execs" => (0..6000).for_each(|_| {
            assert!(Command::new("/bin/true").status().expect("every machine has it").success());
        }),
        "memfd" => memfd(),
        other => panic!("no such act: {other}"),
    });
}

/// Executes a copy of `true` from an anonymous memory file.
fn memfd() {
    let program = fs::read("/bin/true").expect("every machine has it");
    // SAFETY: a name that ends in zero; the call answers a descriptor or an error.
    let raw = unsafe { libc::memfd_create(c"hidden".as_ptr(), 0) };
    assert!(raw >= 0, "memory files can be made");
    let path = format!("/proc/self/fd/{raw}");
    fs::write(&path, program).expect("it is writable");
    assert!(Command::new(path).status().expect("it is a program").success());
}

#[test]
fn an_exec_is_what_proc_says_of_the_process() {
    let Some(mut observed) = Observed::open("process") else { return };
    let (cgroup, slot) = observed.container("one");
    let mut command = sleeper(&cgroup);
    // SAFETY: one system call, in the child, once it is in the cgroup.
    unsafe {
        command.pre_exec(|| match libc::setuid(65_534) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let child = command.spawn().expect("root may become nobody");
    let exec = observed.exec(slot, child.id());
    let exe = fs::read_link(format!("/proc/{}/exe", child.id())).expect("the process lives");
    let told = String::from_utf8(exec.path.clone()).expect("it was asked for as text");
    assert_eq!(fs::canonicalize(Path::new(&told)).expect("it exists"), exe);
    assert_eq!(exec.parent.to_string(), status(child.id(), "PPid"));
    assert_eq!(exec.parent, std::process::id());
    assert_eq!(exec.uid.to_string(), status(child.id(), "Uid"));
    assert_eq!(exec.cgroup, cgroup.id());
    assert!(!exec.socket_stdio && !exec.memfd && !exec.cut, "{exec:?}");
    end(child);
}

#[test]
fn the_first_process_started_and_the_next_from_outside_entered() {
    let Some(mut observed) = Observed::open("process") else { return };
    let (cgroup, slot) = observed.container("one");
    let mut first = Actor::start(&cgroup, "spawn");
    assert_eq!(observed.exec(slot, first.pid()).origin, Origin::Started);
    first.act();
    let second = Actor::start(&cgroup, "spawn");
    assert_eq!(observed.exec(slot, second.pid()).origin, Origin::Entered);
    let mut spawned = observed.execs(slot);
    spawned.retain(|exec| exec.parent == first.pid());
    let [spawned] = spawned.as_slice() else { panic!("not one child: {spawned:#?}") };
    assert_eq!(spawned.origin, Origin::Spawned);
    assert_eq!(spawned.path, b"/bin/true");
    second.end();
    first.end();
}

#[test]
fn a_container_that_runs_already_is_entered_by_whoever_comes() {
    let Some(mut observed) = Observed::open("process") else { return };
    let (cgroup, slot) = observed.container("old");
    observed.observer.mark_started(cgroup.id()).expect("the map has room");
    let child = sleeper(&cgroup).spawn().expect("every machine has it");
    assert_eq!(observed.exec(slot, child.id()).origin, Origin::Entered);
    end(child);
}

#[test]
fn a_process_made_inside_a_cgroup_raises_no_attach_and_is_told_all_the_same() {
    let Some(mut observed) = Observed::open("process") else { return };
    let (cgroup, slot) = observed.container("one");
    let directory = fs::File::open(cgroup.path()).expect("it is ours");
    let pid = clone_into(&directory);
    let exec = observed.exec(slot, pid);
    assert_eq!(exec.origin, Origin::Started);
    assert_eq!(exec.path, b"/bin/true");
    assert!(
        !observed.events.iter().any(|event| matches!(event, Event::Attach(_))),
        "nothing was attached: {:#?}",
        observed.events
    );
}

/// Makes a process that is born in a cgroup (`CLONE_INTO_CGROUP`), executes `true`, and has ended; answers its id.
fn clone_into(directory: &fs::File) -> u32 {
    // `struct clone_args` of `linux/sched.h`, in eleven numbers.
    let mut arguments = [0u64; 11];
    arguments[0] = 0x2_0000_0000;
    arguments[4] = libc::SIGCHLD as u64;
    arguments[10] = u64::try_from(directory.as_raw_fd()).expect("it is open");
    let path = c"/bin/true";
    let words = [path.as_ptr(), std::ptr::null()];
    // SAFETY: as `fork`: the child only executes another program, from memory that was there before.
    unsafe {
        let pid = libc::syscall(libc::SYS_clone3, arguments.as_mut_ptr(), 88);
        if pid == 0 {
            libc::execv(path.as_ptr(), words.as_ptr());
            libc::_exit(1);
        }
        assert!(pid > 0, "{}", std::io::Error::last_os_error());
        let pid = libc::pid_t::try_from(pid).expect("a process id");
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        assert_eq!(status, 0);
        pid.unsigned_abs()
    }
}

#[test]
fn forks_and_ends_are_counted_once_each_and_threads_are_no_processes() {
    let Some(mut observed) = Observed::open("process") else { return };
    let (cgroup, slot) = observed.container("one");
    let mut forks = Actor::start(&cgroup, "forks");
    let before = observed.counters(slot);
    forks.act();
    let after = observed.counters(slot);
    assert_eq!((after.forks - before.forks, after.exits - before.exits), (200, 200));
    let mut threads = Actor::start(&cgroup, "threads");
    let before = observed.counters(slot);
    threads.act();
    let after = observed.counters(slot);
    assert_eq!((after.forks - before.forks, after.exits - before.exits), (0, 0));
    threads.end();
    forks.end();
}

#[test]
fn a_network_socket_as_standard_input_is_told_and_a_unix_pair_is_a_pipe() {
    let Some(mut observed) = Observed::open("process") else { return };
    let (cgroup, slot) = observed.container("one");
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    let network = TcpStream::connect(address).expect("it listens");
    let child = sleeper(&cgroup).stdin(OwnedFd::from(network)).spawn().expect("it runs");
    assert!(observed.exec(slot, child.id()).socket_stdio);
    let (inside, _outside) = UnixStream::pair().expect("sockets can be made");
    let paired = sleeper(&cgroup).stdin(OwnedFd::from(inside)).spawn().expect("it runs");
    assert!(!observed.exec(slot, paired.id()).socket_stdio);
    let plain = sleeper(&cgroup).spawn().expect("it runs");
    assert!(!observed.exec(slot, plain.id()).socket_stdio);
    end(child);
    end(paired);
    end(plain);
}

#[test]
fn a_program_from_memory_is_told_whatever_its_path_says() {
    let Some(mut observed) = Observed::open("process") else { return };
    let (cgroup, slot) = observed.container("one");
    let mut actor = Actor::start(&cgroup, "memfd");
    actor.act();
    let mut execs = observed.execs(slot);
    execs.retain(|exec| exec.parent == actor.pid());
    let [exec] = execs.as_slice() else { panic!("not one child: {execs:#?}") };
    assert!(exec.memfd, "{exec:?}");
    actor.end();
}

#[test]
fn until_it_executes_something_an_entered_process_feeds_nothing() {
    let Some(mut observed) = Observed::open("process") else { return };
    let (cgroup, slot) = observed.container("one");
    let mut actor = Actor::start_outside("forks");
    fs::write(cgroup.path().join("cgroup.procs"), actor.pid().to_string()).expect("root may");
    actor.act();
    assert_eq!(observed.counters(slot).forks, 0);
    let counts = observed.observer.syscalls.counts(slot).expect("the slot has counters");
    assert_eq!(counts.native, BTreeMap::new());
    observed.drain();
    let attached = observed.events.iter().any(
        |event| matches!(event, Event::Attach(entered) if entered.pid == actor.pid() && entered.slot == slot),
    );
    assert!(attached, "{:#?}", observed.events);
    actor.end();
}

#[test]
fn a_flood_of_execs_is_emitted_or_counted_as_missed_exactly() {
    let Some(mut observed) = Observed::open("process") else { return };
    let (cgroup, slot) = observed.container("one");
    let mut child = {
        let mut command = command("execs");
        enter_before_exec(&mut command, &cgroup);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs")
    };
    let mut hear = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
    let mut wait_for = |word: &str| {
        while hear.next().expect("it goes on").expect("its words are text").trim() != word {}
    };
    wait_for("ready");
    observed.drain();
    let (before, told) = (observed.counters(slot), observed.execs(slot).len() as u64);
    // Nobody reads the ring meanwhile: what does not fit is lost, and must be counted.
    std::io::Write::write_all(child.stdin.as_mut().expect("it was asked for"), b"go\n")
        .expect("it listens");
    wait_for("done");
    let after = observed.counters(slot);
    assert_eq!(after.execs - before.execs, 6000);
    let emitted = after.emitted - before.emitted;
    let missed = after.lost_quota + after.lost_ring - before.lost_quota - before.lost_ring;
    let acts = after.acts - before.acts - (after.repeated - before.repeated);
    assert_eq!(emitted + missed, acts, "{after:?}");
    let execs = observed.execs(slot).len() as u64 - told;
    assert!(execs + missed >= 6000 && execs <= 6000, "{execs} arrived, {missed} were missed");
    end(child);
}

#[test]
fn cgroup_directories_are_told_as_they_come_and_go() {
    let Some(mut observed) = Observed::open("process") else { return };
    let made = observed.root.child("short-lived");
    let (id, path) = (made.id(), made.path().to_owned());
    drop(made);
    observed.drain();
    let is_ours = |event: &bulkhead_loader::observe::process::CgroupEvent| {
        event.cgroup == id && path.ends_with(event.path.trim_start_matches('/'))
    };
    let came =
        observed.events.iter().any(|event| matches!(event, Event::CgroupMade(e) if is_ours(e)));
    let went =
        observed.events.iter().any(|event| matches!(event, Event::CgroupGone(e) if is_ours(e)));
    assert!(came && went, "{:#?}", observed.events);
}
