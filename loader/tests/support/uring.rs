//! One operation through `io_uring`, by its system calls alone.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

const OP_CONNECT: u8 = 16;
const ENTER_GETEVENTS: u32 = 1;
const OFFSET_SQ_RING: i64 = 0;
const OFFSET_CQ_RING: i64 = 0x800_0000;
const OFFSET_ENTRIES: i64 = 0x1000_0000;

/// Offsets into the submission ring (`struct io_sqring_offsets`).
#[repr(C)]
#[derive(Default)]
struct Submissions {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    reserved: u32,
    user: u64,
}

/// Offsets into the completion ring (`struct io_cqring_offsets`).
#[repr(C)]
#[derive(Default)]
struct Completions {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    overflow: u32,
    entries_at: u32,
    flags: u32,
    reserved: u32,
    user: u64,
}

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct Parameters {
    submissions: u32,
    completions: u32,
    flags: u32,
    cpu: u32,
    idle: u32,
    features: u32,
    workers: u32,
    reserved: [u32; 3],
    submission: Submissions,
    completion: Completions,
}

/// `struct io_uring_sqe`, as far as a connect uses it.
#[repr(C)]
struct Entry {
    operation: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    /// Length of the address.
    offset: u64,
    address: u64,
    length: u32,
    rest: [u32; 9],
}

const _: () = assert!(size_of::<Entry>() == 64);

fn setup(parameters: &mut Parameters) -> io::Result<OwnedFd> {
    // SAFETY: the structure is as large as the kernel's.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, owned here alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Whether this kernel lets this process use it.
pub fn exists() -> bool {
    setup(&mut Parameters::default()).is_ok()
}

/// Connects a socket; the operation's result: 0, or an error number below 0.
pub fn connect(socket: RawFd, peer: &libc::sockaddr_in) -> i32 {
    let mut parameters = Parameters::default();
    let ring = setup(&mut parameters).expect("`exists` said so");
    let map = |offset| {
        // SAFETY: a new mapping of the ring; a page holds rings of four entries.
        let at = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                ptr::null_mut(),
                4096,
                protection,
                libc::MAP_SHARED,
                ring.as_raw_fd(),
                offset,
            )
        };
        assert!(at != libc::MAP_FAILED, "{}", io::Error::last_os_error());
        at
    };
    let (submit, complete) = (map(OFFSET_SQ_RING), map(OFFSET_CQ_RING));
    let entry = Entry {
        operation: OP_CONNECT,
        flags: 0,
        priority: 0,
        fd: socket,
        offset: size_of::<libc::sockaddr_in>() as u64,
        address: ptr::from_ref(peer) as u64,
        length: 0,
        rest: [0; 9],
    };
    // SAFETY: offsets are the kernel's own, inside the mappings; this process is the ring's only user.
    unsafe {
        map(OFFSET_ENTRIES).cast::<Entry>().write(entry);
        let at =
            |base: *mut libc::c_void, offset: u32| base.byte_add(offset as usize).cast::<u32>();
        at(submit, parameters.submission.array).write(0);
        AtomicU32::from_ptr(at(submit, parameters.submission.tail)).store(1, Ordering::Release);
        let done = libc::syscall(
            libc::SYS_io_uring_enter,
            ring.as_raw_fd(),
            1,
            1,
            ENTER_GETEVENTS,
            ptr::null::<u8>(),
            0,
        );
        assert_eq!(done, 1, "{}", io::Error::last_os_error());
        // A completion is the caller's 8 bytes, then the result.
        at(complete, parameters.completion.entries_at + 8).read().cast_signed()
    }
}
