//! DNS messages that the kernel copies out: the very bytes, who asked, and what is counted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use bulkhead_loader::observe::network::Direction;
use support::{
    container::run,
    link::{Link, PEER},
    watch::Watch,
};

/// Bit of a message's third byte: an answer.
const ANSWER: u8 = 0x80;

/// A question for the addresses of a name (RFC 1035, 4.1).
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The answer to a question, with a code, padded to a length.
fn answer(question: &[u8], code: u8, length: usize) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2] |= ANSWER;
    message[3] |= code;
    while message.len() < length {
        message.push(b'x');
    }
    message
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::new(PEER.parse::<IpAddr>().unwrap(), port)
}

/// Answers questions outside until it hears something shorter than a message.
fn resolver(link: &Link, port: u16, code: u8, length: usize) -> thread::JoinHandle<()> {
    let socket = link.outside.enter(move || UdpSocket::bind(peer(port)).unwrap()).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            let (heard, from) = socket.recv_from(&mut buffer).unwrap();
            if heard < 12 {
                return;
            }
            socket.send_to(&answer(&buffer[..heard], code, length), from).unwrap();
        }
    })
}

/// Asks each question and waits for its answer, then ends the resolver.
fn ask(resolver: SocketAddr, questions: &[Vec<u8>]) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for question in questions {
        socket.send_to(question, resolver).unwrap();
        socket.recv(&mut [0; 2048]).unwrap();
    }
    socket.send_to(&[0], resolver).unwrap();
}

#[test]
fn a_question_and_its_answer_arrive_byte_for_byte() {
    let Some(mut watch) = Watch::open("dns") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let server = resolver(&link, 53, 0, 300);
    let sent = question(0x1234, "api.example.org");
    let client = run(&cgroup, Some(&link.inside()), || ask(peer(53), std::slice::from_ref(&sent)));
    server.join().unwrap();

    let messages = watch.messages(slot);
    assert_eq!(messages.len(), 2, "{messages:#?}");
    let (asked, answered) = (&messages[0], &messages[1]);
    assert_eq!((asked.answer, answered.answer), (false, true));
    assert_eq!(asked.message, sent);
    assert_eq!(answered.message, answer(&sent, 0, 300));
    for message in &messages {
        assert_eq!(message.resolver, peer(53));
        assert_eq!(message.cgroup, cgroup.id());
        assert!(!message.cut && !message.tcp);
        assert_eq!(message.actor.as_ref().unwrap().pid, client.pid);
    }
    let counters = watch.counters(slot);
    assert_eq!((counters.dns_questions, counters.dns_answers), (1, 1));
    assert_eq!((counters.dns_nxdomain, counters.dns_failures), (0, 0));
    assert_eq!(counters.dns_bytes, sent.len() as u64 + 300);
}

#[test]
fn a_message_beyond_the_record_is_cut_and_says_so() {
    let Some(mut watch) = Watch::open("dns") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let server = resolver(&link, 53, 0, 1000);
    let sent = question(1, "long.example.org");
    run(&cgroup, Some(&link.inside()), || ask(peer(53), std::slice::from_ref(&sent)));
    server.join().unwrap();
    let answered = watch.messages(slot).into_iter().find(|message| message.answer).unwrap();
    assert!(answered.cut);
    assert_eq!(answered.message, answer(&sent, 0, 1000)[..512]);
    assert_eq!(watch.counters(slot).dns_bytes, sent.len() as u64 + 1000);
}

#[test]
fn names_that_do_not_exist_are_counted_apart() {
    let Some(mut watch) = Watch::open("dns") else { return };
    for (code, expected) in [(3, (5, 0)), (2, (0, 5))] {
        let link = Link::new();
        let (cgroup, slot) = watch.container(&format!("code{code}"));
        let server = resolver(&link, 53, code, 0);
        let questions: Vec<_> = (0..5).map(|i| question(i, &format!("n{i}.example.org"))).collect();
        run(&cgroup, Some(&link.inside()), || ask(peer(53), &questions));
        server.join().unwrap();
        let counters = watch.counters(slot);
        assert_eq!((counters.dns_questions, counters.dns_answers), (5, 5));
        assert_eq!((counters.dns_nxdomain, counters.dns_failures), expected);
    }
}

#[test]
fn the_same_question_is_copied_once_an_epoch_whatever_its_id_and_every_other_one_each_time() {
    let Some(mut watch) = Watch::open("dns") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let server = resolver(&link, 53, 0, 0);
    let same = (0..40).map(|id| question(id, "same.example.org"));
    // What a tunnel does: each name carries other data, some of it beyond the short record.
    let different = (0..40).map(|i| question(7, &format!("{}.d{i}.example.org", "x".repeat(60))));
    let questions: Vec<_> = same.chain(different).collect();
    run(&cgroup, Some(&link.inside()), || ask(peer(53), &questions));
    server.join().unwrap();
    let asked: Vec<_> =
        watch.messages(slot).into_iter().filter(|message| !message.answer).collect();
    let copies = |part: &[u8]| {
        asked.iter().filter(|m| m.message.windows(part.len()).any(|bytes| bytes == part)).count()
    };
    assert!((1..=2).contains(&copies(b"\x04same")), "two only if the epoch ended meanwhile");
    for i in 0..40 {
        let label = format!("d{i}");
        let mut part = vec![label.len() as u8];
        part.extend(label.as_bytes());
        assert!(copies(&part) >= 1, "{label}");
    }
    let counters = watch.counters(slot);
    assert_eq!((counters.dns_questions, counters.dns_answers), (80, 80));
    let lost = counters.acts_lost_quota + counters.acts_lost_ring;
    assert_eq!(counters.acts_emitted + counters.acts_repeated + lost, counters.acts_generated);
}

#[test]
fn messages_over_tcp_come_without_their_length() {
    let Some(mut watch) = Watch::open("dns") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let sent = question(9, "tcp.example.org");
    let listener = link.outside.enter(|| TcpListener::bind(peer(53)).unwrap()).unwrap();
    let framed = |message: &[u8]| {
        let mut all = (message.len() as u16).to_be_bytes().to_vec();
        all.extend(message);
        all
    };
    let (asked, reply) = (framed(&sent), framed(&answer(&sent, 0, 200)));
    let asked_bytes = asked.len();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut vec![0; asked_bytes]).unwrap();
        stream.write_all(&reply).unwrap();
    });
    run(&cgroup, Some(&link.inside()), || {
        let mut stream = TcpStream::connect(peer(53)).unwrap();
        stream.write_all(&asked).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
    });
    server.join().unwrap();
    let messages = watch.messages(slot);
    assert_eq!(messages.len(), 2, "{messages:#?}");
    assert!(messages.iter().all(|message| message.tcp));
    assert_eq!(messages[0].message, sent);
    assert_eq!(messages[1].message, answer(&sent, 0, 200));
}

#[test]
fn dockers_resolver_is_known_although_its_port_is_translated() {
    let Some(mut watch) = Watch::open("dns") else { return };
    if !bulkhead_tests::command::exists("iptables") {
        return;
    }
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let words = "-t nat -A OUTPUT -p udp -d 127.0.0.11 --dport 53 -j DNAT --to 127.0.0.11:40053";
    assert!(link.inside.command("iptables").args(words.split(' ')).status().unwrap().success());
    let docker: SocketAddr = "127.0.0.11:40053".parse().unwrap();
    // The engine's own process answers inside the namespace: it is no process of the container.
    let socket = link.inside.enter(move || UdpSocket::bind(docker).unwrap()).unwrap();
    let server = thread::spawn(move || {
        let mut buffer = [0; 512];
        let (heard, from) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&answer(&buffer[..heard], 0, 0), from).unwrap();
    });
    let sent = question(3, "redis.example.org");
    run(&cgroup, Some(&link.inside()), || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(&sent, "127.0.0.11:53").unwrap();
        socket.recv(&mut [0; 512]).unwrap();
    });
    server.join().unwrap();
    let messages = watch.messages(slot);
    assert_eq!(messages.len(), 2, "{messages:#?}");
    assert!(messages.iter().all(|m| m.resolver == "127.0.0.11:53".parse().unwrap()));
    let (key, _) = watch.flow(slot, Direction::Outbound, 17);
    assert_eq!((key.peer.to_string().as_str(), key.peer_port), ("127.0.0.11", 53));
}

#[test]
fn what_only_looks_like_a_resolvers_port_is_not_copied() {
    let Some(mut watch) = Watch::open("dns") else { return };
    let link = Link::new();
    let (cgroup, slot) = watch.container("a");
    let server = resolver(&link, 53, 0, 0);
    let mut update = question(1, "update.example.org");
    // Operation 5 is no query (RFC 2136).
    update[2] = 5 << 3;
    run(&cgroup, Some(&link.inside()), || ask(peer(53), std::slice::from_ref(&update)));
    server.join().unwrap();
    assert!(watch.messages(slot).is_empty());
    assert_eq!(watch.counters(slot).dns_questions, 0);
    assert_eq!(watch.counters(slot).packets_out, 2);
}
