//! Ways around a firewall, row by row: each is denied. The table is in `SECURITY.md`; its twin is `escapes_seen`.
//!
//! Each row tries a denied peer first and a free one after it, and looks at what arrives outside: the free one's packet
//! must come first and alone. So nothing is concluded from silence.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_loader::guard::{Guard, Rule, Wall, Who};
use bulkhead_loader::netns;
use support::container::{Cgroup, join, run, start};
use support::link::{INSIDE, Link, PEER6};
use support::raw::{connect, echo, end, ipv4, send_frame, send_to, sockaddr, socket, udp, v4};
use support::standing::{CONTAINER, Standing, WORKLOAD, deny, host, quarantine};
use support::uring;

/// The peer that is denied.
const DENIED: &str = "203.0.113.7";
/// A peer that is not, in the same network.
const FREE: &str = "203.0.113.8";
const PORT: u16 = 9000;
/// Long enough for a stopped machine; nothing waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A container with a denied peer, and what listens outside.
struct Trial {
    sink: UdpSocket,
    link: Link,
    /// Before its parent, so that it goes first.
    container: Cgroup,
    standing: Standing,
}

impl Trial {
    fn open() -> Option<Self> {
        let mut standing = Standing::open("escapes")?;
        let link = Link::new();
        let container = standing.container("a");
        standing.apply(&[deny(1, Who::Container(CONTAINER + 1), host(DENIED))]);
        let sink = link.outside.enter(|| UdpSocket::bind(end("::", PORT)).unwrap()).unwrap();
        sink.set_read_timeout(Some(PATIENCE)).unwrap();
        Some(Self { sink, link, container, standing })
    }

    /// Runs in the container and its namespace.
    fn inside<T: std::fmt::Debug>(&self, work: impl FnOnce() -> T) -> String {
        run(&self.container, Some(&self.link.inside()), work).said
    }

    /// What arrives outside first.
    fn arrived(&self) -> String {
        let mut room = [0; 64];
        let (length, _) = self.sink.recv_from(&mut room).unwrap();
        String::from_utf8_lossy(&room[..length]).into_owned()
    }

    /// Accepts outside for as long as the test lives.
    fn listen(&self, port: u16) {
        let bind = move || TcpListener::bind(end("::", port)).unwrap();
        let listener = self.link.outside.enter(bind).unwrap();
        thread::spawn(move || while listener.accept().is_ok() {});
    }

    /// Packets and calls that measure 1 has stopped.
    fn stopped(&self) -> (u64, u64) {
        let hits = self.standing.guard.hits(1).unwrap().unwrap();
        (hits.packets, hits.calls)
    }

    /// The wall at the host's end of the container's link, which here is in the namespace outside.
    fn wall(&self) {
        let pins = self.standing.pins.clone();
        let inside = std::fs::File::open(self.link.inside()).unwrap();
        let cgroup = self.container.id();
        self.link
            .outside
            .enter(move || {
                let ends = netns::ends(&inside).unwrap();
                assert_eq!((ends.host.len(), ends.elsewhere), (1, 0));
                let owner = Wall { cgroup, container: CONTAINER + 1, workload: WORKLOAD };
                Guard::open(&pins).unwrap().put_wall(ends.host[0], owner).unwrap();
            })
            .unwrap();
    }

    /// Name of the container's interface, and the link-layer address of its other end.
    fn interface(&self) -> (String, [u8; 6]) {
        let name = |links: String| {
            let line =
                links.lines().find(|l| l.contains("veth") || l.contains("bh")).unwrap().to_owned();
            line.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned()
        };
        let inside = name(self.link.inside.ip(&["-o", "link", "show", "type", "veth"]).unwrap());
        let outside = self.link.outside.ip(&["-o", "link", "show", "type", "veth"]).unwrap();
        let mac = outside.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
        let bytes: Vec<u8> = mac.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
        (inside, bytes.try_into().unwrap())
    }
}

fn permission(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

#[test]
fn tcp_is_denied_with_eperm() {
    let Some(trial) = Trial::open() else { return };
    trial.listen(80);
    let said = trial.inside(|| {
        let denied = TcpStream::connect(end(DENIED, 80)).unwrap_err();
        (permission(&denied), TcpStream::connect(end(FREE, 80)).is_ok())
    });
    assert_eq!(said, "(true, true)");
    assert_eq!(trial.stopped(), (0, 1));
}

#[test]
fn connected_udp_is_denied_at_connect_and_when_it_was_connected_before() {
    let Some(mut trial) = Trial::open() else { return };
    let rules = [deny(1, Who::Container(CONTAINER + 1), host(DENIED))];
    trial.standing.apply(&[]);
    let (mut go, gone) = io::pipe().unwrap();
    let mut running = start(&trial.container, Some(&trial.link.inside()), |voice| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(end(DENIED, PORT)).unwrap();
        voice.ready();
        go.read_exact(&mut [0]).unwrap();
        let sent = socket.send(b"denied").unwrap_err();
        let again = UdpSocket::bind("0.0.0.0:0").unwrap().connect(end(DENIED, PORT)).unwrap_err();
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"free", end(FREE, PORT)).unwrap();
        (permission(&sent), permission(&again))
    });
    running.wait_ready();
    trial.standing.apply(&rules);
    (&gone).write_all(b"!").unwrap();
    assert_eq!(running.wait().said, "(true, true)");
    assert_eq!(trial.arrived(), "free");
    assert_eq!(trial.stopped(), (1, 1));
}

#[test]
fn unconnected_udp_is_denied_with_eperm() {
    let Some(trial) = Trial::open() else { return };
    let said = trial.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let denied = socket.send_to(b"denied", end(DENIED, PORT)).unwrap_err();
        socket.send_to(b"free", end(FREE, PORT)).unwrap();
        permission(&denied)
    });
    assert_eq!(said, "true");
    assert_eq!(trial.arrived(), "free");
    assert_eq!(trial.stopped(), (0, 1));
}

#[test]
fn ipv6_is_denied_and_its_mapped_form_is_ipv4() {
    let Some(mut trial) = Trial::open() else { return };
    let who = Who::Container(CONTAINER + 1);
    trial.standing.apply(&[deny(1, who, host(DENIED)), deny(2, who, host(PEER6))]);
    let said = trial.inside(|| {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        let mapped = socket.send_to(b"denied", end(&format!("::ffff:{DENIED}"), PORT));
        let plain = socket.send_to(b"denied", end(PEER6, PORT));
        socket.send_to(b"free", end(&format!("::ffff:{FREE}"), PORT)).unwrap();
        (permission(&mapped.unwrap_err()), permission(&plain.unwrap_err()))
    });
    assert_eq!(said, "(true, true)");
    assert_eq!(trial.arrived(), "free");
}

#[test]
fn icmp_is_denied_through_raw_and_ping_sockets() {
    let Some(trial) = Trial::open() else { return };
    trial.link.inside.sysctl("net.ipv4.ping_group_range", "0 0").unwrap();
    let echoes = || Link::truth(&trial.link.outside)["Icmp.InEchos"];
    let before = echoes();
    let said = trial.inside(|| {
        [libc::SOCK_RAW, libc::SOCK_DGRAM].map(|kind| {
            let socket = socket(libc::AF_INET, kind, libc::IPPROTO_ICMP).unwrap();
            let denied = send_to(socket.as_raw_fd(), &echo(), 0, v4(DENIED, 0)).unwrap_err();
            send_to(socket.as_raw_fd(), &echo(), 0, v4(FREE, 0)).unwrap();
            let mut answer = [0; 64];
            let answered = std::fs::File::from(socket).read(&mut answer).is_ok();
            (permission(&denied), answered)
        })
    });
    assert_eq!(said, "[(true, true), (true, true)]");
    assert_eq!(echoes() - before, 2, "the free ones alone");
}

#[test]
fn a_raw_packet_with_a_header_of_its_own_is_denied() {
    let Some(trial) = Trial::open() else { return };
    let said = trial.inside(|| {
        let socket = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW).unwrap();
        let send = |to: &str, payload: &[u8]| {
            let packet =
                ipv4(INSIDE.parse().unwrap(), to.parse().unwrap(), 17, &udp(5000, PORT, payload));
            send_to(socket.as_raw_fd(), &packet, 0, v4(to, 0))
        };
        let denied = send(DENIED, b"denied").unwrap_err();
        send(FREE, b"free").unwrap();
        permission(&denied)
    });
    assert_eq!(said, "true");
    assert_eq!(trial.arrived(), "free");
}

#[test]
fn af_packet_frames_are_denied_at_the_containers_interface() {
    let Some(trial) = Trial::open() else { return };
    trial.wall();
    let (name, mac) = trial.interface();
    trial.inside(|| {
        for (to, payload) in [(DENIED, &b"denied"[..]), (FREE, b"free")] {
            let to: Ipv4Addr = to.parse().unwrap();
            let packet = ipv4(INSIDE.parse().unwrap(), to, 17, &udp(5000, PORT, payload));
            send_frame(&name, mac, &packet).unwrap();
        }
    });
    assert_eq!(trial.arrived(), "free");
    assert_eq!(trial.stopped(), (1, 0));
}

#[test]
fn quarantine_stops_af_packet_and_the_kernels_own_answers_and_leaves_the_process() {
    let Some(mut trial) = Trial::open() else { return };
    trial.wall();
    let (name, mac) = trial.interface();
    trial.standing.apply(&[quarantine(1, Who::Container(CONTAINER + 1))]);
    let frame = |payload: &'static [u8]| {
        let (name, mac) = (name.clone(), mac);
        move || {
            let to: Ipv4Addr = FREE.parse().unwrap();
            let packet = ipv4(INSIDE.parse().unwrap(), to, 17, &udp(5000, PORT, payload));
            send_frame(&name, mac, &packet).unwrap()
        }
    };
    trial.inside(frame(b"quarantined"));
    // Nobody's socket is in the container: its kernel would answer.
    let ping = |link: &Link| {
        link.outside
            .enter(|| {
                let socket = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).unwrap();
                send_to(socket.as_raw_fd(), &echo(), 0, v4(INSIDE, 0)).unwrap()
            })
            .unwrap();
    };
    let echoes = || Link::truth(&trial.link.inside)["Icmp.InEchos"];
    ping(&trial.link);
    assert_eq!(echoes(), 0);
    trial.standing.guard.apply(&[], &bulkhead_loader::guard::Lists::default()).unwrap();
    trial.inside(frame(b"released"));
    assert_eq!(trial.arrived(), "released");
    // The neighbours have to find each other again first.
    let until = Instant::now() + PATIENCE;
    while echoes() == 0 {
        assert!(Instant::now() < until, "nothing passes after the release");
        ping(&trial.link);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn tcp_fast_open_is_denied() {
    let Some(trial) = Trial::open() else { return };
    trial.listen(80);
    let said = trial.inside(|| {
        let fast = |to| {
            let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
            send_to(socket.as_raw_fd(), b"early", libc::MSG_FASTOPEN, v4(to, 80))
        };
        (permission(&fast(DENIED).unwrap_err()), fast(FREE).unwrap())
    });
    assert_eq!(said, "(true, 5)");
}

#[test]
fn multipath_tcp_is_denied() {
    const MPTCP: i32 = 262;
    let Some(trial) = Trial::open() else { return };
    trial.listen(80);
    if socket(libc::AF_INET, libc::SOCK_STREAM, MPTCP).is_err() {
        // A kernel without it leaves no such way around.
        return;
    }
    let said = trial.inside(|| {
        let open = |to| {
            let socket = socket(libc::AF_INET, libc::SOCK_STREAM, MPTCP).unwrap();
            connect(socket.as_raw_fd(), v4(to, 80))
        };
        (permission(&open(DENIED).unwrap_err()), open(FREE).is_ok())
    });
    assert_eq!(said, "(true, true)");
}

#[test]
fn a_connect_through_io_uring_is_denied() {
    let Some(trial) = Trial::open() else { return };
    if !uring::exists() {
        return;
    }
    trial.listen(80);
    let said = trial.inside(|| {
        [DENIED, FREE].map(|to| {
            let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
            uring::connect(socket.as_raw_fd(), &sockaddr(v4(to, 80)))
        })
    });
    assert_eq!(said, format!("[{}, 0]", -libc::EPERM));
}

#[test]
fn a_tunnel_is_denied_by_its_outer_peer_at_the_interface_and_by_its_inner_one_at_the_socket() {
    let Some(mut trial) = Trial::open() else { return };
    trial.wall();
    let ip = |words: &str| trial.link.inside.ip(&words.split(' ').collect::<Vec<_>>());
    let made = ip(&format!("link add vx0 type vxlan id 7 remote {DENIED} dstport {PORT}"));
    if made.is_err() {
        // A kernel without it leaves no such way around.
        return;
    }
    ip("addr add 192.0.2.1/24 dev vx0").unwrap();
    ip("link set vx0 up").unwrap();
    ip("neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev vx0").unwrap();
    ip("neigh add 192.0.2.8 lladdr 02:00:00:00:00:08 dev vx0").unwrap();
    let who = Who::Container(CONTAINER + 1);
    trial.standing.apply(&[deny(1, who, host(DENIED)), deny(2, who, host("192.0.2.9"))]);
    let said = trial.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let inner = socket.send_to(b"inner", end("192.0.2.9", 1)).unwrap_err();
        // The kernel's own socket carries this one out, to the denied outer peer.
        socket.send_to(b"outer", end("192.0.2.8", 1)).unwrap();
        socket.send_to(b"free", end(FREE, PORT)).unwrap();
        permission(&inner)
    });
    assert_eq!(said, "true");
    assert_eq!(trial.arrived(), "free");
    assert!(trial.stopped().0 >= 1);
}

#[test]
fn a_socket_handed_over_is_denied_if_its_maker_or_its_user_is() {
    let Some(mut trial) = Trial::open() else { return };
    let other = trial.standing.container("other");
    trial.listen(80);
    let inside = trial.link.inside();
    // Made by the denied one, used by the other: its packets are the maker's.
    let made = run(&trial.container, Some(&inside), || {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        join(other.path());
        permission(&send_to(socket.as_raw_fd(), b"denied", 0, v4(DENIED, PORT)).unwrap_err())
    });
    // Made by the other, used by the denied one: datagrams, raw packets and connects.
    let used = run(&other, Some(&inside), || {
        let datagram = socket(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
        connect(datagram.as_raw_fd(), v4(DENIED, PORT)).unwrap();
        let raw = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW).unwrap();
        let stream = socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        join(trial.container.path());
        let packet = ipv4(INSIDE.parse().unwrap(), DENIED.parse().unwrap(), 6, &[0; 20]);
        let sent = std::fs::File::from(datagram).write(b"denied").unwrap_err();
        let raw = send_to(raw.as_raw_fd(), &packet, 0, v4(DENIED, 0)).unwrap_err();
        let stream = connect(stream.as_raw_fd(), v4(DENIED, 80)).unwrap_err();
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"free", end(FREE, PORT)).unwrap();
        (permission(&sent), permission(&raw), permission(&stream))
    });
    assert_eq!((made.said.as_str(), used.said.as_str()), ("true", "(true, true, true)"));
    assert_eq!(trial.arrived(), "free");
}

#[test]
fn a_container_on_the_hosts_network_is_denied_at_its_sockets() {
    let Some(mut standing) = Standing::open("escapes") else { return };
    let cgroup = standing.container("a");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = listener.local_addr().unwrap();
    standing.apply(&[deny(1, Who::Container(CONTAINER + 1), host("127.0.0.1"))]);
    let done = run(&cgroup, None, || permission(&TcpStream::connect(peer).unwrap_err()));
    assert_eq!(done.said, "true");
    assert!(TcpStream::connect(peer).is_ok(), "the host's own processes are never matched");
}

#[test]
fn of_containers_that_share_a_namespace_only_the_denied_one_is() {
    let Some(mut trial) = Trial::open() else { return };
    let other = trial.standing.container("other");
    let send = |payload: &'static [u8]| {
        move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(payload, end(DENIED, PORT)).is_ok()
        }
    };
    assert_eq!(trial.inside(send(b"denied")), "false");
    let done = run(&other, Some(&trial.link.inside()), send(b"other"));
    assert_eq!((done.said.as_str(), trial.arrived().as_str()), ("true", "other"));
}

#[test]
fn a_nested_cgroup_is_denied_with_its_container() {
    let Some(trial) = Trial::open() else { return };
    let payload = trial.container.child("payload");
    let nested = payload.child("deeper");
    // A name like an engine's, made inside, is no new container.
    let named = trial.container.child(&bulkhead_tests::scratch::container_id());
    for cgroup in [&nested, &named] {
        let done = run(cgroup, Some(&trial.link.inside()), || {
            permission(&TcpStream::connect(end(DENIED, 80)).unwrap_err())
        });
        assert_eq!(done.said, "true");
    }
    assert_eq!(trial.standing.guard.counters().unwrap().marked, 0);
}

#[test]
fn an_established_flow_stops_in_both_directions() {
    let Some(mut trial) = Trial::open() else { return };
    let rules: [Rule; 1] = [deny(1, Who::Container(CONTAINER + 1), host(DENIED))];
    trial.standing.apply(&[]);
    let bind = || TcpListener::bind(end("::", 80)).unwrap();
    let listener = trial.link.outside.enter(bind).unwrap();
    let (mut go, gone) = io::pipe().unwrap();
    let mut running = start(&trial.container, Some(&trial.link.inside()), |voice| {
        let mut stream = TcpStream::connect(end(DENIED, 80)).unwrap();
        stream.write_all(b"before").unwrap();
        voice.ready();
        go.read_exact(&mut [0]).unwrap();
        // Whether the kernel takes it or not, nothing of it may leave.
        let _ = stream.write_all(b"after");
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"free", end(FREE, PORT)).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.read(&mut [0; 16]).map_err(|e| e.kind())
    });
    let (mut peer, _) = listener.accept().unwrap();
    peer.read_exact(&mut [0; 6]).unwrap();
    running.wait_ready();
    trial.standing.apply(&rules);
    peer.write_all(b"inbound").unwrap();
    (&gone).write_all(b"!").unwrap();
    assert_eq!(running.wait().said, "Err(WouldBlock)");
    assert_eq!(trial.arrived(), "free");
    peer.set_nonblocking(true).unwrap();
    assert_eq!(peer.read(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(trial.stopped().0 >= 2, "one each way at least: {:?}", trial.stopped());
}
