//! System calls from user space: histogram, bigrams, marked 6-grams and sampled runs, by native numbers.

use std::collections::BTreeMap;

use aya::{
    Ebpf,
    maps::{Array, MapData, PerCpuArray},
    programs::RawTracePoint,
};
use bulkhead_abi::syscall::{
    CALLS, CallCounters, CallRecord, NGRAM_WORDS, Ngrams, RUN_FREE, RUN_LENGTH, Run, bigram,
};

use super::take_map;
use crate::error::ObserveError;

/// Calls that are acts, by native number: privileged ones, those that change namespaces, and those that hide others.
#[cfg(target_arch = "x86_64")]
const WATCHED: [libc::c_long; 53] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_quotactl,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_clone,
    libc::SYS_clone3,
];

/// On other architectures the numbers differ, and some calls do not exist.
#[cfg(not(target_arch = "x86_64"))]
const WATCHED: [libc::c_long; 14] = [
    libc::SYS_ptrace,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_mount,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_memfd_create,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_clone,
    libc::SYS_clone3,
];

/// A bit for each watched call.
pub(super) fn watched() -> [u64; 8] {
    let mut bits = [0u64; 8];
    for call in WATCHED {
        let call = usize::try_from(call).expect("numbers of calls are not negative");
        bits[call / 64] |= 1 << (call % 64);
    }
    bits
}

/// Calls whose arguments decide whether they are acts.
pub(super) fn special() -> [(&'static str, u32); 4] {
    [
        ("CALL_SOCKET", libc::SYS_socket as u32),
        ("CALL_CONNECT", libc::SYS_connect as u32),
        ("CALL_CLONE", libc::SYS_clone as u32),
        ("CALL_CLONE3", libc::SYS_clone3 as u32),
    ]
}

/// A privileged or unusual call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEvent {
    /// Index of the container.
    pub slot: u32,
    /// Its cgroup.
    pub cgroup: u64,
    /// Boot time, ns.
    pub time_ns: u64,
    /// Process id in the initial namespace.
    pub pid: u32,
    /// Effective user id in the initial namespace.
    pub uid: u32,
    /// Number of the call in its ABI.
    pub call: u32,
    /// It came in by the 32-bit ABI.
    pub foreign: bool,
    /// What qualifies it: family and type of `socket`, family of `connect`, new namespaces of `clone` and `clone3`, else the first two
    /// arguments.
    pub arguments: [u64; 2],
    /// Path of a Unix socket that was connected to; abstract ones begin with a 0 byte. Hostile bytes.
    pub text: Vec<u8>,
}

impl CallEvent {
    pub(super) fn from_record(record: &CallRecord) -> Option<Self> {
        let skip = usize::from(record.text[0] == 0);
        let end = record.text[skip..]
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(record.text.len() - skip);
        let text = if end == 0 { Vec::new() } else { record.text[..skip + end].to_vec() };
        (record.foreign <= 1).then_some(Self {
            slot: record.header.slot,
            cgroup: record.header.cgroup,
            time_ns: record.header.time_ns,
            pid: record.pid,
            uid: record.uid,
            call: record.call,
            foreign: record.foreign == 1,
            arguments: record.arguments,
            text,
        })
    }
}

/// What a container's calls have come to since the observers began, summed over CPUs. Counts only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyscallCounts {
    /// Calls by number of the native ABI.
    pub native: BTreeMap<u32, u64>,
    /// Calls by number of the 32-bit ABI.
    pub foreign: BTreeMap<u32, u64>,
    /// Calls whose number has no counter.
    pub beyond: u64,
    /// Pairs of consecutive calls of one task; 512 is added to numbers of the 32-bit ABI.
    pub bigrams: BTreeMap<(u16, u16), u64>,
    /// Pairs that found no place.
    pub bigrams_lost: u64,
}

/// A plain value of a map.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain<T>(T);

// SAFETY: `repr(C)`, integers only: any bytes are a valid value.
unsafe impl aya::Pod for Plain<CallCounters> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Ngrams> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Run> {}

/// The maps of the program on `sys_enter`, while it is attached.
pub struct Syscalls {
    counters: PerCpuArray<MapData, Plain<CallCounters>>,
    ngrams: Array<MapData, Plain<Ngrams>>,
    runs: Array<MapData, Plain<Run>>,
}

impl Syscalls {
    pub(super) fn attach(ebpf: &mut Ebpf) -> Result<Self, ObserveError> {
        let name = "sys_enter";
        let program: &mut RawTracePoint = ebpf
            .program_mut(name)
            .ok_or(ObserveError::MissingProgram { program: name })?
            .try_into()
            .map_err(|source| ObserveError::Attach { program: name, source })?;
        program
            .load()
            .and_then(|()| program.attach(name))
            .map_err(|source| ObserveError::Attach { program: name, source })?;
        Ok(Self {
            counters: take_map!(ebpf, "CALL_COUNTERS"),
            ngrams: take_map!(ebpf, "NGRAMS"),
            runs: take_map!(ebpf, "RUNS"),
        })
    }

    /// Counts of a slot.
    pub fn counts(&self, slot: u32) -> Result<SyscallCounts, ObserveError> {
        let map = |source| ObserveError::Map { map: "CALL_COUNTERS", source };
        let mut sum = SyscallCounts::default();
        for cpu in self.counters.get(&slot, 0).map_err(map)?.iter() {
            let raw = &cpu.0;
            for (number, count) in raw.calls.iter().enumerate().filter(|(_, count)| **count > 0) {
                let (calls, number) = if number < CALLS {
                    (&mut sum.native, number)
                } else {
                    (&mut sum.foreign, number - CALLS)
                };
                *calls.entry(number as u32).or_default() += count;
            }
            sum.beyond += raw.calls_beyond;
            sum.bigrams_lost += raw.bigrams_lost;
            for (first, second, count) in raw.bigrams.iter().copied().filter_map(bigram) {
                *sum.bigrams.entry((first, second)).or_default() += count;
            }
        }
        Ok(sum)
    }

    /// Takes what one half of a slot's bitmap holds, ascending, and clears it.
    ///
    /// The half must be the one that does not fill (`Observer::filled_half`), or bits set meanwhile are lost.
    pub fn take_ngrams(&mut self, slot: u32, half: usize) -> Result<Vec<u16>, ObserveError> {
        let map = |source| ObserveError::Map { map: "NGRAMS", source };
        let index = 2 * slot + (half as u32 & 1);
        let marked = self.ngrams.get(&index, 0).map_err(map)?.0;
        let mut buckets = Vec::new();
        for (index, word) in marked.words.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                buckets.push((index * 64 + word.trailing_zeros() as usize) as u16);
                word &= word - 1;
            }
        }
        if !buckets.is_empty() {
            self.ngrams.set(index, Plain(Ngrams { words: [0; NGRAM_WORDS] }), 0).map_err(map)?;
        }
        Ok(buckets)
    }

    /// Takes the slot's sampled run, at most 256 consecutive calls of one task, and makes room for another.
    pub fn take_run(&mut self, slot: u32) -> Result<Vec<u16>, ObserveError> {
        let map = |source| ObserveError::Map { map: "RUNS", source };
        let run = self.runs.get(&slot, 0).map_err(map)?.0;
        let length = (run.length as usize).min(RUN_LENGTH);
        if length > 0 {
            let free = Run { owner: RUN_FREE, length: 0, noted: 0, calls: [0; RUN_LENGTH] };
            self.runs.set(slot, Plain(free), 0).map_err(map)?;
        }
        Ok(run.calls[..length].to_vec())
    }
}
