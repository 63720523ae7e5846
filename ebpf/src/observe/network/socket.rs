//! What is remembered of each container's socket: who made it, who used it, and its peer as asked.

use core::marker::PhantomData;

use aya_ebpf::{
    bindings::{
        BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE,
        bpf_map_type::BPF_MAP_TYPE_SK_STORAGE, bpf_sock,
    },
    helpers::generated::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_sk_storage_get,
    },
};
use bulkhead_abi::network::Actor;

use super::flow::Peer;

/// Nothing is known of the socket's use yet.
pub(crate) const ROLE_NEW: u8 = 0;
/// It opens flows.
pub(crate) const ROLE_CLIENT: u8 = 1;
/// It is a connection that the peer opened.
pub(crate) const ROLE_ACCEPTED: u8 = 2;
/// It listens for connections; a copy of this in a connected socket is a connection just accepted.
pub(crate) const ROLE_LISTENER: u8 = 3;
/// It is a datagram socket that peers reached first.
pub(crate) const ROLE_SERVER: u8 = 4;

/// A request left already: another one is a retry.
pub(crate) const SOCKET_REQUESTED: u8 = 1 << 0;
/// `actor` used the socket; otherwise it made it.
pub(crate) const SOCKET_USED: u8 = 1 << 1;
/// It was bound to a port that somebody chose.
pub(crate) const SOCKET_BOUND: u8 = 1 << 2;
/// It was bound to port 0, so that the kernel chooses.
pub(crate) const SOCKET_EPHEMERAL: u8 = 1 << 3;

/// Value of the socket storage.
#[repr(C)]
pub(crate) struct Socket {
    /// Cgroup, as `SLOTS` knows it, of the container that used the socket, else of the one that made it.
    pub(crate) owner: u64,
    /// Slot of the container that made it; 0 for the host.
    pub(crate) creator: u32,
    /// `ROLE_*`.
    pub(crate) role: u8,
    /// `SOCKET_*`.
    pub(crate) flags: u8,
    /// Zero.
    pub(crate) pad: u16,
    /// Who used it, else who made it.
    pub(crate) actor: Actor,
    /// Peer of the last connect, as asked.
    pub(crate) peer: Peer,
    /// Peer of the last unconnected send, as asked.
    pub(crate) asked: Peer,
}

/// Layout that the loader reads from BTF. Not `aya_ebpf`'s type: that has no room for `BPF_F_CLONE`.
#[repr(C)]
struct Storage {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const Socket,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
    marker: PhantomData<Socket>,
}

// SAFETY: it holds no data; the kernel replaces it by a map.
unsafe impl Sync for Storage {}

/// Sockets of containers. An accepted connection starts with a copy of its listener's value (`BPF_F_CLONE`), which is how
/// it is told from one that is older than the observer.
#[unsafe(link_section = ".maps")]
#[unsafe(export_name = "SOCKETS")]
static SOCKETS: Storage = Storage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
    marker: PhantomData,
};

/// What is remembered of a socket.
#[inline(always)]
pub(crate) fn find(socket: *mut bpf_sock) -> Option<*mut Socket> {
    get(socket, 0)
}

/// What is remembered of a socket, or a new zeroed memory of it; `None` when the kernel has no memory left.
#[inline(always)]
pub(crate) fn find_or_make(socket: *mut bpf_sock) -> Option<*mut Socket> {
    get(socket, BPF_SK_STORAGE_GET_F_CREATE.into())
}

#[inline(always)]
fn get(socket: *mut bpf_sock, flags: u64) -> Option<*mut Socket> {
    let map = core::ptr::addr_of!(SOCKETS).cast_mut();
    // SAFETY: the map is a socket storage of `Socket`s and the kernel checked `socket`.
    let value = unsafe {
        bpf_sk_storage_get(map.cast(), socket.cast(), core::ptr::null_mut(), flags).cast::<Socket>()
    };
    (!value.is_null()).then_some(value)
}

/// Writes the running task into a socket's memory.
#[inline(always)]
pub(crate) fn write_current(actor: *mut Actor) {
    // SAFETY: `actor` points into a live map value or ring record; the helpers cannot fail but for the length of `comm`.
    unsafe {
        let ids = bpf_get_current_pid_tgid();
        (*actor).tid = ids as u32;
        (*actor).pid = (ids >> 32) as u32;
        (*actor).uid = bpf_get_current_uid_gid() as u32;
        bpf_get_current_comm(core::ptr::addr_of_mut!((*actor).comm).cast(), 16);
    }
}
