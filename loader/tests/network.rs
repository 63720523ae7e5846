//! What the kernel reports and counts of containers' networks, compared with what really happened: values, not loading.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use bulkhead_loader::observe::network::{Direction, Known, NetworkAct};
use support::{
    container::{Cgroup, run, start},
    link::{INSIDE, INSIDE6, Link, PEER, PEER6},
    watch::Watch,
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// IPv4 and TCP headers: of a request with its options, and of every later segment with timestamps.
const TCP4_REQUEST: u64 = 20 + 40;
const TCP4_SEGMENT: u64 = 20 + 32;

fn address(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse::<IpAddr>().unwrap(), port)
}

/// TCP segments that each end has sent, by the kernel's own count. (What arrives, it counts after merging.)
fn truth(link: &Link) -> (u64, u64) {
    let sent = |netns| Link::truth(netns)["Tcp.OutSegs"];
    (sent(&link.inside), sent(&link.outside))
}

/// Answers TCP connections outside, one after another: reads to the end, then sends `reply` bytes.
fn tcp_server(link: &Link, port: u16, connections: usize, reply: usize) -> thread::JoinHandle<()> {
    let listener =
        link.outside.enter(move || TcpListener::bind(address("::", port)).unwrap()).unwrap();
    thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&vec![7; reply]).unwrap();
        }
    })
}

/// Sends bytes, then reads to the end.
fn tcp_client(peer: SocketAddr, bytes: usize) -> usize {
    let mut stream = TcpStream::connect(peer).unwrap();
    stream.write_all(&vec![1; bytes]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap()
}

#[test]
fn a_connection_is_named_with_its_process_and_counted_to_the_byte() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let server = tcp_server(&link, 443, 1, 3000);
    let before = truth(&link);

    let client = run(&cgroup, Some(&link.inside()), || tcp_client(address(PEER, 443), 500));
    assert_eq!(client.said, "3000");
    server.join().unwrap();

    let event = watch.act(slot, NetworkAct::Connect);
    assert_eq!(event.peer, Some(address(PEER, 443)));
    assert_eq!(event.cgroup, cgroup.id());
    assert_eq!((event.protocol, event.count), (TCP, 1));
    assert!(!event.refused && !event.mapped && event.passed_from.is_none());
    let actor = event.actor.unwrap();
    assert_eq!((actor.pid, actor.uid, actor.known), (client.pid, 0, Known::Caller));

    let (key, flow) = watch.flow(slot, Direction::Outbound, TCP);
    assert_eq!((key.peer, key.peer_port, key.local_port), (PEER.parse().unwrap(), 443, 0));
    let after = truth(&link);
    assert_eq!(flow.packets_out, after.0 - before.0);
    assert_eq!(flow.packets_in, after.1 - before.1);
    assert_eq!(flow.bytes_out, 500 + TCP4_REQUEST + (flow.packets_out - 1) * TCP4_SEGMENT);
    assert_eq!(flow.bytes_in, 3000 + TCP4_REQUEST + (flow.packets_in - 1) * TCP4_SEGMENT);
    assert_eq!((flow.attempts, flow.established, flow.reset, flow.retries), (1, 1, 0, 0));
    assert_eq!(flow.routed, None);

    let counters = watch.counters(slot);
    assert_eq!((counters.packets_out, counters.bytes_out), (flow.packets_out, flow.bytes_out));
    assert_eq!((counters.packets_in, counters.bytes_in), (flow.packets_in, flow.bytes_in));
    assert_eq!(counters.bytes_out_initiated, flow.bytes_out);
    assert_eq!((counters.connects, counters.established, counters.accepted), (1, 1, 0));
}

#[test]
fn a_bulk_transfer_counts_its_segments() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let server = tcp_server(&link, 443, 1, 0);
    let before = Link::truth(&link.inside);
    let payload = 20 << 20;
    run(&cgroup, Some(&link.inside()), || tcp_client(address(PEER, 443), payload));
    server.join().unwrap();

    let (_, flow) = watch.flow(slot, Direction::Outbound, TCP);
    let after = Link::truth(&link.inside);
    let resent = after["Tcp.RetransSegs"] - before["Tcp.RetransSegs"];
    assert_eq!(flow.packets_out, after["Tcp.OutSegs"] - before["Tcp.OutSegs"] + resent);
    assert!(flow.packets_out > payload as u64 / 1500, "segments, not super-packets");
    if resent == 0 {
        let headers = TCP4_REQUEST + (flow.packets_out - 1) * TCP4_SEGMENT;
        assert_eq!(flow.bytes_out, payload as u64 + headers);
    }
}

#[test]
fn ipv6_has_its_own_headers() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let server = tcp_server(&link, 443, 1, 100);
    run(&cgroup, Some(&link.inside()), || tcp_client(address(PEER6, 443), 200));
    server.join().unwrap();

    assert_eq!(watch.act(slot, NetworkAct::Connect).peer, Some(address(PEER6, 443)));
    let (key, flow) = watch.flow(slot, Direction::Outbound, TCP);
    assert_eq!(key.peer, PEER6.parse::<IpAddr>().unwrap());
    assert_eq!(flow.bytes_out, 200 + 80 + (flow.packets_out - 1) * 72);
    assert_eq!(flow.bytes_in, 100 + 80 + (flow.packets_in - 1) * 72);
}

#[test]
fn a_mapped_address_is_the_ipv4_peer() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let server = tcp_server(&link, 443, 2, 0);
    run(&cgroup, Some(&link.inside()), || {
        tcp_client(address(&format!("::ffff:{PEER}"), 443), 10);
        tcp_client(address(PEER, 443), 10)
    });
    server.join().unwrap();

    let event = watch.act(slot, NetworkAct::Connect);
    assert_eq!(event.peer, Some(address(PEER, 443)));
    assert!(event.mapped);
    let (_, flow) = watch.flow(slot, Direction::Outbound, TCP);
    assert_eq!((flow.attempts, flow.established), (2, 2), "both are one flow");
}

/// Counts datagrams outside and answers each with `reply` bytes, until it hears an empty one.
fn udp_server(link: &Link, port: u16, reply: usize) -> thread::JoinHandle<u64> {
    let socket = link.outside.enter(move || UdpSocket::bind(address("::", port)).unwrap()).unwrap();
    thread::spawn(move || {
        let mut heard = 0;
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            if length == 0 {
                return heard;
            }
            heard += 1;
            if reply > 0 {
                socket.send_to(&vec![9; reply], from).unwrap();
            }
        }
    })
}

#[test]
fn datagrams_count_whether_their_socket_is_connected_or_not() {
    let Some(mut watch) = Watch::open("network") else { return };
    for connected in [true, false] {
        let link = Link::new();
        let (cgroup, slot) = watch.container(if connected { "connected" } else { "unconnected" });
        let server = udp_server(&link, 9000, 20);
        let client = run(&cgroup, Some(&link.inside()), || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let peer = address(PEER, 9000);
            if connected {
                socket.connect(peer).unwrap();
            }
            let mut buffer = [0; 64];
            for _ in 0..50 {
                if connected { socket.send(&[1; 100]) } else { socket.send_to(&[1; 100], peer) }
                    .unwrap();
                socket.recv(&mut buffer).unwrap();
            }
            if connected { socket.send(&[]) } else { socket.send_to(&[], peer) }.unwrap();
        });
        assert_eq!(server.join().unwrap(), 50);

        let kind = if connected { NetworkAct::Connect } else { NetworkAct::Send };
        let event = watch.act(slot, kind);
        assert_eq!(event.peer, Some(address(PEER, 9000)));
        assert_eq!(event.actor.unwrap().pid, client.pid);
        let (_, flow) = watch.flow(slot, Direction::Outbound, UDP);
        assert_eq!((flow.packets_out, flow.bytes_out), (51, 50 * 128 + 28));
        assert_eq!((flow.packets_in, flow.bytes_in), (50, 50 * 48));
        assert_eq!(flow.attempts, if connected { 1 } else { 51 });
        assert_eq!(watch.counters(slot).udp_sends, 51);
    }
}

#[test]
fn one_send_of_many_segments_is_many_packets() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let server = udp_server(&link, 9000, 0);
    run(&cgroup, Some(&link.inside()), || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(address(PEER, 9000)).unwrap();
        let segment: libc::c_int = 1000;
        // SAFETY: an option of that type and size.
        let set = unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(&socket),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (&raw const segment).cast(),
                4,
            )
        };
        assert_eq!(set, 0);
        assert_eq!(socket.send(&[1; 10_500]).unwrap(), 10_500);
        socket.send(&[]).unwrap();
    });
    assert_eq!(server.join().unwrap(), 11);
    let (_, flow) = watch.flow(slot, Direction::Outbound, UDP);
    assert_eq!((flow.packets_out, flow.bytes_out), (12, 10_500 + 12 * 28));
}

#[test]
fn who_is_reached_from_outside_is_named_with_the_port_and_who_listens() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let mut server = start(&cgroup, Some(&link.inside()), |voice| {
        let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
        voice.ready();
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&[5; 64]).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
        }
    });
    server.wait_ready();
    let before = truth(&link);
    link.outside
        .enter(|| {
            for _ in 0..3 {
                let mut stream = TcpStream::connect(address(INSIDE, 8080)).unwrap();
                stream.write_all(&[1; 10]).unwrap();
                stream.read_exact(&mut [0; 64]).unwrap();
            }
        })
        .unwrap();
    let server = server.wait();

    let bind = watch.act(slot, NetworkAct::Bind { ephemeral: false });
    assert_eq!((bind.local_port, bind.protocol, bind.peer), (8080, TCP, None));
    assert_eq!(bind.actor.unwrap().pid, server.pid);
    let inbound = watch.act(slot, NetworkAct::Inbound);
    assert_eq!((inbound.local_port, inbound.protocol), (8080, TCP));
    assert_eq!(inbound.peer.unwrap().ip(), PEER.parse::<IpAddr>().unwrap());
    assert_eq!(inbound.actor.unwrap().pid, server.pid);
    let (key, flow) = watch.flow(slot, Direction::Inbound, TCP);
    assert_eq!((key.local_port, key.peer_port), (8080, 0));
    assert_eq!((flow.attempts, flow.established), (3, 3));
    let after = truth(&link);
    assert_eq!(flow.packets_out, after.0 - before.0);
    assert_eq!(flow.packets_in, after.1 - before.1);
    assert_eq!(watch.counters(slot).accepted, 3);
}

#[test]
fn a_datagram_service_is_reached_and_its_answers_are_not_its_own_sends() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let mut server = start(&cgroup, Some(&link.inside()), |voice| {
        let socket = UdpSocket::bind("[::]:5000").unwrap();
        voice.ready();
        let mut buffer = [0; 64];
        for _ in 0..4 {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..length], from).unwrap();
        }
    });
    server.wait_ready();
    link.outside
        .enter(|| {
            for host in [INSIDE, INSIDE6] {
                let any = if host == INSIDE { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).unwrap();
                for _ in 0..2 {
                    socket.send_to(&[1; 32], address(host, 5000)).unwrap();
                    socket.recv(&mut [0; 64]).unwrap();
                }
            }
        })
        .unwrap();
    server.wait();

    let inbound = watch.acts_of(slot, NetworkAct::Inbound);
    let peers: Vec<_> = inbound.iter().map(|event| event.peer.unwrap().ip()).collect();
    assert_eq!(peers, [PEER, PEER6].map(|peer| peer.parse::<IpAddr>().unwrap()));
    assert!(watch.acts_of(slot, NetworkAct::Send).is_empty());
    for (key, flow) in watch.flows(slot) {
        assert_eq!(key.direction, Direction::Inbound);
        assert_eq!((flow.packets_in, flow.packets_out), (2, 2));
    }
}

#[test]
fn ports_that_the_kernel_chose_are_told_apart() {
    let Some(mut watch) = Watch::open("network") else { return };
    let (cgroup, slot) = watch.container("a");
    let done =
        run(&cgroup, None, || UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let event = watch.act(slot, NetworkAct::Bind { ephemeral: true });
    assert_eq!(event.local_port.to_string(), done.said);
}

#[test]
fn a_closed_port_is_a_reset_and_silence_is_a_retry() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    // Addresses of the far network that nobody answers for are silent.
    link.outside.ip(&["route", "add", "blackhole", "203.0.113.99/32", "table", "local"]).unwrap();
    run(&cgroup, Some(&link.inside()), || {
        for port in 1..=20 {
            assert!(TcpStream::connect(address("203.0.113.1", port)).is_err());
        }
        let silent = address("203.0.113.99", 80);
        assert!(TcpStream::connect_timeout(&silent, Duration::from_millis(1500)).is_err());
    });
    let counters = watch.counters(slot);
    assert_eq!((counters.connects, counters.established, counters.reset), (21, 0, 20));
    assert!(counters.retries >= 1, "{counters:?}");
    for (key, flow) in watch.flows(slot) {
        assert_eq!((flow.attempts, flow.established), (1, 0));
        assert_eq!(flow.reset, u64::from(key.peer_port <= 20));
    }
    assert_eq!(watch.acts_of(slot, NetworkAct::Connect).len(), 21);
}

#[test]
fn an_act_is_reported_once_an_epoch_and_counted_the_rest_of_the_time() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let server = tcp_server(&link, 443, 200, 0);
    let begun = Instant::now();
    run(&cgroup, Some(&link.inside()), || {
        for _ in 0..200 {
            tcp_client(address(PEER, 443), 1);
        }
    });
    server.join().unwrap();
    let epochs = begun.elapsed().as_secs() / 5 + 2;
    let events = watch.acts_of(slot, NetworkAct::Connect);
    assert!((1..=epochs).contains(&(events.len() as u64)), "{events:#?}");
    let counters = watch.counters(slot);
    assert_eq!(counters.acts_generated, 200);
    assert_eq!(counters.acts_emitted, events.len() as u64);
    assert_eq!(counters.acts_repeated, 200 - events.len() as u64);
    let (_, flow) = watch.flow(slot, Direction::Outbound, TCP);
    assert_eq!((flow.attempts, flow.established), (200, 200));
}

#[test]
fn translated_addresses_count_under_the_peer_that_was_asked_for() {
    let Some(mut watch) = Watch::open("network") else { return };
    if !bulkhead_tests::command::exists("iptables") {
        return;
    }
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    for protocol in ["tcp", "udp"] {
        let words = format!(
            "-t nat -A OUTPUT -p {protocol} -d 203.0.113.50 --dport 80 -j DNAT --to {PEER}:8080"
        );
        let status = link.inside.command("iptables").args(words.split(' ')).status().unwrap();
        assert!(status.success());
    }
    let streams = tcp_server(&link, 8080, 1, 10);
    let datagrams = udp_server(&link, 8080, 10);
    run(&cgroup, Some(&link.inside()), || {
        let asked = address("203.0.113.50", 80);
        tcp_client(asked, 10);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(&[1; 10], asked).unwrap();
        socket.recv(&mut [0; 64]).unwrap();
        socket.send_to(&[], asked).unwrap();
    });
    streams.join().unwrap();
    datagrams.join().unwrap();
    for protocol in [TCP, UDP] {
        let (key, flow) = watch.flow(slot, Direction::Outbound, protocol);
        assert_eq!((key.peer.to_string().as_str(), key.peer_port), ("203.0.113.50", 80));
        assert_eq!(flow.routed, Some(address(PEER, 8080)));
        assert!(flow.packets_in > 0, "answers arrive under the address as asked");
    }
}

#[test]
fn a_slot_begins_anew_once_it_is_forgotten() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let (other, other_slot) = watch.container("b");
    let server = udp_server(&link, 9000, 0);
    let send_five = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..5 {
            socket.send_to(&[1; 10], address(PEER, 9000)).unwrap();
        }
    };
    run(&cgroup, Some(&link.inside()), send_five);
    run(&other, Some(&link.inside()), send_five);
    let last = watch.forget(slot);
    let sent: u64 = last.iter().map(|(_, flow)| flow.packets_out).sum();
    assert_eq!(sent, 5, "what flows carried is handed over as they go");
    assert!(watch.flows(slot).is_empty());
    assert_eq!(watch.flow(other_slot, Direction::Outbound, UDP).1.packets_out, 5);
    run(&other, Some(&link.inside()), || {
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&[], address(PEER, 9000)).unwrap()
    });
    server.join().unwrap();
}

#[test]
fn what_a_container_does_before_it_is_named_is_reported_under_its_cgroup() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let cgroup = watch.unnamed("new");
    let server = udp_server(&link, 9000, 0);
    let mut client = start(&cgroup, Some(&link.inside()), |voice| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(address(PEER, 9000)).unwrap();
        for _ in 0..3 {
            socket.send(&[1]).unwrap();
        }
        voice.ready();
        // Until it has been named.
        voice.wait();
        for _ in 0..4 {
            socket.send(&[1]).unwrap();
        }
        socket.send(&[]).unwrap();
    });
    client.wait_ready();
    let event = watch.act(0, NetworkAct::Connect);
    assert_eq!((event.cgroup, event.peer), (cgroup.id(), Some(address(PEER, 9000))));
    let slot = watch.claim(&cgroup);
    client.go_on();
    client.wait();
    assert_eq!(server.join().unwrap(), 7);
    let (key, flow) = watch.flow(slot, Direction::Outbound, UDP);
    assert_eq!((key.peer_port, flow.packets_out), (9000, 5), "from its naming on");
    assert!(watch.acts(slot).is_empty(), "the act was reported already");
}

#[test]
fn a_connection_older_than_the_observer_is_told_by_its_ports() {
    if !bulkhead_tests::requirement::met("network", &support::watch::NEEDS) {
        return;
    }
    let root = Cgroup::root("old");
    let cgroup = root.child("a");
    let link = Link::new();
    let server = tcp_server(&link, 443, 1, 100);
    let mut client = start(&cgroup, Some(&link.inside()), |voice| {
        let mut stream = TcpStream::connect(address(PEER, 443)).unwrap();
        stream.write_all(&[1; 50]).unwrap();
        voice.ready();
        voice.wait();
        stream.write_all(&[1; 70]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap()
    });
    client.wait_ready();
    let mut watch = Watch::over(root);
    let slot = watch.claim(&cgroup);
    client.go_on();
    client.wait();
    server.join().unwrap();
    let (key, flow) = watch.flow(slot, Direction::Outbound, TCP);
    assert_eq!((key.peer.to_string().as_str(), key.peer_port), (PEER, 443));
    assert_eq!(flow.bytes_out, 70 + flow.packets_out * TCP4_SEGMENT);
    assert_eq!(flow.bytes_in, 100 + flow.packets_in * TCP4_SEGMENT);
    assert_eq!((flow.attempts, flow.established), (0, 0));
}

#[test]
fn quiet_flows_make_room_sooner_where_a_scan_has_taken_it() {
    const SECOND: u64 = 1_000_000_000;
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (loud, loud_slot) = watch.container("loud");
    let (quiet, quiet_slot) = watch.container("quiet");
    let inside = link.inside();
    let send = |ports: std::ops::RangeInclusive<u16>| {
        move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for port in ports {
                socket.send_to(&[1], address("203.0.113.1", port)).unwrap();
            }
        }
    };
    run(&loud, Some(&inside), send(1..=3000));
    run(&quiet, Some(&inside), send(1..=3));
    assert!(watch.counters(loud_slot).unnamed_packets > 0, "the scan took all there is");
    watch.expire_after(20 * SECOND, 600 * SECOND);
    assert!(watch.flows(loud_slot).is_empty());
    assert_eq!(watch.flows(quiet_slot).len(), 3);
    let unnamed = watch.counters(loud_slot).unnamed_packets;
    run(&loud, Some(&inside), send(9000..=9010));
    assert_eq!(watch.flows(loud_slot).len(), 11, "there is room again");
    assert_eq!(watch.counters(loud_slot).unnamed_packets, unnamed);
}

#[test]
fn a_scan_fills_only_its_own_table_and_costs_others_nothing() {
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (loud, loud_slot) = watch.container("loud");
    let (quiet, quiet_slot) = watch.container("quiet");
    let inside = link.inside();
    let mut scan = start(&loud, Some(&inside), |voice| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        voice.ready();
        let mut sent = 0_u64;
        for host in 1..=20 {
            for port in 1..=1000 {
                let peer = address(&format!("203.0.113.{host}"), port);
                sent += u64::from(socket.send_to(&[1; 10], peer).is_ok());
            }
        }
        sent
    });
    scan.wait_ready();
    run(&quiet, Some(&inside), || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for port in 1..=100 {
            socket.send_to(&[1; 10], address(PEER, port)).unwrap();
        }
    });
    let sent: u64 = scan.wait().said.parse().unwrap();

    assert_eq!(watch.acts_of(quiet_slot, NetworkAct::Send).len(), 100, "not one was lost");
    assert_eq!(watch.flows(quiet_slot).len(), 100);
    let counters = watch.counters(loud_slot);
    assert_eq!(counters.packets_out, sent);
    let flows = watch.flows(loud_slot);
    assert!(flows.len() <= 2048, "{}", flows.len());
    let named: u64 = flows.iter().map(|(_, flow)| flow.packets_out).sum();
    // Resets of closed ports come back as ICMP, which no socket receives: only sends are unnamed.
    assert_eq!(named + counters.unnamed_packets, sent);
    let seen = watch.acts(loud_slot).len() as u64;
    assert_eq!(counters.acts_emitted, seen);
    let lost = counters.acts_lost_quota + counters.acts_lost_ring;
    assert!(lost > 0, "20,000 peers are beyond any quota");
    assert_eq!(counters.acts_generated, sent + 1, "every send, and the bind");
    assert_eq!(counters.acts_emitted + counters.acts_repeated + lost, counters.acts_generated);
}

#[test]
fn at_a_hundred_thousand_sends_a_second_nothing_is_uncounted() {
    const SENDS: u64 = 1_000_000;
    let Some(mut watch) = Watch::open("network") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let work = start(&cgroup, Some(&link.inside()), |_| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let begun = Instant::now();
        let mut sent = 0;
        for i in 0..SENDS {
            let peer = address(PEER, 10_000 + (i % 500) as u16);
            sent += u64::from(socket.send_to(&[1; 16], peer).is_ok());
            if i % 1000 == 0 {
                let due = Duration::from_micros(i * 10);
                thread::sleep(due.saturating_sub(begun.elapsed()));
            }
        }
        sent
    });
    let done = thread::scope(|scope| {
        let waiter = scope.spawn(move || work.wait());
        while !waiter.is_finished() {
            watch.drain();
            thread::sleep(Duration::from_millis(20));
        }
        waiter.join().unwrap()
    });
    let sent: u64 = done.said.parse().unwrap();
    let counters = watch.counters(slot);
    assert_eq!(counters.packets_out, sent);
    assert_eq!(counters.bytes_out, sent * (28 + 16));
    assert_eq!(counters.acts_generated, SENDS + 1, "every call, and the bind");
    let lost = counters.acts_lost_quota + counters.acts_lost_ring;
    assert_eq!(counters.acts_emitted + counters.acts_repeated + lost, counters.acts_generated);
    assert_eq!(watch.acts(slot).len() as u64, counters.acts_emitted);
    let flows = watch.flows(slot);
    assert_eq!(flows.iter().map(|(_, flow)| flow.packets_out).sum::<u64>(), sent);
    assert_eq!(flows.iter().map(|(_, flow)| flow.attempts).sum::<u64>(), SENDS);
}
