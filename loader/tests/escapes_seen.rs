//! Ways around a firewall, row by row: each is seen, and attributed to the container that took it.
//!
//! The table is in `SECURITY.md`. What never reaches `cgroup_skb` (AF_PACKET frames, tunnels' outer packets) is seen as the
//! socket or device that it needs, by the system-call observers; its packets are not, and a test here says so.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    thread,
};

use bulkhead_loader::observe::network::{Direction, Known, NetworkAct, NetworkEvent};
use support::{
    container::{join, run},
    link::{INSIDE, Link, PEER, PEER6},
    program, uring,
    watch::Watch,
};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

fn address(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse::<IpAddr>().unwrap(), port)
}

/// Accepts connections outside for as long as the test lives, and lets each go.
fn listen(link: &Link, port: u16) {
    let listener =
        link.outside.enter(move || TcpListener::bind(address("::", port)).unwrap()).unwrap();
    thread::spawn(move || while listener.accept().is_ok() {});
}

/// A socket, or why the kernel has none of that kind.
fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain call.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, owned here alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn sockaddr(peer: SocketAddr) -> libc::sockaddr_in {
    let SocketAddr::V4(peer) = peer else { panic!("these tests write IPv4 addresses by hand") };
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: peer.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*peer.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

fn connect(fd: RawFd, peer: SocketAddr) -> io::Result<()> {
    let peer = sockaddr(peer);
    // SAFETY: the address is of the size given.
    let result = unsafe { libc::connect(fd, (&raw const peer).cast(), 16) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn send_to(fd: RawFd, bytes: &[u8], flags: i32, peer: SocketAddr) -> io::Result<usize> {
    let peer = sockaddr(peer);
    // SAFETY: the address and the bytes are of the sizes given.
    let sent = unsafe {
        libc::sendto(fd, bytes.as_ptr().cast(), bytes.len(), flags, (&raw const peer).cast(), 16)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// What every row asks: this act, of this process, to this peer.
fn assert_attributed(event: &NetworkEvent, pid: u32, peer: SocketAddr, known: Known) {
    assert_eq!(event.peer, Some(peer));
    let actor = event.actor.as_ref().expect("the process is known");
    assert_eq!((actor.pid, actor.known), (pid, known));
}

#[test]
fn tcp_is_seen_and_attributed() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    listen(&link, 80);
    let peer = address(PEER, 80);
    let done = run(&cgroup, Some(&link.inside()), || drop(TcpStream::connect(peer).unwrap()));
    assert_attributed(&watch.act(slot, NetworkAct::Connect), done.pid, peer, Known::Caller);
}

#[test]
fn connected_udp_is_seen_and_attributed() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let peer = address(PEER, 9000);
    let done = run(&cgroup, Some(&link.inside()), || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(peer).unwrap();
        socket.send(&[1]).unwrap();
    });
    assert_attributed(&watch.act(slot, NetworkAct::Connect), done.pid, peer, Known::Caller);
    assert_eq!(watch.flow(slot, Direction::Outbound, UDP).1.packets_out, 1);
}

#[test]
fn unconnected_udp_is_seen_and_attributed() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let peer = address(PEER6, 9000);
    let done = run(&cgroup, Some(&link.inside()), || {
        UdpSocket::bind("[::]:0").unwrap().send_to(&[1], peer).unwrap()
    });
    assert_attributed(&watch.act(slot, NetworkAct::Send), done.pid, peer, Known::Caller);
    assert_eq!(watch.flow(slot, Direction::Outbound, UDP).1.packets_out, 1);
}

#[test]
fn udp_to_another_peer_on_a_connected_socket_is_its_own_act() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let (known, hidden) = (address(PEER, 53), address("203.0.113.7", 4444));
    let done = run(&cgroup, Some(&link.inside()), || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(known).unwrap();
        send_to(socket.as_raw_fd(), &[1; 8], 0, hidden).unwrap()
    });
    assert_attributed(&watch.act(slot, NetworkAct::Send), done.pid, hidden, Known::Caller);
    let flows = watch.flows(slot);
    let (_, flow) = flows.iter().find(|(key, _)| key.peer_port == 4444).unwrap();
    assert_eq!(flow.packets_out, 1);
}

#[test]
fn mapped_ipv6_is_seen_as_its_ipv4_peer() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let mapped = address(&format!("::ffff:{PEER}"), 9000);
    let done = run(&cgroup, Some(&link.inside()), || {
        UdpSocket::bind("[::]:0").unwrap().send_to(&[1], mapped).unwrap()
    });
    let event = watch.act(slot, NetworkAct::Send);
    assert_attributed(&event, done.pid, address(PEER, 9000), Known::Caller);
    assert!(event.mapped);
}

/// An echo request with its checksum (RFC 792).
fn echo() -> [u8; 16] {
    let mut message = [0; 16];
    message[0] = 8;
    message[7] = 1;
    let sum: u32 = message.chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(p[1])).sum();
    message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    message
}

#[test]
fn icmp_through_a_raw_socket_is_seen_and_attributed_to_who_made_it() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let done = run(&cgroup, Some(&link.inside()), || {
        let socket = socket(libc::AF_INET, libc::SOCK_RAW, i32::from(ICMP)).unwrap();
        send_to(socket.as_raw_fd(), &echo(), 0, address(PEER, 0)).unwrap();
        let mut answer = [0; 64];
        std::fs::File::from(socket).read(&mut answer).unwrap()
    });
    assert_eq!(done.said, "36");
    let event = watch.act(slot, NetworkAct::Packet);
    assert_attributed(&event, done.pid, address(PEER, 0), Known::Creator);
    let (_, flow) = watch.flow(slot, Direction::Outbound, ICMP);
    assert_eq!((flow.packets_out, flow.bytes_out), (1, 36));
    assert_eq!((flow.packets_in, flow.bytes_in), (1, 36));
}

#[test]
fn icmp_through_a_ping_socket_is_seen_and_attributed() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    link.inside.sysctl("net.ipv4.ping_group_range", "0 0").unwrap();
    let (cgroup, slot) = watch.container("a");
    let done = run(&cgroup, Some(&link.inside()), || {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, i32::from(ICMP)).unwrap();
        connect(socket.as_raw_fd(), address(PEER, 0)).unwrap();
        send_to(socket.as_raw_fd(), &echo(), 0, address(PEER, 0)).unwrap()
    });
    let event = watch.act(slot, NetworkAct::Connect);
    assert_attributed(&event, done.pid, address(PEER, 0), Known::Caller);
    assert_eq!(event.protocol, ICMP);
    assert_eq!(watch.flow(slot, Direction::Outbound, ICMP).1.packets_out, 1);
}

#[test]
fn a_raw_packet_with_a_header_of_its_own_is_seen_and_attributed() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let peer = address("203.0.113.9", 4444);
    let done = run(&cgroup, Some(&link.inside()), || {
        let socket = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW).unwrap();
        let octets = |host: &str| host.parse::<Ipv4Addr>().unwrap().octets();
        let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, UDP, 0, 0];
        packet.extend(octets(INSIDE));
        packet.extend(octets("203.0.113.9"));
        packet.extend([0x10, 0, 0x11, 0x5c, 0, 16, 0, 0]);
        packet.extend([7; 8]);
        send_to(socket.as_raw_fd(), &packet, 0, peer).unwrap()
    });
    assert_eq!(done.said, "36");
    assert_attributed(&watch.act(slot, NetworkAct::Packet), done.pid, peer, Known::Creator);
    let (key, flow) = watch.flow(slot, Direction::Outbound, UDP);
    assert_eq!((key.peer_port, flow.packets_out, flow.bytes_out), (4444, 1, 36));
}

#[test]
fn packets_of_af_packet_are_not_seen_here() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    run(&cgroup, Some(&link.inside()), || {
        let socket = socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0).unwrap();
        let peer = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0x0800_u16.to_be(),
            sll_ifindex: 1,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        // SAFETY: the address is of the size given.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                [0_u8; 40].as_ptr().cast(),
                40,
                0,
                (&raw const peer).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        assert_eq!(sent, 40);
    });
    assert_eq!(watch.counters(slot).packets_out, 0, "the honest line of the table");
}

#[test]
fn tcp_fast_open_is_seen_and_attributed() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    listen(&link, 80);
    let peer = address(PEER, 80);
    let done = run(&cgroup, Some(&link.inside()), || {
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        send_to(socket.as_raw_fd(), b"early", libc::MSG_FASTOPEN, peer).unwrap()
    });
    assert_attributed(&watch.act(slot, NetworkAct::Connect), done.pid, peer, Known::Caller);
    assert_eq!(watch.flow(slot, Direction::Outbound, TCP).1.established, 1);
}

#[test]
fn multipath_tcp_is_seen_and_attributed() {
    const MPTCP: i32 = 262;
    let Some(mut watch) = Watch::open("escapes") else { return };
    if socket(libc::AF_INET, libc::SOCK_STREAM, MPTCP).is_err() {
        // A kernel without it leaves no such way around.
        return;
    }
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let peer = address(PEER, 80);
    let listener = link
        .outside
        .enter(move || {
            let socket = socket(libc::AF_INET, libc::SOCK_STREAM, MPTCP).unwrap();
            let here = sockaddr(peer);
            // SAFETY: the address is of the size given.
            unsafe {
                assert_eq!(libc::bind(socket.as_raw_fd(), (&raw const here).cast(), 16), 0);
                assert_eq!(libc::listen(socket.as_raw_fd(), 8), 0);
            }
            TcpListener::from(socket)
        })
        .unwrap();
    thread::spawn(move || while listener.accept().is_ok() {});
    let done = run(&cgroup, Some(&link.inside()), || {
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM, MPTCP).unwrap();
        connect(socket.as_raw_fd(), peer).unwrap();
    });
    let event = watch.act(slot, NetworkAct::Connect);
    assert_attributed(&event, done.pid, peer, Known::Caller);
    assert_eq!(event.protocol, TCP);
    let (_, flow) = watch.flow(slot, Direction::Outbound, TCP);
    assert_eq!(flow.established, 1);
    assert!(flow.packets_out >= 2, "{flow:?}");
}

#[test]
fn a_connect_through_io_uring_is_seen_and_attributed() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    if !uring::exists() {
        return;
    }
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    listen(&link, 80);
    let peer = address(PEER, 80);
    let done = run(&cgroup, Some(&link.inside()), || {
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        uring::connect(socket.as_raw_fd(), &sockaddr(peer))
    });
    assert_eq!(done.said, "0");
    assert_attributed(&watch.act(slot, NetworkAct::Connect), done.pid, peer, Known::Caller);
    assert_eq!(watch.flow(slot, Direction::Outbound, TCP).1.established, 1);
}

#[test]
fn a_tunnels_inner_packets_are_seen_and_its_outer_ones_are_not() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let inner = address("203.0.113.130", 9000);
    let words = format!("link add tun0 type vxlan id 7 remote {PEER} dstport 4789");
    if link.inside.ip(&words.split(' ').collect::<Vec<_>>()).is_err() {
        // A kernel without it leaves no such way around.
        return;
    }
    for words in [
        "addr add 203.0.113.129/25 dev tun0",
        "link set tun0 up",
        "neigh add 203.0.113.130 lladdr 02:00:00:00:00:01 dev tun0",
    ] {
        link.inside.ip(&words.split(' ').collect::<Vec<_>>()).unwrap();
    }
    let before = Link::truth(&link.outside)["Ip.InReceives"];
    let done = run(&cgroup, Some(&link.inside()), || {
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&[1; 100], inner).unwrap()
    });
    assert!(Link::truth(&link.outside)["Ip.InReceives"] > before, "the outer packet has left");
    assert_attributed(&watch.act(slot, NetworkAct::Send), done.pid, inner, Known::Caller);
    let (key, flow) = watch.flow(slot, Direction::Outbound, UDP);
    assert_eq!((key.peer, flow.packets_out), (inner.ip(), 1), "the honest line of the table");
}

#[test]
fn a_socket_handed_over_counts_for_the_container_that_uses_it_and_names_the_one_that_made_it() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (maker, maker_slot) = watch.container("maker");
    let (user, user_slot) = watch.container("user");
    listen(&link, 80);
    let peer = address(PEER, 80);
    // One process that changes containers in between: the socket keeps the cgroup that made it.
    let done = run(&maker, Some(&link.inside()), || {
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        join(user.path());
        connect(socket.as_raw_fd(), peer).unwrap();
    });
    let event = watch.act(user_slot, NetworkAct::Connect);
    assert_attributed(&event, done.pid, peer, Known::Caller);
    assert_eq!(event.passed_from, Some(maker_slot));
    assert_eq!(watch.flow(user_slot, Direction::Outbound, TCP).1.established, 1);
    assert!(watch.acts(maker_slot).is_empty());
    assert_eq!(watch.counters(maker_slot).packets_out, 0);
}

#[test]
fn a_socket_from_the_host_counts_for_the_container_that_uses_it() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let host = watch.root.child("host");
    let (user, user_slot) = watch.container("user");
    let peer = address(PEER, 9000);
    run(&host, Some(&link.inside()), || {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        join(user.path());
        send_to(socket.as_raw_fd(), &[1; 8], 0, peer).unwrap()
    });
    let event = watch.act(user_slot, NetworkAct::Send);
    assert_eq!((event.peer, event.passed_from), (Some(peer), Some(0)));
    assert_eq!(watch.flow(user_slot, Direction::Outbound, UDP).1.packets_out, 1);
}

#[test]
fn containers_that_share_a_namespace_are_told_apart() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (a, a_slot) = watch.container("a");
    let (b, b_slot) = watch.container("b");
    let host = watch.root.child("host");
    let send = |port| {
        move || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&[1], address(PEER, port)).unwrap()
    };
    run(&a, Some(&link.inside()), send(1001));
    run(&b, Some(&link.inside()), send(1002));
    run(&host, Some(&link.inside()), send(1003));
    for (slot, port) in [(a_slot, 1001), (b_slot, 1002)] {
        assert_eq!(watch.act(slot, NetworkAct::Send).peer, Some(address(PEER, port)));
        let (key, flow) = watch.flow(slot, Direction::Outbound, UDP);
        assert_eq!((key.peer_port, flow.packets_out), (port, 1));
    }
    assert!(watch.acts(0).is_empty(), "the host is nobody's container");
}

#[test]
fn a_nested_cgroup_belongs_to_its_container() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let payload = cgroup.child("payload");
    let nested = payload.child("deeper");
    let peer = address(PEER, 9000);
    let done = run(&nested, Some(&link.inside()), || {
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&[1], peer).unwrap()
    });
    let event = watch.act(slot, NetworkAct::Send);
    assert_attributed(&event, done.pid, peer, Known::Caller);
    assert_eq!(event.cgroup, cgroup.id());
    assert_eq!(watch.flow(slot, Direction::Outbound, UDP).1.packets_out, 1);
}

#[test]
fn a_container_on_the_hosts_network_is_seen_like_any_other() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let (cgroup, slot) = watch.container("a");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = listener.local_addr().unwrap();
    let done = run(&cgroup, None, || drop(TcpStream::connect(peer).unwrap()));
    assert_attributed(&watch.act(slot, NetworkAct::Connect), done.pid, peer, Known::Caller);
}

#[test]
fn a_refused_call_is_seen_and_said_to_be_refused() {
    let Some(mut watch) = Watch::open("escapes") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let peer = address(PEER, 80);
    let _connect = program::refuse(cgroup.path(), program::CONNECT4);
    let _send = program::refuse(cgroup.path(), program::SENDMSG4);
    let done = run(&cgroup, Some(&link.inside()), || {
        for _ in 0..3 {
            let refused = TcpStream::connect(peer).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        }
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert_eq!(socket.send_to(&[1], peer).unwrap_err().raw_os_error(), Some(libc::EPERM));
    });
    for act in [NetworkAct::Connect, NetworkAct::Send] {
        let event = watch.act(slot, act);
        assert_attributed(&event, done.pid, peer, Known::Caller);
        assert!(event.refused);
    }
    let (_, flow) = watch.flow(slot, Direction::Outbound, TCP);
    assert_eq!((flow.attempts, flow.refused, flow.packets_out), (3, 3, 0));
    assert_eq!(watch.counters(slot).refused, 4);
}
