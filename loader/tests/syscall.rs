//! System calls: what the kernel counts is what was called, no more and no less, whoever made the task and when.

mod support;

use std::{sync::mpsc, thread, time::Duration};

use bulkhead_abi::{
    slot::{FLAG_OBSERVED, Slot},
    syscall::{bucket, shift},
};
use bulkhead_loader::observe::{Config, Event, Observer, memory::bytes_max, syscall::CallEvent};
use bulkhead_tests::requirement::{Need, met};

use support::{
    actor::{Actor, act},
    container::Cgroup,
};

/// Calls of one act.
const CALLS: u64 = 50_000;
/// Threads of the actors that have several.
const THREADS: u64 = 4;
/// A call that neither the test harness nor the allocator makes.
const GETPPID: u32 = libc::SYS_getppid as u32;
/// Another.
const GETPGRP: u32 = libc::SYS_getpgrp as u32;
/// `getpid` of the 32-bit ABI; the native call of this number is `writev`.
const GETPID_32: u32 = 20;

struct Observed {
    root: Cgroup,
    observer: Observer,
    slots: u32,
}

impl Observed {
    fn open(group: &str) -> Option<Self> {
        if !met(group, &[Need::Root, Need::Bpf, Need::Cgroup2]) {
            return None;
        }
        let root = Cgroup::root("call");
        let observer = observe(&root);
        Some(Self { root, observer, slots: 0 })
    }

    fn container(&mut self, name: &str) -> (Cgroup, u32) {
        let cgroup = self.root.child(name);
        let slot = self.claim(&cgroup);
        (cgroup, slot)
    }

    fn claim(&mut self, cgroup: &Cgroup) -> u32 {
        self.slots += 1;
        let slot = Slot { index: self.slots, flags: FLAG_OBSERVED, ..Slot::default() };
        self.observer.claim_slot(cgroup.id(), slot).expect("the map has room");
        self.slots
    }

    fn native(&self, slot: u32, call: u32) -> u64 {
        let counts = self.observer.syscalls.counts(slot).expect("the slot has counters");
        counts.native.get(&call).copied().unwrap_or(0)
    }

    fn foreign(&self, slot: u32, call: u32) -> u64 {
        let counts = self.observer.syscalls.counts(slot).expect("the slot has counters");
        counts.foreign.get(&call).copied().unwrap_or(0)
    }

    fn pairs(&self, slot: u32, first: u32, second: u32) -> u64 {
        let counts = self.observer.syscalls.counts(slot).expect("the slot has counters");
        counts.bigrams.get(&(first as u16, second as u16)).copied().map_or(0, u64::from)
    }

    /// The buckets that were marked since the last time this was asked.
    fn ngrams(&mut self, slot: u32) -> Vec<u16> {
        self.observer.switch_ngrams().expect("the map can be written");
        thread::sleep(Duration::from_millis(20));
        let half = self.observer.filled_half().expect("the map can be read");
        self.observer.syscalls.take_ngrams(slot, half).expect("the map can be read")
    }

    fn acts(&mut self, slot: u32) -> Vec<CallEvent> {
        let mut acts = Vec::new();
        while let Some(event) = self.observer.next() {
            if let Event::Call(call) = event
                && call.slot == slot
            {
                acts.push(call);
            }
        }
        acts
    }
}

fn observe(root: &Cgroup) -> Observer {
    let config = Config { cgroup_root: root.path().into(), pin_dir: None, slots_max: 8 };
    Observer::load(&config).expect("this machine loads programs")
}

#[test]
fn actor() {
    act(|what| match what {
        "calls" => call(GETPPID, CALLS),
        "pairs" => {
            for _ in 0..CALLS {
                call(GETPPID, 1);
                call(GETPGRP, 1);
            }
        }
        "foreign" => foreign_calls(),
        "threads" => threads(),
        "unshare" => {
            // SAFETY: the process gets a name space of its own for its host name, and ends soon.
            unsafe { libc::unshare(libc::CLONE_NEWUTS) };
        }
        "clone3" => {
            clone3(0);
            clone3(libc::CLONE_NEWUTS);
        }
        "flood" => (0..20_000).for_each(connect_unix),
        "connects" => (0..10).for_each(connect_unix),
        other => panic!("no such act: {other}"),
    });
}

fn call(number: u32, times: u64) {
    for _ in 0..times {
        // SAFETY: calls without arguments or effects.
        unsafe { libc::syscall(libc::c_long::from(number)) };
    }
}

#[cfg(target_arch = "x86_64")]
fn foreign_calls() {
    for _ in 0..CALLS {
        // SAFETY: `getpid` of the 32-bit ABI has no arguments and changes only the result register, and r8 to r11.
        unsafe {
            std::arch::asm!(
                "int 0x80", inout("eax") GETPID_32 => _,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn foreign_calls() {}

/// The same threads act each time: they were there before whatever happened in between.
fn threads() {
    use std::sync::{Mutex, OnceLock};
    type Workers = Vec<(mpsc::Sender<()>, mpsc::Receiver<()>)>;
    static WORKERS: OnceLock<Mutex<Workers>> = OnceLock::new();
    let mut fresh = false;
    let workers = WORKERS.get_or_init(|| {
        fresh = true;
        let workers = (0..THREADS).map(|_| {
            let (tell, told) = mpsc::channel();
            let (say, hear) = mpsc::channel();
            thread::spawn(move || {
                while told.recv().is_ok() {
                    call(GETPPID, CALLS);
                    if say.send(()).is_err() {
                        break;
                    }
                }
            });
            (tell, hear)
        });
        Mutex::new(workers.collect())
    });
    if fresh {
        // The first time only makes them.
        return;
    }
    let workers = workers.lock().expect("nobody panicked");
    workers.iter().for_each(|(tell, _)| tell.send(()).expect("it listens"));
    workers.iter().for_each(|(_, hear)| hear.recv().expect("it answers"));
}

/// Makes a process that ends at once.
fn clone3(flags: libc::c_int) {
    // `struct clone_args` of `linux/sched.h`, in eleven numbers.
    let mut arguments = [0u64; 11];
    arguments[0] = flags as u64;
    arguments[4] = libc::SIGCHLD as u64;
    // SAFETY: as `fork`: the child does nothing but end.
    unsafe {
        let child = libc::syscall(libc::SYS_clone3, arguments.as_mut_ptr(), 88);
        if child == 0 {
            libc::_exit(0);
        }
        assert!(child > 0, "{}", std::io::Error::last_os_error());
        let child = libc::pid_t::try_from(child).expect("a process id");
        assert_eq!(libc::waitpid(child, std::ptr::null_mut(), 0), child);
    }
}

/// Connects to a Unix socket that is not there.
fn connect_unix(number: u32) {
    let _ = std::os::unix::net::UnixStream::connect(format!("/nowhere/{number}.sock"));
}

#[test]
fn every_call_is_counted_once() {
    let Some(mut observed) = Observed::open("syscall") else { return };
    let (cgroup, slot) = observed.container("one");
    let (other, other_slot) = observed.container("other");
    let mut actor = Actor::start(&cgroup, "calls");
    let bystander = Actor::start(&other, "calls");
    actor.act();
    assert_eq!(observed.native(slot, GETPPID), CALLS);
    actor.act();
    assert_eq!(observed.native(slot, GETPPID), 2 * CALLS, "counters only grow");
    assert_eq!(observed.native(other_slot, GETPPID), 0, "another container made no such call");
    actor.end();
    bystander.end();
}

#[test]
fn calls_of_the_32_bit_interface_are_never_taken_for_native_ones() {
    let Some(mut observed) = Observed::open("syscall") else { return };
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let (cgroup, slot) = observed.container("one");
    let mut actor = Actor::start(&cgroup, "foreign");
    let before = observed.native(slot, GETPID_32);
    actor.act();
    assert_eq!(observed.foreign(slot, GETPID_32), CALLS);
    assert_eq!(observed.native(slot, GETPID_32), before);
    assert!(observed.acts(slot).iter().any(|act| act.foreign && act.call == GETPID_32));
    actor.end();
}

#[test]
fn pairs_of_calls_are_counted_in_their_order() {
    let Some(mut observed) = Observed::open("syscall") else { return };
    let (cgroup, slot) = observed.container("one");
    let mut actor = Actor::start(&cgroup, "pairs");
    actor.act();
    assert_eq!(observed.pairs(slot, GETPPID, GETPGRP), CALLS);
    assert_eq!(observed.pairs(slot, GETPGRP, GETPPID), CALLS - 1);
    actor.end();
}

#[test]
fn six_calls_in_a_row_mark_their_bucket_once_a_window() {
    let Some(mut observed) = Observed::open("syscall") else { return };
    let (cgroup, slot) = observed.container("one");
    let mut actor = Actor::start(&cgroup, "calls");
    actor.act();
    let marked = bucket((0..6).fold(0, |register, _| shift(register, GETPPID))) as u16;
    let first = observed.ngrams(slot);
    assert!(first.contains(&marked), "{marked} is not among {first:?}");
    assert!(first.is_sorted());
    assert!(!observed.ngrams(slot).contains(&marked), "it was not called since");
    actor.act();
    assert!(observed.ngrams(slot).contains(&marked), "the next window has it again");
    actor.end();
}

#[test]
fn a_run_is_what_one_task_called_in_its_order() {
    let Some(mut observed) = Observed::open("syscall") else { return };
    let (cgroup, slot) = observed.container("one");
    let mut actor = Actor::start(&cgroup, "pairs");
    observed.observer.syscalls.take_run(slot).expect("the map can be read");
    actor.act();
    let run = observed.observer.syscalls.take_run(slot).expect("the map can be read");
    assert_eq!(run.len(), 256, "a busy container fills a run");
    let own: Vec<_> =
        run.iter().filter(|call| [GETPPID, GETPGRP].contains(&u32::from(**call))).collect();
    assert!(own.len() > 200, "{run:?}");
    assert!(own.windows(2).all(|pair| pair[0] != pair[1]), "they alternate: {run:?}");
    actor.end();
}

#[test]
fn threads_that_are_older_than_the_observer_are_counted() {
    if !met("syscall", &[Need::Root, Need::Bpf, Need::Cgroup2]) {
        return;
    }
    let root = Cgroup::root("call");
    let cgroup = root.child("old");
    let mut actor = Actor::start(&cgroup, "threads");
    actor.act();
    for _ in 0..2 {
        // As the agent does when it starts again under a running container.
        let mut observed =
            Observed { root: Cgroup::root("call"), observer: observe(&root), slots: 0 };
        let slot = observed.claim(&cgroup);
        actor.act();
        assert_eq!(observed.native(slot, GETPPID), THREADS * CALLS);
    }
    actor.end();
}

#[test]
fn a_million_calls_of_several_threads_are_counted_exactly_while_a_reader_reads() {
    let Some(mut observed) = Observed::open("syscall") else { return };
    let (cgroup, slot) = observed.container("busy");
    let mut actor = Actor::start(&cgroup, "threads");
    actor.act();
    let rounds = 1_000_000 / (THREADS * CALLS);
    thread::scope(|scope| {
        let acting = scope.spawn(|| (0..rounds).for_each(|_| actor.act()));
        let mut last = 0;
        while !acting.is_finished() {
            let now = observed.native(slot, GETPPID);
            assert!(now >= last, "counters only grow: {last}, then {now}");
            last = now;
            observed.ngrams(slot);
            observed.observer.syscalls.take_run(slot).expect("the map can be read");
        }
    });
    assert_eq!(observed.native(slot, GETPPID), 1_000_000);
    actor.end();
}

#[test]
fn a_container_is_counted_from_its_claim_to_its_release() {
    let Some(mut observed) = Observed::open("syscall") else { return };
    let cgroup = observed.root.child("late");
    let mut actor = Actor::start(&cgroup, "threads");
    actor.act();
    actor.act();
    let slot = observed.claim(&cgroup);
    assert_eq!(observed.native(slot, GETPPID), 0, "nothing was counted before");
    actor.act();
    assert_eq!(observed.native(slot, GETPPID), THREADS * CALLS);
    observed.observer.release_slot(cgroup.id()).expect("it was claimed");
    actor.act();
    assert_eq!(observed.native(slot, GETPPID), THREADS * CALLS, "nothing is counted after");
    actor.end();
}

#[test]
fn the_maps_take_what_the_formula_says() {
    let Some(observed) = Observed::open("syscall") else { return };
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").expect("it exists");
    let last = possible.trim().rsplit(['-', ',']).next().expect("there is a CPU");
    let cpus = last.parse::<u32>().expect("a number") + 1;
    let (bytes, most) = (observed.observer.memory().expect("it is told"), bytes_max(8, cpus));
    assert!(bytes <= most, "{bytes} bytes, and the formula says {most}");
    assert!(
        bytes >= most * 8 / 10,
        "{bytes} bytes, and the formula says {most}: it promises nothing"
    );
}

#[test]
fn a_nested_cgroup_belongs_to_the_container_around_it() {
    let Some(mut observed) = Observed::open("syscall") else { return };
    let (cgroup, slot) = observed.container("one");
    let nested = cgroup.child("nested");
    let deep = nested.child("deep");
    let mut actor = Actor::start(&deep, "calls");
    actor.act();
    assert_eq!(observed.native(slot, GETPPID), CALLS);
    actor.end();
    drop((deep, nested));
}

#[test]
fn a_privileged_call_is_an_act_that_names_its_process() {
    let Some(mut observed) = Observed::open("syscall") else { return };
    let (cgroup, slot) = observed.container("one");
    let mut actor = Actor::start(&cgroup, "unshare");
    observed.acts(slot);
    actor.act();
    let acts = observed.acts(slot);
    let unshare: Vec<_> = acts.iter().filter(|act| act.call == libc::SYS_unshare as u32).collect();
    let [unshare] = unshare.as_slice() else { panic!("not one act: {acts:?}") };
    assert_eq!(unshare.pid, actor.pid());
    assert_eq!(unshare.cgroup, cgroup.id());
    assert_eq!(unshare.uid, 0);
    assert_eq!(unshare.arguments[0], libc::CLONE_NEWUTS as u64);
    actor.act();
    let again = observed.acts(slot);
    let counters = observed.observer.processes.counters(slot).expect("the slot has counters");
    assert!(
        again.is_empty() && counters.repeated > 0 || again.len() == 1,
        "once an epoch, and counted the rest of the time: {again:?}, {counters:?}"
    );
    actor.end();
}

#[test]
fn a_process_in_new_name_spaces_is_an_act_and_a_plain_one_is_none() {
    let Some(mut observed) = Observed::open("syscall") else { return };
    let (cgroup, slot) = observed.container("one");
    let mut actor = Actor::start(&cgroup, "clone3");
    observed.acts(slot);
    actor.act();
    let mut acts = observed.acts(slot);
    acts.retain(|act| act.call == libc::SYS_clone3 as u32);
    let [act] = acts.as_slice() else { panic!("not one act: {acts:?}") };
    assert_eq!(act.arguments, [libc::CLONE_NEWUTS as u64, 0]);
    actor.end();
}

#[test]
fn a_flood_of_acts_costs_another_container_none_of_its_own() {
    let Some(mut observed) = Observed::open("syscall") else { return };
    let (loud, loud_slot) = observed.container("loud");
    let (quiet, quiet_slot) = observed.container("quiet");
    let mut flooder = Actor::start(&loud, "flood");
    let mut other = Actor::start(&quiet, "connects");
    observed.acts(loud_slot);
    let before = observed.observer.processes.counters(loud_slot).expect("the slot has counters");
    flooder.act();
    other.act();
    let after = observed.observer.processes.counters(loud_slot).expect("the slot has counters");
    assert_eq!(after.acts - before.acts, 20_000, "every connect was seen");
    assert_eq!(
        after.acts,
        after.emitted + after.repeated + after.lost_quota + after.lost_ring,
        "each was emitted or counted by what became of it: {after:?}"
    );
    assert!(after.lost_quota > 0, "the flood is larger than the quota: {after:?}");
    let counters = observed.observer.processes.counters(quiet_slot).expect("it has counters");
    assert_eq!(counters.lost_quota + counters.lost_ring, 0, "{counters:?}");
    let seen: Vec<_> = observed.acts(quiet_slot).into_iter().map(|act| act.text).collect();
    let expected: Vec<_> =
        (0..10).map(|number| format!("/nowhere/{number}.sock").into_bytes()).collect();
    assert_eq!(seen, expected);
    flooder.end();
    other.end();
}
