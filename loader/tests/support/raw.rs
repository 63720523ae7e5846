//! Sockets that the standard library does not make, and packets written by hand.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// A socket, or why the kernel has none of that kind.
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain call.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, owned here alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An IPv4 end as the kernel takes it.
pub fn sockaddr(peer: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: peer.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*peer.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// Connects.
pub fn connect(fd: RawFd, peer: SocketAddrV4) -> io::Result<()> {
    let peer = sockaddr(peer);
    // SAFETY: the address is of the size given.
    let result = unsafe { libc::connect(fd, (&raw const peer).cast(), 16) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends to a peer.
pub fn send_to(fd: RawFd, bytes: &[u8], flags: i32, peer: SocketAddrV4) -> io::Result<usize> {
    let peer = sockaddr(peer);
    // SAFETY: the address and the bytes are of the sizes given.
    let sent = unsafe {
        libc::sendto(fd, bytes.as_ptr().cast(), bytes.len(), flags, (&raw const peer).cast(), 16)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// An echo request with its checksum (RFC 792).
pub fn echo() -> [u8; 16] {
    let mut message = [0; 16];
    message[0] = 8;
    message[7] = 1;
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(p[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A UDP datagram without a checksum, which IPv4 allows.
pub fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut datagram = Vec::new();
    for word in [from, to, length, 0] {
        datagram.extend(word.to_be_bytes());
    }
    datagram.extend(payload);
    datagram
}

/// Sends an IP packet through `AF_PACKET`, past every socket hook, to a link-layer address.
pub fn send_frame(interface: &str, to: [u8; 6], packet: &[u8]) -> io::Result<usize> {
    let socket = socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?;
    let name = std::ffi::CString::new(interface).expect("a name without zeros");
    // SAFETY: a terminated string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    let mut peer = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0x0800_u16.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    peer.sll_addr[..6].copy_from_slice(&to);
    // SAFETY: the address and the bytes are of the sizes given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const peer).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// An IPv4 end.
pub fn v4(host: &str, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(host.parse().expect("an IPv4 address"), port)
}

/// The same, as any end.
pub fn end(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().expect("an address"), port)
}
