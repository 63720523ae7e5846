//! What is remembered of each task: its container, how it came there, and its last six calls.
//!
//! Task storage in sys_enter: kernel 5.12. The slot is set at fork, exec and cgroup attach; at any change of `SLOTS` or of
//! a task's cgroup, a generation is raised and every task looks its slot up once more by its own cgroup.

use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE,
    },
    btf_maps::{Array, LruHashMap},
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task_btf,
        bpf_task_storage_get,
    },
    macros::btf_map,
};
use bulkhead_abi::{
    process::{ORIGIN_ENTERED, ORIGIN_STARTED},
    slot::{ANCESTOR_LEVELS_MAX, Slot},
};

use bulkhead_ebpf::bound::distance;

use crate::{atomic, offsets, slots};

/// The runtime is still setting the task up: until its first exec it feeds no feature.
pub(crate) const TASK_SETUP: u32 = 1 << 0;
/// The task belongs to a container (which may have no name, and slot 0, yet).
pub(crate) const TASK_CONTAINED: u32 = 1 << 1;

/// [`settle`] looked for a place in the table of residents.
pub(crate) const TASK_TRIED: u32 = 1 << 2;

/// What every call of a task reads and writes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Hot {
    /// [`identity`] of the task, in the table of residents; 0 for a free place.
    pub(crate) owner: u64,
    /// The last six calls.
    pub(crate) register: u64,
    /// Generation in which the slot was looked up; 0 for never.
    pub(crate) generation: u32,
    /// Index of the container; 0 on the host or without a name.
    pub(crate) slot: u32,
    /// `TASK_*`.
    pub(crate) flags: u32,
    /// Calls in the register, up to 5.
    pub(crate) calls: u32,
    /// Calls until it tries again to fill the container's run; 0 while it fills it.
    pub(crate) rest: u32,
    /// Zero.
    pub(crate) pad: [u32; 5],
}

/// Value of the task storage.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Task {
    /// What calls read and write, unless the task is a resident; its slot and flags hold in either case.
    pub(crate) hot: Hot,
    /// Cgroup, as `SLOTS` has it; 0 on the host.
    pub(crate) cgroup: u64,
    /// The task's own cgroup.
    pub(crate) leaf: u64,
    /// `ORIGIN_*`.
    pub(crate) origin: u32,
    /// Zero.
    pub(crate) pad: u32,
}

/// Places in the table of residents.
const RESIDENTS: usize = 1 << RESIDENT_BITS;
const RESIDENT_BITS: u32 = 13;

/// Tasks whose hot state is found by their address in one look-up, without the helper calls that task storage costs: on
/// machines that guard returns against speculation, those cost more than all of the counting. A task has one of two
/// places, from its first call to its end, or none when both belong to others; then its storage serves. Only a task itself
/// takes a place, and only its end gives it back, so that no call can count for another's container.
#[btf_map]
static HOT: Array<Hot, RESIDENTS> = Array::new();

/// What user space tells the programs: it alone writes this section, and programs read it by its address, without the
/// look-up that a map costs.
#[repr(C)]
struct Control {
    /// Raised whenever `SLOTS` changed.
    generation: u32,
    /// The half of the n-gram bitmaps that fills.
    half: u32,
}

#[unsafe(link_section = ".data.control")]
#[unsafe(no_mangle)]
static mut CONTROL: Control = Control { generation: 1, half: 0 };

/// Moves of tasks between cgroups, counted by the programs: apart from what user space writes, or one would undo the other.
#[unsafe(link_section = ".data.moves")]
#[unsafe(no_mangle)]
static mut MOVES: u64 = 0;

/// First process of each cgroup that had one; the next one from outside entered.
#[btf_map]
static STARTED: LruHashMap<u64, u32, 4096> = LruHashMap::new();

/// Layout that the loader reads from BTF: `aya_ebpf` has no type for task storage.
#[repr(C)]
struct Storage {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const Task,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: it holds no data; the kernel replaces it by a map.
unsafe impl Sync for Storage {}

#[unsafe(link_section = ".maps")]
#[unsafe(export_name = "TASKS")]
static TASKS: Storage = Storage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// The running task, in the form that storage helpers and direct reads want.
#[inline(always)]
pub(crate) fn current() -> *mut core::ffi::c_void {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_task_btf() as *mut core::ffi::c_void }
}

/// What is remembered of a task.
#[inline(always)]
pub(crate) fn find(task: *mut core::ffi::c_void) -> Option<*mut Task> {
    get(task, 0)
}

/// What is remembered of a task, or a new zeroed memory; `None` when the kernel has no memory left.
#[inline(always)]
pub(crate) fn find_or_make(task: *mut core::ffi::c_void) -> Option<*mut Task> {
    get(task, BPF_LOCAL_STORAGE_GET_F_CREATE.into())
}

#[inline(always)]
fn get(task: *mut core::ffi::c_void, flags: u64) -> Option<*mut Task> {
    let map = core::ptr::addr_of!(TASKS).cast_mut();
    // SAFETY: the map is a task storage of `Task`s; the verifier checks `task`.
    let value = unsafe {
        bpf_task_storage_get(map.cast(), task.cast(), core::ptr::null_mut(), flags).cast::<Task>()
    };
    (!value.is_null()).then_some(value)
}

/// The generation that counts, and the half of the n-gram bitmaps that fills.
#[inline(always)]
pub(crate) fn control() -> (u32, u32) {
    // SAFETY: aligned numbers, each read in one instruction; volatile because others write them.
    unsafe {
        let moves = (&raw const MOVES).read_volatile() as u32;
        let generation = (&raw const CONTROL.generation).read_volatile().wrapping_add(moves);
        (generation, (&raw const CONTROL.half).read_volatile())
    }
}

/// Makes every task look its slot up again: after a move, one event stands for all threads of a process.
#[inline(always)]
pub(crate) fn raise_generation() {
    // SAFETY: a live, aligned number.
    unsafe { atomic::add(&raw mut MOVES, 1) };
}

/// What the table of residents calls a task: its address, less that of a number that never moves.
#[inline(always)]
pub(crate) fn identity(task: *mut core::ffi::c_void) -> u64 {
    distance(task, (&raw const CONTROL).cast())
}

/// The first place that a task may have among the residents; the other one differs in the last bit.
#[inline(always)]
fn place_of(task: u64) -> u32 {
    ((task >> 6).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - RESIDENT_BITS)) as u32
}

/// The resident's state; `None` when the task is none.
#[inline(always)]
fn resident(task: u64) -> Option<*mut Hot> {
    let place = place_of(task);
    let first = HOT.get_ptr_mut(place)?;
    // SAFETY: live array elements; an owner is one aligned number.
    unsafe {
        if (&raw const (*first).owner).read_volatile() == task {
            return Some(first);
        }
        let second = HOT.get_ptr_mut(place ^ 1)?;
        ((&raw const (*second).owner).read_volatile() == task).then_some(second)
    }
}

/// The hot state of the running task, settled for this generation; `None` when the kernel has no memory left.
#[inline(always)]
pub(crate) fn hot(task: *mut core::ffi::c_void, generation: u32) -> Option<*mut Hot> {
    let identity = identity(task);
    if let Some(hot) = resident(identity) {
        // SAFETY: a live array element, the running task's own.
        if unsafe { (*hot).generation } == generation {
            return Some(hot);
        }
        settle(generation);
        return Some(hot);
    }
    if let Some(known) = find(task) {
        // SAFETY: points into the running task's storage.
        let hot = unsafe { (*known).hot };
        if hot.generation == generation && hot.flags & TASK_TRIED != 0 {
            // SAFETY: as above.
            return Some(unsafe { &raw mut (*known).hot });
        }
    }
    settle(generation);
    if let Some(hot) = resident(identity) {
        return Some(hot);
    }
    // SAFETY: as above.
    find(task).map(|known| unsafe { &raw mut (*known).hot })
}

/// Looks the running task's slot up by its cgroup and remembers it for this generation, among the residents if it can.
#[inline(never)]
pub(crate) fn settle(generation: u32) -> u32 {
    let current = current();
    let Some(task) = find_or_make(current) else { return 0 };
    // SAFETY: no arguments.
    let leaf = unsafe { bpf_get_current_cgroup_id() };
    let found = slots::of_current();
    // SAFETY: `task` points into the running task's own storage.
    unsafe {
        let (before, came_from) = ((*task).leaf, (*task).cgroup);
        place(task, leaf, found);
        // A thread that was moved along with its process: one event stood for all of them.
        if let Some((cgroup, _)) = found
            && before != 0
            && before != leaf
            && came_from != cgroup
        {
            (*task).origin = arrival(cgroup, (bpf_get_current_pid_tgid() >> 32) as u32);
            (*task).hot.flags |= TASK_SETUP;
        }
        (*task).hot.generation = generation;
        (*task).hot.flags |= TASK_TRIED;
        if let Some(hot) = resident(identity(current)) {
            follow(hot, &(*task).hot);
        } else {
            move_in(identity(current), &(*task).hot);
        }
        (*task).hot.slot
    }
}

/// Makes the running task a resident, where one of its places is free.
///
/// # Safety
///
/// Only for the running task.
#[inline(always)]
unsafe fn move_in(task: u64, state: &Hot) {
    let place = place_of(task);
    // SAFETY: live array elements, and a place is taken by one task at a time.
    unsafe {
        let Some(first) = HOT.get_ptr_mut(place) else { return };
        let Some(second) = HOT.get_ptr_mut(place ^ 1) else { return };
        let hot = if atomic::replace(&raw mut (*first).owner, 0, task) {
            first
        } else if atomic::replace(&raw mut (*second).owner, 0, task) {
            second
        } else {
            return;
        };
        (*hot).register = state.register;
        (*hot).calls = state.calls;
        (*hot).rest = state.rest;
        (*hot).slot = state.slot;
        (*hot).flags = state.flags;
        (*hot).generation = state.generation;
    }
}

/// Takes over what a task's storage says.
///
/// # Safety
///
/// `hot` is the running task's own.
#[inline(always)]
unsafe fn follow(hot: *mut Hot, state: &Hot) {
    // SAFETY: the caller's.
    unsafe {
        if (*hot).slot != state.slot {
            (*hot).calls = 0;
        }
        (*hot).slot = state.slot;
        (*hot).flags = state.flags;
        (*hot).generation = state.generation;
    }
}

/// The running task executes another program: it is no longer set up by anybody, and its order of calls begins anew.
#[inline(always)]
pub(crate) fn begin_program(task: *mut core::ffi::c_void, known: *mut Task) {
    // SAFETY: the running task's own storage and state.
    unsafe {
        (*known).hot.flags &= !TASK_SETUP;
        (*known).hot.calls = 0;
        if let Some(hot) = resident(identity(task)) {
            follow(hot, &(*known).hot);
            (*hot).calls = 0;
        }
    }
}

/// A task has ended, or begins at the address of one that has.
#[inline(always)]
pub(crate) fn move_out(task: *mut core::ffi::c_void) {
    if let Some(hot) = resident(identity(task)) {
        // SAFETY: a live array element, whose owner makes no more calls.
        unsafe { (&raw mut (*hot).owner).write_volatile(0) };
    }
}

/// Writes a task's container.
///
/// # Safety
///
/// `task` points into a live task storage.
#[inline(always)]
pub(crate) unsafe fn place(task: *mut Task, leaf: u64, found: Option<(u64, Slot)>) {
    // SAFETY: the caller's.
    unsafe {
        (*task).leaf = leaf;
        if let Some((cgroup, slot)) = found {
            if (*task).hot.slot != slot.index {
                (*task).hot.calls = 0;
            }
            (*task).cgroup = cgroup;
            (*task).hot.slot = slot.index;
            (*task).hot.flags |= TASK_CONTAINED;
        } else {
            (*task).cgroup = 0;
            (*task).hot.slot = 0;
            (*task).hot.flags = 0;
        }
    }
}

/// How a task that comes from outside a container came to be in it: with its first process, or later.
#[inline(always)]
pub(crate) fn arrival(cgroup: u64, pid: u32) -> u32 {
    // SAFETY: copied out at once.
    match unsafe { STARTED.get(cgroup) }.copied() {
        Some(first) if first == pid => ORIGIN_STARTED,
        Some(_) => ORIGIN_ENTERED,
        None => {
            let _ = STARTED.insert(cgroup, pid, 0);
            ORIGIN_STARTED
        }
    }
}

/// Id of the cgroup v2 directory that a task is in.
#[inline(always)]
pub(crate) fn cgroup_of(task: u64) -> Option<u64> {
    let set: u64 = offsets::read(task, offsets::TASK_CGROUPS::get())?;
    offsets::read(set, offsets::CSS_SET_DFL_CGRP::get())
}

/// Whether a cgroup object is of the unified hierarchy: in the hybrid layout the tracepoints tell of all hierarchies, and
/// the others number their directories apart, so that their ids would collide.
#[inline(always)]
pub(crate) fn is_unified(cgroup: u64) -> bool {
    let root: u64 = offsets::read(cgroup, offsets::CGROUP_ROOT::get()).unwrap_or(0);
    offsets::read::<u32>(root, offsets::ROOT_HIERARCHY::get()) == Some(0)
}

/// Id of a cgroup object.
#[inline(always)]
pub(crate) fn cgroup_id(cgroup: u64) -> Option<u64> {
    let node: u64 = offsets::read(cgroup, offsets::CGROUP_KN::get())?;
    offsets::read(node, offsets::KERNFS_NODE_ID::get())
}

/// The container of a cgroup object: itself or its nearest ancestor that `SLOTS` has.
#[inline(always)]
pub(crate) fn slot_of_cgroup(cgroup: u64) -> Option<(u64, Slot)> {
    let leaf = cgroup_id(cgroup)?;
    if let Some(slot) = slots::of_cgroup(leaf) {
        return Some((leaf, slot));
    }
    let level: i32 = offsets::read(cgroup, offsets::CGROUP_LEVEL::get())?;
    let ancestors = offsets::CGROUP_ANCESTORS::get();
    let mut step = 1;
    while step < ANCESTOR_LEVELS_MAX as i32 {
        let at = level - step;
        if at <= 0 {
            break;
        }
        let ancestor: u64 = offsets::read(cgroup, ancestors + 8 * at as u32)?;
        let id = cgroup_id(ancestor)?;
        if let Some(slot) = slots::of_cgroup(id) {
            return Some((id, slot));
        }
        step += 1;
    }
    None
}
