//! What observing costs a system call, told as a multiple of what programs cost that do nothing.
//!
//! One interleaved run: in each round every variant is attached in turn and measured twice, with one process that calls
//! `getppid` and with two that pass a byte through pipes on one CPU, so that every call switches tasks. The time is that of
//! the processes' own CPU, so another load on the machine disturbs less. Medians over the rounds. Driven by
//! `cargo xtask bench`, which also sets the bounds.
//!
//! Arguments: `ROUNDS EMPTY_OBJECT`, and it prints one JSON object; or `hold CGROUP`, and it observes that cgroup as a
//! container until its standard input ends. Needs root.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aya::{
    Btf, Ebpf,
    programs::{Program, loaded_programs},
};
use bulkhead_abi::slot::{FLAG_OBSERVED, Slot};
use bulkhead_loader::{
    cgroup,
    error::ObserveError,
    observe::{Config, Observer},
};

/// Calls of one measurement without switches: some hundred milliseconds.
const CALLS: u64 = 2_000_000;
/// Bytes passed to and fro in one measurement: four calls and two switches each.
const ROUND_TRIPS: u64 = 60_000;
/// The CPU that measured processes run on.
const CPU: usize = 1;
/// The slot of the benchmark's container.
const SLOT: u32 = 1;

type Failure = Box<dyn std::error::Error>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    /// Nothing attached: the floor.
    None,
    /// Programs that do nothing.
    Empty,
    /// Ours, with the reader on.
    Observe,
    /// `bpftrace` counting per cgroup and id.
    Bpftrace,
}

const VARIANTS: [(Variant, &str); 4] = [
    (Variant::None, "none"),
    (Variant::Empty, "empty"),
    (Variant::Observe, "observe"),
    (Variant::Bpftrace, "bpftrace"),
];

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        // A measured process enters the container first and is then executed in it, as a runtime does.
        ["enter", cgroup, mode] => Err(enter(Path::new(cgroup), mode)),
        ["measure", mode] => measure(mode),
        ["hold", cgroup] => hold(Path::new(cgroup)),
        [rounds, empty] => bench(rounds.parse()?, Path::new(empty)),
        _ => Err("usage: syscall_cost ROUNDS EMPTY_OBJECT".into()),
    }
}

fn bench(rounds: usize, empty: &Path) -> Result<(), Failure> {
    let cgroup = Cgroup::make()?;
    let has_bpftrace = Command::new("bpftrace").arg("--version").output().is_ok();
    let mut calls = [const { Vec::new() }; VARIANTS.len()];
    let mut switches = calls.clone();
    let mut disturbed = 0;
    while calls[0].len() < rounds {
        let round = round(empty, &cgroup, has_bpftrace)?;
        if let Err(others) = alone() {
            // Their programs would be measured as the floor.
            disturbed += 1;
            if disturbed > 3 * rounds {
                return Err(others);
            }
            eprintln!("a round is not counted: {others}");
            thread::sleep(Duration::from_secs(5));
            continue;
        }
        for (at, samples) in round.into_iter().enumerate() {
            let Some([call, switch]) = samples else { continue };
            calls[at].push(call);
            switches[at].push(switch);
            let (name, at) = (VARIANTS[at].1, calls[0].len());
            eprintln!(
                "round {at} of {rounds}: {name} {call:.1} ns a call, {switch:.1} with switches"
            );
        }
    }
    let median = |samples: &[f64]| {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    };
    let json = |samples: &[Vec<f64>]| {
        let fields: Vec<_> = VARIANTS
            .iter()
            .zip(samples)
            .filter_map(|((_, name), samples)| Some(format!("\"{name}\":{:.2}", median(samples)?)))
            .collect();
        format!("{{{}}}", fields.join(","))
    };
    println!(
        "{{\"rounds\":{rounds},\"ns_per_call\":{},\"ns_per_call_switching\":{}}}",
        json(&calls),
        json(&switches)
    );
    Ok(())
}

/// Attaches every variant in turn, and measures a call without and with switches.
fn round(
    empty: &Path,
    cgroup: &Cgroup,
    has_bpftrace: bool,
) -> Result<[Option<[f64; 2]>; VARIANTS.len()], Failure> {
    let mut samples = [None; VARIANTS.len()];
    if alone().is_err() {
        return Ok(samples);
    }
    for (at, (variant, _)) in VARIANTS.into_iter().enumerate() {
        if variant == Variant::Bpftrace && !has_bpftrace {
            continue;
        }
        let attached = attach(variant, empty, cgroup)?;
        samples[at] = Some([run(cgroup, "calls")?, run(cgroup, "switches")?]);
        drop(attached);
    }
    Ok(samples)
}

/// Fails when observers of another process sit on the hook: what they cost would be measured as the floor.
fn alone() -> Result<(), Failure> {
    let others = loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| matches!(program.name_as_str(), Some("sys_enter" | "empty_call")))
        .count();
    if others == 0 {
        return Ok(());
    }
    Err(format!("{others} other programs count system calls: stop the agents that run here").into())
}

/// What is attached while a variant is measured; detached when dropped.
enum Attached {
    Nothing,
    Empty(#[expect(dead_code, reason = "its links live as long as it")] Ebpf),
    Observe(Reader),
    Bpftrace(Child),
}

impl Drop for Attached {
    fn drop(&mut self) {
        match self {
            Self::Nothing | Self::Empty(_) => {}
            Self::Observe(reader) => reader.stop(),
            Self::Bpftrace(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

fn attach(variant: Variant, empty: &Path, cgroup: &Cgroup) -> Result<Attached, Failure> {
    Ok(match variant {
        Variant::None => Attached::Nothing,
        Variant::Empty => Attached::Empty(attach_empty(empty)?),
        Variant::Observe => Attached::Observe(Reader::start(&cgroup.0)?),
        Variant::Bpftrace => Attached::Bpftrace(start_bpftrace()?),
    })
}

/// Observes a cgroup as a container, with the reader on, until standard input ends.
fn hold(cgroup: &Path) -> Result<(), Failure> {
    let mut reader = Reader::start(cgroup)?;
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    reader.stop();
    Ok(())
}

fn attach_empty(object: &Path) -> Result<Ebpf, Failure> {
    let types = Btf::from_sys_fs()?;
    let mut ebpf = Ebpf::load_file(object)?;
    let hooks = [
        ("empty_call", "sys_enter"),
        ("empty_exec", "sched_process_exec"),
        ("empty_fork", "sched_process_fork"),
        ("empty_exit", "sched_process_exit"),
        ("empty_attach", "cgroup_attach_task"),
    ];
    for (name, hook) in hooks {
        match ebpf.program_mut(name).ok_or("the object lacks a program")? {
            Program::RawTracePoint(program) => {
                program.load()?;
                program.attach(hook)?;
            }
            Program::BtfTracePoint(program) => {
                program.load(hook, &types)?;
                program.attach()?;
            }
            _ => return Err("a program of another type".into()),
        }
    }
    Ok(ebpf)
}

/// Our observers, and the thread that reads everything they count, as the collector does.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Reader {
    fn start(container: &Path) -> Result<Self, Failure> {
        let mut observer = Observer::load(&Config {
            cgroup_root: cgroup::root()?,
            pin_dir: None,
            slots_max: 128,
        })?;
        let slot = Slot { index: SLOT, flags: FLAG_OBSERVED, ..Slot::default() };
        observer.claim_slot(cgroup::id(container)?, slot)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut read = Instant::now();
            while !told.load(Ordering::Relaxed) {
                while observer.next().is_some() {}
                if read.elapsed() >= Duration::from_secs(1) {
                    read = Instant::now();
                    read_all(&mut observer).expect("the maps can be read while they exist");
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Everything that the collector reads of a container at the end of a window.
fn read_all(observer: &mut Observer) -> Result<(), ObserveError> {
    observer.switch_ngrams()?;
    observer.syscalls.counts(SLOT)?;
    thread::sleep(Duration::from_millis(5));
    let half = observer.filled_half()?;
    observer.syscalls.take_ngrams(SLOT, half)?;
    observer.syscalls.take_run(SLOT)?;
    observer.network.counters(SLOT)?;
    observer.network.flows()?;
    Ok(())
}

fn start_bpftrace() -> Result<Child, Failure> {
    let mut child = Command::new("bpftrace")
        .args(["-B", "none", "-e", "BEGIN { printf(\"ready\\n\"); } tracepoint:raw_syscalls:sys_enter { @[cgroup, args->id] = count(); }"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // It prints this once everything is attached.
    let mut stdout = child.stdout.take().ok_or("its output was asked for")?;
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"ready") {
        if stdout.read(&mut byte)? == 0 {
            return Err("bpftrace ended before it was ready".into());
        }
        seen.push(byte[0]);
    }
    thread::sleep(Duration::from_millis(200));
    Ok(child)
}

/// Runs one measurement in the container: nanoseconds of CPU per call.
fn run(cgroup: &Cgroup, mode: &str) -> Result<f64, Failure> {
    let path = cgroup.0.to_str().ok_or("the cgroup's path is text")?;
    let output = Command::new(std::env::current_exe()?).args(["enter", path, mode]).output()?;
    if !output.status.success() {
        return Err(format!("measuring failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Becomes a process of the container; returns only on failure.
fn enter(cgroup: &Path, mode: &str) -> Failure {
    if let Err(error) = fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()) {
        return error.into();
    }
    match std::env::current_exe() {
        Ok(program) => Command::new(program).args(["measure", mode]).exec().into(),
        Err(error) => error.into(),
    }
}

fn measure(mode: &str) -> Result<(), Failure> {
    stay_on(CPU)?;
    let nanoseconds = match mode {
        "calls" => calls(),
        "switches" => switches()?,
        other => return Err(format!("no such mode: {other}").into()),
    };
    println!("{nanoseconds:.2}");
    Ok(())
}

fn calls() -> f64 {
    let call = || {
        // SAFETY: `getppid` has no arguments and always succeeds.
        unsafe { libc::syscall(libc::SYS_getppid) }
    };
    least(CALLS, || {
        call();
        Ok(())
    })
    .expect("the call always succeeds")
}

/// Does something that many times, after a tenth of it for warmth, and answers the CPU time of one time, in ns: that of the
/// least disturbed of twenty slices, because other processes throw caches out even where they cost no time.
fn least(times: u64, mut step: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    for _ in 0..times / 10 {
        step()?;
    }
    let slice = times / 20;
    let mut least = f64::INFINITY;
    for _ in 0..20 {
        let before = cpu_ns(libc::CLOCK_PROCESS_CPUTIME_ID);
        for _ in 0..slice {
            step()?;
        }
        least = least.min((cpu_ns(libc::CLOCK_PROCESS_CPUTIME_ID) - before) / slice as f64);
    }
    Ok(least)
}

/// Two processes pass a byte to and fro: both their CPU times over the calls of both.
fn switches() -> Result<f64, Failure> {
    let (there, here) = (pipe()?, pipe()?);
    // SAFETY: the child runs only what follows, in a program of one thread.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error().into());
    }
    let (mut from, mut to) = if child == 0 { (there.0, here.1) } else { (here.0, there.1) };
    let (mut from, mut to) = (fs::File::from(take(&mut from)), fs::File::from(take(&mut to)));
    let mut byte = [0];
    let pass = |from: &mut fs::File, to: &mut fs::File, byte: &mut [u8; 1]| {
        if child == 0 {
            from.read_exact(byte).and_then(|()| to.write_all(byte))
        } else {
            to.write_all(byte).and_then(|()| from.read_exact(byte))
        }
    };
    let spent = least(ROUND_TRIPS, || pass(&mut from, &mut to, &mut byte))?;
    if child == 0 {
        to.write_all(&spent.to_ne_bytes())?;
        std::process::exit(0);
    }
    let mut other = [0; 8];
    from.read_exact(&mut other)?;
    // SAFETY: the child is ours, and its status is not wanted.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    Ok((spent + f64::from_ne_bytes(other)) / 4.0)
}

type Ends = (Option<OwnedFd>, Option<OwnedFd>);

fn take(end: &mut Option<OwnedFd>) -> OwnedFd {
    end.take().expect("each end is used once")
}

fn pipe() -> io::Result<Ends> {
    let mut ends: [RawFd; 2] = [0; 2];
    // SAFETY: the array holds the two descriptors that the call writes.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call made them and nobody else owns them.
    let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((Some(own(ends[0])), Some(own(ends[1]))))
}

fn stay_on(cpu: usize) -> io::Result<()> {
    // SAFETY: a set of CPUs is plain bits, for which zeros are a value; both functions stay within it.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn cpu_ns(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists and `time` is ours.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// A cgroup for the measured processes, removed at the end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Result<Self, Failure> {
        let path = cgroup::root()?.join(format!("bulkhead-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
