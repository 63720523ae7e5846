//! System calls per container: histogram, bigrams, the bitmap of hashed 6-grams, sampled runs, and calls that are acts.
//!
//! Hook: `raw_tracepoint/sys_enter` (4.17), prototype `(struct pt_regs *regs, long id)`. With task storage from 5.12. The
//! kernel runs it with preemption off, so per-CPU counters need no atomics; the bitmap is shared and is only ever ORed.
//! Calls that a seccomp filter refuses never reach this hook.

use aya_ebpf::{
    btf_maps::{Array, LruHashMap, PerCpuArray},
    helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, bpf_probe_read_user},
    macros::{btf_map, raw_tracepoint},
    programs::RawTracePointContext,
};
use bulkhead_abi::{
    ring::Header,
    slot::SLOTS_MAX,
    syscall::{
        BIGRAM_COUNT_BITS, BIGRAMS, Bigram, CALL_TEXT, CALLS, CallCounters, CallRecord,
        NGRAM_WORDS, Ngrams, RUN_FREE, RUN_FULL, RUN_LENGTH, Run, bigram_key, bucket, shift,
    },
};

use bulkhead_ebpf::bound::mask;

use crate::{
    atomic, offsets,
    process::{self, count_act},
    ring,
    task::{self, Hot, TASK_SETUP},
};

/// Counts per container and CPU.
#[btf_map]
static CALL_COUNTERS: PerCpuArray<CallCounters, { SLOTS_MAX as usize }> = PerCpuArray::new();

/// Marked 6-grams, two halves per container.
#[btf_map]
static NGRAMS: Array<Ngrams, { 2 * SLOTS_MAX as usize }> = Array::new();

/// A sampled run per container.
#[btf_map]
static RUNS: Array<Run, { SLOTS_MAX as usize }> = Array::new();

/// Identity of an act that is reported once an epoch.
#[repr(C)]
#[derive(Clone, Copy)]
struct ActKey {
    cgroup: u64,
    text: u64,
    call: u32,
    foreign: u32,
}

/// The epoch in which each act was last reported.
#[btf_map]
static ACTS: LruHashMap<ActKey, u64, 8192> = LruHashMap::new();

/// Calls that are acts, a bit for each native number; set by the loader from its table of names.
#[unsafe(no_mangle)]
static WATCHED: [u64; 8] = [0; 8];

/// Native numbers whose arguments decide: `socket`, `connect`, `clone` and `clone3`.
#[unsafe(no_mangle)]
static CALL_SOCKET: u32 = u32::MAX;
#[unsafe(no_mangle)]
static CALL_CONNECT: u32 = u32::MAX;
#[unsafe(no_mangle)]
static CALL_CLONE: u32 = u32::MAX;
#[unsafe(no_mangle)]
static CALL_CLONE3: u32 = u32::MAX;

/// Offsets of the first two arguments in `pt_regs`, native and of the foreign ABI.
#[unsafe(no_mangle)]
static REGS_ARGUMENTS: [u32; 4] = [offsets::MISSING; 4];

/// The bit of `thread_info.status` that a call of the 32-bit ABI sets (`TS_COMPAT`); 0 where there is none.
#[unsafe(no_mangle)]
static STATUS_FOREIGN: u32 = 0;

macro_rules! global {
    ($name:ident) => {
        // SAFETY: a read of a static; volatile because the loader rewrites it in the object.
        unsafe { core::ptr::read_volatile(&raw const $name) }
    };
}

/// Counts one call.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn sys_enter(ctx: RawTracePointContext) -> i32 {
    let current = task::current();
    let (generation, half) = task::control();
    let Some(hot) = task::hot(current, generation) else { return 0 };
    // SAFETY: the running task's own state.
    let (slot, flags) = unsafe { ((*hot).slot, (*hot).flags) };
    if slot == 0 || flags & TASK_SETUP != 0 {
        return 0;
    }
    let number: u64 = ctx.arg(1);
    let foreign = is_foreign(current);
    let call = if number < CALLS as u64 { number as u32 } else { u32::MAX };
    count(slot, hot, call, foreign, half);
    if foreign || (call as usize) < CALLS && is_watched(call) {
        act(&ctx, slot, number as u32, foreign);
    }
    0
}

/// Whether the running call came in by the 32-bit ABI: a 64-bit process may use `int 0x80`, and its 20 is another call.
#[inline(always)]
fn is_foreign(current: *mut core::ffi::c_void) -> bool {
    let offset = offsets::TASK_STATUS::get();
    let bit = global!(STATUS_FOREIGN);
    if offset == offsets::MISSING || bit == 0 {
        return false;
    }
    // SAFETY: `current` is a trusted task pointer; the verifier checks the field at that offset.
    let status = unsafe { current.cast::<u8>().add(offset as usize).cast::<u32>().read_volatile() };
    status & bit != 0
}

#[inline(always)]
fn is_watched(call: u32) -> bool {
    // SAFETY: `call` is below CALLS, so the word is below 8; volatile because the loader rewrites it.
    let word = unsafe {
        core::ptr::read_volatile((&raw const WATCHED[0]).add(mask::<7>((call >> 6).into())))
    };
    word >> (call & 63) & 1 != 0
}

/// Calls after which a task tries again to fill the container's run, when another does or it is full.
const REST: u32 = 256;

/// The histogram, the bigram, the 6-gram and the run.
#[inline(always)]
fn count(slot: u32, hot: *mut Hot, call: u32, foreign: bool, half: u32) {
    let Some(counters) = CALL_COUNTERS.get_ptr_mut(slot) else { return };
    if call == u32::MAX {
        // SAFETY: this CPU's own element, preemption is off.
        unsafe { (*counters).calls_beyond += 1 };
        return;
    }
    let symbol = if foreign { call | CALLS as u32 } else { call };
    // SAFETY: `counters` is this CPU's own element; `hot` is the running task's; indexes are masked to the arrays.
    unsafe {
        *(&raw mut (*counters).calls)
            .cast::<u64>()
            .add(mask::<{ 2 * CALLS as u32 - 1 }>(symbol.into())) += 1;
        let before = (*hot).register;
        let calls = (*hot).calls;
        let register = shift(before, symbol);
        (*hot).register = register;
        if calls != 0 {
            pair(counters, bigram_key(before as u32, symbol));
        }
        if calls < 5 {
            (*hot).calls = calls + 1;
        } else {
            mark(slot, half, bucket(register));
        }
        let rest = (*hot).rest;
        if rest != 0 {
            (*hot).rest = rest - 1;
        } else {
            sample(slot, hot, symbol);
        }
    }
}

/// Marks a bucket of the container's 6-grams.
#[inline(always)]
fn mark(slot: u32, half: u32, bucket: u32) {
    let Some(ngrams) = NGRAMS.get_ptr_mut(2 * slot + (half & 1)) else { return };
    let bit = 1u64 << (bucket & 63);
    // SAFETY: a live element; the index is masked to the array.
    unsafe {
        let word = (&raw mut (*ngrams).words)
            .cast::<u64>()
            .add(mask::<{ NGRAM_WORDS as u32 - 1 }>((bucket >> 6).into()));
        // Most 6-grams are marked already: a load is cheaper than an atomic OR.
        if word.read_volatile() & bit == 0 {
            atomic::or(word, bit);
        }
    }
}

/// Counts a pair of calls.
///
/// # Safety
///
/// `counters` is this CPU's element, with preemption off.
#[inline(always)]
unsafe fn pair(counters: *mut CallCounters, key: u64) {
    let place = u64::from((key as u32).wrapping_mul(0x9e37_79b1) >> 21);
    // SAFETY: the caller's; indexes are masked.
    unsafe {
        let pairs = (&raw mut (*counters).bigrams).cast::<Bigram>();
        if !claim(pairs.add(mask::<{ BIGRAMS as u32 - 1 }>(place)), key)
            && !claim(pairs.add(mask::<{ BIGRAMS as u32 - 1 }>(place ^ 1)), key)
        {
            (*counters).bigrams_lost += 1;
        }
    }
}

/// Counts in this place if it is the key's or free.
///
/// # Safety
///
/// `place` points into this CPU's element.
#[inline(always)]
unsafe fn claim(place: *mut Bigram, key: u64) -> bool {
    // SAFETY: the caller's.
    unsafe {
        let word = *place;
        if word >> BIGRAM_COUNT_BITS == key {
            *place = word + 1;
            return true;
        }
        if word == 0 {
            *place = (key << BIGRAM_COUNT_BITS) + 1;
            return true;
        }
        false
    }
}

/// Adds the call to the container's run, if this thread fills it, or nobody does, or who does sleeps; else lets the task
/// rest.
///
/// # Safety
///
/// `hot` is the running task's own.
#[inline(always)]
unsafe fn sample(slot: u32, hot: *mut Hot, symbol: u32) {
    let Some(run) = RUNS.get_ptr_mut(slot) else { return };
    // SAFETY: the caller's, and a live element; one owner at a time writes the run, by its thread id.
    unsafe {
        let owner = &raw mut (*run).owner;
        let owned_by = owner.read_volatile();
        let me = bpf_get_current_pid_tgid();
        if owned_by != me {
            let length = (*run).length;
            let sleeps = (*run).noted == length;
            if owned_by == RUN_FULL
                || (owned_by != RUN_FREE && !sleeps)
                || !atomic::replace(owner, owned_by, me)
            {
                (*run).noted = length;
                (*hot).rest = REST;
                return;
            }
            (*run).length = 0;
        }
        let length = (*run).length;
        if length < RUN_LENGTH as u64 {
            *(&raw mut (*run).calls).cast::<u16>().add(mask::<{ RUN_LENGTH as u32 - 1 }>(length)) =
                symbol as u16;
            (*run).length = length + 1;
        }
        if length + 1 >= RUN_LENGTH as u64 {
            owner.write_volatile(RUN_FULL);
            (*hot).rest = REST;
        }
    }
}

/// `AF_UNIX`, `AF_INET`, `AF_INET6`, `AF_NETLINK`: families that need no remark.
const USUAL_FAMILIES: [u64; 4] = [1, 2, 10, 16];
const SOCK_TYPE_MASK: u64 = 0xf;
const SOCK_RAW: u64 = 3;
const SOCK_PACKET: u64 = 10;
const AF_UNIX: u16 = 1;
const AF_VSOCK: u16 = 40;
/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET`.
const CLONE_NEW: u64 = 0x7e02_0000;

/// Reports a call that is an act: once an epoch, within the quota, and counted otherwise.
#[inline(never)]
fn act(ctx: &RawTracePointContext, slot: u32, number: u32, foreign: bool) {
    let regs: u64 = ctx.arg(0);
    let at = if foreign { 2 } else { 0 };
    let offset = |i: u64| {
        // SAFETY: at most index 3 of 4; volatile because the loader rewrites it.
        unsafe { core::ptr::read_volatile((&raw const REGS_ARGUMENTS[0]).add(mask::<3>(at + i))) }
    };
    let arguments: [u64; 2] =
        [offsets::read(regs, offset(0)).unwrap_or(0), offsets::read(regs, offset(1)).unwrap_or(0)];
    let mut text = [0u8; CALL_TEXT];
    let mut hash = 0u64;
    let mut shown = arguments;
    if !foreign && number == global!(CALL_SOCKET) {
        let kind = arguments[1] & SOCK_TYPE_MASK;
        if USUAL_FAMILIES.contains(&arguments[0])
            && (arguments[0] == 16 || kind != SOCK_RAW)
            && kind != SOCK_PACKET
        {
            return;
        }
        shown[1] = kind;
        hash = arguments[0] << 8 | kind;
    } else if !foreign && number == global!(CALL_CONNECT) {
        let mut family = 0u16;
        // SAFETY: the helper checks the address; it fills two bytes.
        if unsafe { bpf_probe_read_user((&raw mut family).cast(), 2, arguments[1] as *const _) }
            != 0
        {
            return;
        }
        if family != AF_UNIX && family != AF_VSOCK {
            return;
        }
        // SAFETY: the same; a shorter address reads what lies behind it, which user space cuts at the first 0.
        unsafe {
            let from = (arguments[1] + 2) as *const core::ffi::c_void;
            if bpf_probe_read_user(text.as_mut_ptr().cast(), CALL_TEXT as u32, from) != 0
                && bpf_probe_read_user(text.as_mut_ptr().cast(), 32, from) != 0
            {
                return;
            }
        }
        shown = [u64::from(family), 0];
        hash = hash_text(&mut text);
    } else if !foreign && number == global!(CALL_CLONE3) {
        let mut flags = 0u64;
        // SAFETY: the helper checks the address; `struct clone_args` begins with the flags, eight bytes.
        let failed =
            unsafe { bpf_probe_read_user((&raw mut flags).cast(), 8, arguments[0] as *const _) };
        if failed != 0 || flags & CLONE_NEW == 0 {
            return;
        }
        shown = [flags & CLONE_NEW, 0];
        hash = shown[0];
    } else if !foreign && number == global!(CALL_CLONE) {
        if arguments[0] & CLONE_NEW == 0 {
            return;
        }
        shown = [arguments[0] & CLONE_NEW, 0];
        hash = shown[0];
    }
    let current = task::current();
    let Some(known) = task::find(current) else { return };
    // SAFETY: points into the running task's storage.
    let cgroup = unsafe { (*known).cgroup };
    let uid = process::effective_uid(current as u64);
    let counters = process::counters(slot);
    let Some(counters) = counters else { return };
    count_act!(counters, acts);
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let epoch = ring::epoch(now);
    let key = ActKey { cgroup, text: hash, call: number, foreign: u32::from(foreign) };
    // SAFETY: copied out at once.
    if unsafe { ACTS.get(&key) }.copied() == Some(epoch) {
        count_act!(counters, repeated);
        return;
    }
    let _ = ACTS.insert(&key, &epoch, 0);
    if !ring::take(slot, now) {
        count_act!(counters, lost_quota);
        return;
    }
    let Some(mut entry) = ring::RING.reserve_untyped::<CallRecord>(0) else {
        count_act!(counters, lost_ring);
        return;
    };
    // SAFETY: no arguments.
    let pid = unsafe { bpf_get_current_pid_tgid() } >> 32;
    entry.write(CallRecord {
        header: Header { kind: ring::KIND_CALL, slot, cgroup, time_ns: now },
        pid: pid as u32,
        uid,
        call: number,
        foreign: u32::from(foreign),
        arguments: shown,
        text,
        pad: 0,
    });
    entry.submit(0);
    count_act!(counters, emitted);
}

/// FNV-1a of the text up to its end, so that what lies behind it makes no other act; clears what lies behind.
#[inline(always)]
fn hash_text(text: &mut [u8; CALL_TEXT]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut ended = false;
    let mut i = 0;
    while i < CALL_TEXT {
        // A leading 0 marks an abstract name.
        if i > 0 && text[i] == 0 {
            ended = true;
        }
        if ended {
            text[i] = 0;
        } else {
            hash = (hash ^ u64::from(text[i])).wrapping_mul(0x100_0000_01b3);
        }
        i += 1;
    }
    hash
}
