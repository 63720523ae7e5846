//! Where fields lie in the running kernel's structs: set by the loader from its BTF before the programs are loaded.
//!
//! `MISSING` disables what needs the field; nothing falls back to a compiled-in number.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// The kernel has no such field.
pub(crate) const MISSING: u32 = u32::MAX;

macro_rules! offsets {
    ($($name:ident)*) => {
        $(
            #[unsafe(no_mangle)]
            static $name: u32 = MISSING;
        )*
        $(
            #[doc = concat!("`", stringify!($name), "`, as the loader set it.")]
            #[expect(non_snake_case, reason = "named as the global that the loader sets")]
            pub(crate) mod $name {
                /// The offset in bytes.
                #[inline(always)]
                pub(crate) fn get() -> u32 {
                    // SAFETY: a read of a static; volatile because the loader rewrites it in the object.
                    unsafe { core::ptr::read_volatile(&raw const super::$name) }
                }
            }
        )*
    };
}

offsets! {
    TASK_TGID TASK_PID TASK_REAL_PARENT TASK_CGROUPS TASK_FILES TASK_CRED TASK_STATUS
    CSS_SET_DFL_CGRP CGROUP_KN CGROUP_LEVEL CGROUP_ANCESTORS CGROUP_ROOT ROOT_HIERARCHY KERNFS_NODE_ID
    FILES_FDT FDTABLE_FD FDTABLE_MAX_FDS FILE_INODE INODE_MODE FILE_DENTRY DENTRY_NAME
    FILE_PRIVATE SOCKET_SK SOCK_FAMILY
    BPRM_FILENAME BPRM_FILE CRED_EUID
}

/// Reads a value at an offset of a kernel object; `None` when the field is missing or the address cannot be read.
#[inline(always)]
pub(crate) fn read<T: Copy>(object: u64, offset: u32) -> Option<T> {
    if offset == MISSING || object == 0 {
        return None;
    }
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    let from = (object + u64::from(offset)) as *const core::ffi::c_void;
    // SAFETY: the helper checks the source and fills the destination; `T` is a plain number at every call.
    let result =
        unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from) };
    // SAFETY: the helper filled it: it answered 0.
    (result == 0).then(|| unsafe { value.assume_init() })
}
