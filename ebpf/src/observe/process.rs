//! Execs, forks, exits and entries into a container's cgroup, with path, parent, uid and origin.
//!
//! Hooks: `tp_btf` (5.5) on `sched_process_exec(task, old_pid, bprm)`, `sched_process_fork(parent, child)`,
//! `sched_process_exit(task)`, `cgroup_attach_task(cgroup, path, task, threadgroup)`, `cgroup_mkdir` and `cgroup_rmdir`
//! `(cgroup, path)`. Task storage of another task than the running one needs 5.11.

use aya_ebpf::{
    btf_maps::Array,
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str},
    macros::{btf_map, btf_tracepoint},
    programs::BtfTracePointContext,
};
use bulkhead_abi::{
    process::{
        CgroupRecord, EXEC_CUT, EXEC_FIRST, EXEC_MEMFD, EXEC_SOCKET_STDIO, ExecRecord,
        ORIGIN_SPAWNED, PATH_BYTES, ProcessCounters, ProcessRecord,
    },
    ring::Header,
    slot::SLOTS_MAX,
};

use crate::{
    offsets, ring,
    task::{self, Hot, TASK_CONTAINED, TASK_SETUP, TASK_TRIED, Task},
};

/// Process counters by slot; element 0 counts for containers without a name.
#[btf_map]
static PROCESSES: Array<ProcessCounters, { SLOTS_MAX as usize }> = Array::new();

/// The process counters of a slot.
#[inline(always)]
pub(crate) fn counters(slot: u32) -> Option<*mut ProcessCounters> {
    PROCESSES.get_ptr_mut(slot)
}

/// Adds to one process counter of a container.
macro_rules! count_act {
    ($counters:expr, $field:ident) => {
        // SAFETY: `counters` gave the pointer, so it points into a live array element.
        unsafe { $crate::atomic::add(::core::ptr::addr_of_mut!((*$counters).$field), 1) }
    };
}
pub(crate) use count_act;

/// Effective user id of a task; `u32::MAX` when the kernel's layout is not known.
#[inline(always)]
pub(crate) fn effective_uid(task: u64) -> u32 {
    let credentials: u64 = offsets::read(task, offsets::TASK_CRED::get()).unwrap_or(0);
    offsets::read(credentials, offsets::CRED_EUID::get()).unwrap_or(u32::MAX)
}

#[inline(always)]
fn pid_of(task: u64) -> u32 {
    offsets::read(task, offsets::TASK_TGID::get()).unwrap_or(0)
}

#[inline(always)]
fn parent_of(task: u64) -> u32 {
    pid_of(offsets::read(task, offsets::TASK_REAL_PARENT::get()).unwrap_or(0))
}

/// A program was executed.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let current = task::current();
    task::settle(task::control().0);
    let Some(task) = task::find(current) else { return 0 };
    // SAFETY: points into the running task's storage.
    let (slot, cgroup, flags, origin) =
        unsafe { ((*task).hot.slot, (*task).cgroup, (*task).hot.flags, (*task).origin) };
    if flags & TASK_CONTAINED == 0 {
        return 0;
    }
    let bprm: u64 = ctx.arg(2);
    let file: u64 = offsets::read(bprm, offsets::BPRM_FILE::get()).unwrap_or(0);
    let memfd = is_memfd(file);
    let name: u64 = offsets::read(bprm, offsets::BPRM_FILENAME::get()).unwrap_or(0);
    if flags & TASK_SETUP != 0 && (memfd || is_by_descriptor(name)) {
        // The runtime executes its own sealed copy, from memory or a read-only mount, before it becomes the container's
        // program.
        return 0;
    }
    task::begin_program(current, task);
    let Some(counters) = counters(slot) else { return 0 };
    count_act!(counters, execs);
    count_act!(counters, acts);
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if !ring::take(slot, now) {
        count_act!(counters, lost_quota);
        return 0;
    }
    let Some(mut entry) = ring::RING.reserve_untyped::<ExecRecord>(0) else {
        count_act!(counters, lost_ring);
        return 0;
    };
    let record = entry.as_mut_ptr();
    let mut shown = 0;
    if memfd {
        shown |= EXEC_MEMFD;
    }
    if flags & TASK_SETUP != 0 {
        shown |= EXEC_FIRST;
    }
    if has_socket_stdio(current as u64) {
        shown |= EXEC_SOCKET_STDIO;
    }
    // SAFETY: the reserved memory is a whole record and every field is written; the string helper bounds its writes.
    unsafe {
        (*record).header = Header { kind: ring::KIND_EXEC, slot, cgroup, time_ns: now };
        (*record).pid = pid_of(current as u64);
        (*record).parent = parent_of(current as u64);
        (*record).uid = effective_uid(current as u64);
        (*record).origin = origin;
        (*record).path = [0; PATH_BYTES];
        let path = (&raw mut (*record).path).cast();
        let length = bpf_probe_read_kernel_str(path, PATH_BYTES as u32, name as *const _);
        if length >= PATH_BYTES as i64 {
            shown |= EXEC_CUT;
        }
        (*record).path_bytes = if length > 0 { length as u32 - 1 } else { 0 };
        (*record).flags = shown;
    }
    entry.submit(0);
    count_act!(counters, emitted);
    0
}

/// Whether the file is an anonymous memory file: its entry in no directory is called `memfd:…`.
#[inline(always)]
fn is_memfd(file: u64) -> bool {
    let entry: u64 = offsets::read(file, offsets::FILE_DENTRY::get()).unwrap_or(0);
    let name: u64 = offsets::read(entry, offsets::DENTRY_NAME::get()).unwrap_or(0);
    offsets::read::<[u8; 6]>(name, 0) == Some(*b"memfd:")
}

/// Whether the path begins with `/proc/self/`, or is what the kernel calls a program that was executed by descriptor.
#[inline(always)]
fn is_by_descriptor(name: u64) -> bool {
    offsets::read::<[u8; 11]>(name, 0) == Some(*b"/proc/self/")
        || offsets::read::<[u8; 8]>(name, 0) == Some(*b"/dev/fd/")
}

/// Whether standard input, output or error is a socket that leads out of the machine's own pairs: runtimes such as Node.js
/// give their children Unix socket pairs where others use pipes.
#[inline(always)]
fn has_socket_stdio(task: u64) -> bool {
    const S_IFMT: u16 = 0o170_000;
    const S_IFSOCK: u16 = 0o140_000;
    const AF_UNIX: u16 = 1;
    let files: u64 = offsets::read(task, offsets::TASK_FILES::get()).unwrap_or(0);
    let table: u64 = offsets::read(files, offsets::FILES_FDT::get()).unwrap_or(0);
    let open_max: u32 = offsets::read(table, offsets::FDTABLE_MAX_FDS::get()).unwrap_or(0);
    let open: u64 = offsets::read(table, offsets::FDTABLE_FD::get()).unwrap_or(0);
    let mut descriptor = 0u32;
    while descriptor < 3 {
        if descriptor < open_max {
            let file: u64 = offsets::read(open, 8 * descriptor).unwrap_or(0);
            let inode: u64 = offsets::read(file, offsets::FILE_INODE::get()).unwrap_or(0);
            let mode: u16 = offsets::read(inode, offsets::INODE_MODE::get()).unwrap_or(0);
            if mode & S_IFMT == S_IFSOCK {
                let socket: u64 = offsets::read(file, offsets::FILE_PRIVATE::get()).unwrap_or(0);
                let sock: u64 = offsets::read(socket, offsets::SOCKET_SK::get()).unwrap_or(0);
                // A family that cannot be read is not excused.
                if offsets::read::<u16>(sock, offsets::SOCK_FAMILY::get()) != Some(AF_UNIX) {
                    return true;
                }
            }
        }
        descriptor += 1;
    }
    false
}

/// A task was made: its container is that of its own cgroup, which need not be its parent's (`CLONE_INTO_CGROUP`).
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let parent: *mut core::ffi::c_void = ctx.arg(0);
    let child: *mut core::ffi::c_void = ctx.arg(1);
    task::move_out(child);
    let Some(cgroup) = task::cgroup_of(child as u64) else { return 0 };
    let Some(leaf) = task::cgroup_id(cgroup) else { return 0 };
    let from = match task::find(parent) {
        // SAFETY: points into a live task storage; copied out at once.
        Some(known) => Some(unsafe { *known }),
        None => None,
    };
    let inherited =
        from.filter(|known| known.leaf == leaf && known.hot.generation == task::control().0);
    let value = match inherited {
        Some(known) if known.hot.flags & TASK_CONTAINED == 0 => return 0,
        Some(known) => Task {
            origin: if known.hot.flags & TASK_SETUP == 0 && known.origin != 0 {
                ORIGIN_SPAWNED
            } else {
                known.origin
            },
            hot: Hot {
                calls: 0,
                register: 0,
                rest: 0,
                flags: known.hot.flags & !TASK_TRIED,
                ..known.hot
            },
            ..known
        },
        None => {
            let Some((id, slot)) = task::slot_of_cgroup(cgroup) else { return 0 };
            // The parent is inside as well, if not in the same directory: then the child was spawned, not entered.
            let spawned =
                from.filter(|known| known.hot.flags & TASK_CONTAINED != 0 && known.cgroup == id);
            let (origin, setup) = match spawned {
                Some(known) if known.hot.flags & TASK_SETUP == 0 => (ORIGIN_SPAWNED, 0),
                Some(known) => (known.origin, TASK_SETUP),
                None => (task::arrival(id, pid_of(child as u64)), TASK_SETUP),
            };
            Task {
                hot: Hot {
                    owner: 0,
                    register: 0,
                    generation: task::control().0,
                    slot: slot.index,
                    flags: TASK_CONTAINED | setup,
                    calls: 0,
                    rest: 0,
                    pad: [0; 5],
                },
                cgroup: id,
                leaf,
                origin,
                pad: 0,
            }
        }
    };
    if let Some(state) = task::find_or_make(child) {
        // SAFETY: points into the child's storage; the child does not run yet.
        unsafe { *state = value };
    }
    let number: u32 = offsets::read(child as u64, offsets::TASK_PID::get()).unwrap_or(0);
    if number == pid_of(child as u64)
        && value.hot.flags & TASK_SETUP == 0
        && let Some(counters) = counters(value.hot.slot)
    {
        count_act!(counters, forks);
    }
    0
}

/// A task ended; threads other than the first are not processes.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let ended: *mut core::ffi::c_void = ctx.arg(0);
    task::move_out(ended);
    let Some(state) = task::find(ended) else { return 0 };
    // SAFETY: points into a live task storage.
    let (slot, flags) = unsafe { ((*state).hot.slot, (*state).hot.flags) };
    let number: u32 = offsets::read(ended as u64, offsets::TASK_PID::get()).unwrap_or(0);
    if flags & TASK_CONTAINED != 0
        && flags & TASK_SETUP == 0
        && number == pid_of(ended as u64)
        && let Some(counters) = counters(slot)
    {
        count_act!(counters, exits);
    }
    0
}

/// A process was moved: one event, for all of its threads.
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_attach(ctx: BtfTracePointContext) -> i32 {
    let cgroup: u64 = ctx.arg(0);
    let moved: *mut core::ffi::c_void = ctx.arg(2);
    if !task::is_unified(cgroup) {
        return 0;
    }
    let Some(leaf) = task::cgroup_id(cgroup) else { return 0 };
    let found = task::slot_of_cgroup(cgroup);
    // Other threads of the process, and whoever inherits from them, look their own cgroup up again.
    task::raise_generation();
    let Some((id, slot)) = found else {
        if let Some(state) = task::find(moved) {
            // SAFETY: points into the moved task's storage.
            unsafe { task::place(state, leaf, None) };
        }
        return 0;
    };
    let Some(state) = task::find_or_make(moved) else { return 0 };
    // SAFETY: points into the moved task's storage.
    let came_from = unsafe { (*state).cgroup };
    // SAFETY: as above.
    unsafe {
        task::place(state, leaf, Some((id, slot)));
        (*state).hot.generation = task::control().0;
        if came_from != id {
            (*state).origin = task::arrival(id, pid_of(moved as u64));
            (*state).hot.flags |= TASK_SETUP;
        }
    }
    if came_from == id {
        return 0;
    }
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let Some(counters) = counters(slot.index) else { return 0 };
    count_act!(counters, acts);
    if !ring::take(slot.index, now) {
        count_act!(counters, lost_quota);
        return 0;
    }
    let Some(mut entry) = ring::RING.reserve_untyped::<ProcessRecord>(0) else {
        count_act!(counters, lost_ring);
        return 0;
    };
    // SAFETY: as above.
    let origin = unsafe { (*state).origin };
    entry.write(ProcessRecord {
        header: Header { kind: ring::KIND_ATTACH, slot: slot.index, cgroup: id, time_ns: now },
        pid: pid_of(moved as u64),
        parent: parent_of(moved as u64),
        origin,
        pad: 0,
    });
    entry.submit(0);
    count_act!(counters, emitted);
    0
}

/// A cgroup directory was made: perhaps a container's.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_made(ctx: BtfTracePointContext) -> i32 {
    report_cgroup(ctx.arg(0), ctx.arg(1), ring::KIND_CGROUP_MADE);
    0
}

/// A cgroup directory was removed; its id may be used again.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_gone(ctx: BtfTracePointContext) -> i32 {
    report_cgroup(ctx.arg(0), ctx.arg(1), ring::KIND_CGROUP_GONE);
    0
}

#[inline(always)]
fn report_cgroup(cgroup: u64, path: u64, kind: u32) {
    if !task::is_unified(cgroup) {
        return;
    }
    let Some(id) = task::cgroup_id(cgroup) else { return };
    let Some(mut entry) = ring::RING.reserve_untyped::<CgroupRecord>(0) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: the reserved memory is a whole record and every field is written; the string helper bounds its writes.
    unsafe {
        (*record).header = Header { kind, slot: 0, cgroup: id, time_ns: bpf_ktime_get_boot_ns() };
        (*record).path = [0; 256];
        bpf_probe_read_kernel_str((&raw mut (*record).path).cast(), 256, path as *const _);
    }
    entry.submit(0);
}
