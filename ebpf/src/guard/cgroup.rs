//! New containers that nobody has named: `raw_tracepoint/cgroup_mkdir` (4.17; prototype `struct cgroup *, const char *`)
//! marks them as unresolved before their first process runs, `cgroup_rmdir` forgets them.
//!
//! A cgroup is taken for a container when its own name ends in an engine's 64-digit id (`<id>`, `libpod-<id>`,
//! `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>.scope`), or when user space registered its parent. One
//! inside a container that is known already is never marked: it has that container's leases, and a container that may
//! make cgroups could otherwise rename itself out of them.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use bulkhead_abi::{
    guard::{GuardCounters, HOLD_NS},
    slot::{ANCESTOR_LEVELS_MAX, FLAG_UNRESOLVED, Slot},
};

use crate::{
    maps::{GUARD_COUNTERS, NAME, PARENTS, SETTINGS, SLOTS},
    verdict::{add, now},
};

/// `cgroup.kn`, in bytes; set before the load from the running kernel's BTF, as are all of these.
#[unsafe(no_mangle)]
static OFFSET_CGROUP_KN: u32 = 0;
/// `cgroup.root`.
#[unsafe(no_mangle)]
static OFFSET_CGROUP_ROOT: u32 = 0;
/// `cgroup_root.hierarchy_id`.
#[unsafe(no_mangle)]
static OFFSET_ROOT_HIERARCHY: u32 = 0;
/// `kernfs_node.id`.
#[unsafe(no_mangle)]
static OFFSET_KN_ID: u32 = 0;
/// `kernfs_node.parent`, `__parent` since 6.15.
#[unsafe(no_mangle)]
static OFFSET_KN_PARENT: u32 = 0;
/// `kernfs_node.name`.
#[unsafe(no_mangle)]
static OFFSET_KN_NAME: u32 = 0;

/// Digits of an engine's id.
const ID_DIGITS: usize = 64;
/// How deep below the guards' root a container may begin. Twice what look-ups walk: deeper ones are nobody's.
const LEVELS_MAX: u32 = 2 * ANCESTOR_LEVELS_MAX;
/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;

/// A cgroup was made.
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub fn guard_cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    let _ = made(&ctx);
    0
}

/// A cgroup was removed.
#[raw_tracepoint(tracepoint = "cgroup_rmdir")]
pub fn guard_cgroup_rmdir(ctx: RawTracePointContext) -> i32 {
    if let Some(node) = node(&ctx)
        && let Some(id) = read::<u64>(node, offset(&OFFSET_KN_ID))
    {
        // Not there is what most cgroups are.
        let _ = SLOTS.remove(id);
        let _ = PARENTS.remove(id);
    }
    0
}

/// An offset, read so that the compiler does not take it for the 0 it is compiled with.
#[inline(always)]
fn offset(of: &'static u32) -> u64 {
    // SAFETY: a live static.
    u64::from(unsafe { core::ptr::read_volatile(of) })
}

/// Reads kernel memory.
#[inline(always)]
fn read<T: Copy>(base: u64, offset: u64) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the source, and writes all of `value` or fails.
    let failed = unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            (base + offset) as *const _,
        )
    };
    // SAFETY: written, as just checked.
    (failed == 0).then(|| unsafe { value.assume_init() })
}

/// The directory behind a cgroup of the unified hierarchy; the others' ids are numbered apart, and would collide.
#[inline(always)]
fn node(ctx: &RawTracePointContext) -> Option<u64> {
    // SAFETY: the first argument of both tracepoints is a `struct cgroup *`.
    let cgroup = unsafe { *(ctx.as_ptr().cast::<u64>()) };
    let root = read::<u64>(cgroup, offset(&OFFSET_CGROUP_ROOT))?;
    if read::<u32>(root, offset(&OFFSET_ROOT_HIERARCHY))? != 0 {
        return None;
    }
    read::<u64>(cgroup, offset(&OFFSET_CGROUP_KN))
}

#[inline(always)]
fn made(ctx: &RawTracePointContext) -> Option<()> {
    let node = node(ctx)?;
    let id = read::<u64>(node, offset(&OFFSET_KN_ID))?;
    let parent = read::<u64>(node, offset(&OFFSET_KN_PARENT))?;
    let parent_id = read::<u64>(parent, offset(&OFFSET_KN_ID))?;
    // SAFETY: only its presence counts.
    let registered = unsafe { PARENTS.get(parent_id) }.is_some();
    if !registered && !is_container(read::<u64>(node, offset(&OFFSET_KN_NAME))?) {
        return None;
    }
    let settings = SETTINGS.get(0)?;
    let mut above = parent;
    let mut ours = false;
    let mut level = 0;
    while level < LEVELS_MAX {
        let id = read::<u64>(above, offset(&OFFSET_KN_ID))?;
        // SAFETY: only its presence counts.
        if unsafe { SLOTS.get(id) }.is_some() {
            return None;
        }
        if id == settings.root {
            ours = true;
            break;
        }
        above = read::<u64>(above, offset(&OFFSET_KN_PARENT))?;
        if above == 0 {
            break;
        }
        level += 1;
    }
    if !ours {
        return None;
    }
    let hold = if settings.hold_ns == 0 { HOLD_NS } else { settings.hold_ns };
    let slot = Slot {
        index: 0,
        flags: FLAG_UNRESOLVED,
        container: 0,
        workload: 0,
        unresolved_until_ns: now() + hold,
    };
    let counters: *mut GuardCounters = GUARD_COUNTERS.get_ptr_mut(0)?;
    // SAFETY: a live element of an array map.
    unsafe {
        match SLOTS.insert(id, slot, NO_EXIST) {
            Ok(()) => add(core::ptr::addr_of_mut!((*counters).marked), 1),
            Err(_) => add(core::ptr::addr_of_mut!((*counters).mark_failed), 1),
        }
    }
    Some(())
}

/// Whether a name ends in an engine's id, with or without `.scope` behind it; a monitor's (`conmon`) does not count.
#[inline(always)]
fn is_container(name: u64) -> bool {
    let Some(room) = NAME.get_ptr_mut(0) else { return false };
    // SAFETY: the helper writes at most 256 bytes into the 256 of the element.
    let length = unsafe { bpf_probe_read_kernel_str(room.cast(), 256, name as *const _) };
    if length < ID_DIGITS as i64 + 1 {
        return false;
    }
    // Without the terminating zero.
    let mut end = length as u64 - 1;
    if read::<[u8; 6]>(name, end - 6).is_some_and(|tail| tail == *b".scope") {
        end -= 6;
        if end < ID_DIGITS as u64 {
            return false;
        }
    }
    let start = end - ID_DIGITS as u64;
    if start > 0 {
        // A word of letters may stand before the id, parted by a dash.
        if read::<u8>(name, start - 1) != Some(b'-') {
            return false;
        }
        if start >= 7 && read::<[u8; 7]>(name, start - 7).is_some_and(|word| word == *b"conmon-") {
            return false;
        }
    }
    let Some(id) = read::<[u8; ID_DIGITS]>(name, start) else { return false };
    let mut digit = 0;
    while digit < ID_DIGITS {
        if !matches!(id[digit], b'0'..=b'9' | b'a'..=b'f') {
            return false;
        }
        digit += 1;
    }
    true
}
