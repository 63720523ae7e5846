//! A smallest possible guard: a program that refuses every call of one hook, loaded without any of the product's code.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

/// `BPF_CGROUP_INET4_CONNECT`.
pub const CONNECT4: u32 = 10;
/// `BPF_CGROUP_UDP4_SENDMSG`.
pub const SENDMSG4: u32 = 14;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const SOCK_ADDR: u32 = 18;
/// `r0 = 0; exit`.
const REFUSE: [u64; 2] = [0xb7, 0x95];

/// The attributes of a program's load, up to the last field that is used here.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
}

/// The attributes of a link.
#[repr(C)]
#[derive(Default)]
struct Link {
    program: i32,
    target: i32,
    attach_type: u32,
    flags: u32,
}

/// Refuses every call of a hook within a cgroup, until the result is dropped.
pub fn refuse(cgroup: &Path, hook: u32) -> OwnedFd {
    let load = Load {
        kind: SOCK_ADDR,
        instructions_count: 2,
        instructions: REFUSE.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        attach_type: hook,
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load);
    let target = File::open(cgroup).expect("the cgroup exists");
    let link = Link {
        program: program.as_raw_fd(),
        target: target.as_raw_fd(),
        attach_type: hook,
        flags: 0,
    };
    bpf(BPF_LINK_CREATE, &link)
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> OwnedFd {
    // SAFETY: the kernel reads as many bytes as given, and what they point to is alive.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    assert!(fd >= 0, "bpf({command}): {}", io::Error::last_os_error());
    // SAFETY: a new descriptor, owned here alone.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}
