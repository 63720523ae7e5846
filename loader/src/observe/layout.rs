//! Where the running kernel keeps the fields that the programs read.

use crate::btf::Btf;

/// What a program sees where the kernel has no such field: it disables what needs it.
const MISSING: u32 = u32::MAX;

/// Globals of the object, and the field that each is the offset of.
const FIELDS: [(&str, &str, &str); 26] = [
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_PID", "task_struct", "pid"),
    ("TASK_REAL_PARENT", "task_struct", "real_parent"),
    ("TASK_CGROUPS", "task_struct", "cgroups"),
    ("TASK_FILES", "task_struct", "files"),
    ("TASK_CRED", "task_struct", "cred"),
    ("TASK_STATUS", "task_struct", "thread_info.status"),
    ("CSS_SET_DFL_CGRP", "css_set", "dfl_cgrp"),
    ("CGROUP_KN", "cgroup", "kn"),
    ("CGROUP_LEVEL", "cgroup", "level"),
    ("CGROUP_ANCESTORS", "cgroup", "ancestors"),
    ("CGROUP_ROOT", "cgroup", "root"),
    ("ROOT_HIERARCHY", "cgroup_root", "hierarchy_id"),
    ("KERNFS_NODE_ID", "kernfs_node", "id"),
    ("FILES_FDT", "files_struct", "fdt"),
    ("FDTABLE_FD", "fdtable", "fd"),
    ("FDTABLE_MAX_FDS", "fdtable", "max_fds"),
    ("FILE_INODE", "file", "f_inode"),
    ("INODE_MODE", "inode", "i_mode"),
    ("FILE_PRIVATE", "file", "private_data"),
    ("SOCKET_SK", "socket", "sk"),
    ("SOCK_FAMILY", "sock", "__sk_common.skc_family"),
    ("FILE_DENTRY", "file", "f_path.dentry"),
    ("DENTRY_NAME", "dentry", "d_name.name"),
    ("BPRM_FILENAME", "linux_binprm", "filename"),
    ("BPRM_FILE", "linux_binprm", "file"),
];

/// `TS_COMPAT` of `arch/x86/include/asm/thread_info.h`: the running call came in by the 32-bit ABI.
pub(super) const FOREIGN_STATUS: u32 = if cfg!(target_arch = "x86_64") { 2 } else { 0 };

/// Every global with its offset.
pub(super) fn offsets(btf: &Btf) -> Vec<(&'static str, u32)> {
    let mut offsets: Vec<_> = FIELDS
        .iter()
        .map(|(global, of, field)| (*global, btf.offset(of, field).unwrap_or(MISSING)))
        .collect();
    offsets.push(("CRED_EUID", btf.offset("cred", "euid").unwrap_or(MISSING)));
    offsets
}

/// Fields that this kernel does not have: each disables a feature, which `doctor` names.
pub(crate) fn missing(btf: &Btf) -> Vec<&'static str> {
    offsets(btf)
        .into_iter()
        .filter(|(_, offset)| *offset == MISSING)
        .map(|(name, _)| name)
        .collect()
}

/// Offsets in `pt_regs` of a call's first two arguments: native, then of the 32-bit ABI.
pub(super) fn arguments(btf: &Btf) -> [u32; 4] {
    let native = if cfg!(target_arch = "x86_64") { ["di", "si"] } else { ["regs", "regs"] };
    let [first, second] = native.map(|field| btf.offset("pt_regs", field).unwrap_or(MISSING));
    let second =
        if cfg!(target_arch = "x86_64") || second == MISSING { second } else { second + 8 };
    let foreign = ["bx", "cx"].map(|field| btf.offset("pt_regs", field).unwrap_or(MISSING));
    [first, second, foreign[0], foreign[1]]
}
