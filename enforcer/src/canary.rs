//! The self-test: a packet that the real guards must refuse, and one beside it that they must let pass.
//!
//! A socket keeps the cgroup in which it was made. So at its start the agent steps into a cgroup of its own making for the
//! time of one `socket` call and steps back; from then on that socket stands for a container that nobody else has. Its
//! lease is in force only while it is tried, so that an idle node has nothing in force. All of it is loopback.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_abi::guard::CANARY;
use bulkhead_loader::cgroup;
use bulkhead_loader::guard::{PeerPattern, Rule, What, Who};

/// How long the packet that passes may take: loopback, so only a stopped machine takes longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the lease of one try lasts at most.
const LEASE_NS: u64 = 10_000_000_000;
/// The measure behind it: a word, so that no hash has it.
pub const MEASURE: u64 = CANARY;

/// The socket that stands for a container, and the two peers it tries.
#[derive(Debug)]
pub struct Canary {
    directory: PathBuf,
    cgroup: u64,
    sender: UdpSocket,
    denied: UdpSocket,
    allowed: UdpSocket,
}

/// What a try showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Song {
    /// Refused, as it must be, and its neighbour passed.
    Refused,
    /// It got through: the guards do not guard.
    Passed,
    /// Its neighbour did not pass: nothing was shown.
    Mute(String),
}

impl Canary {
    /// Makes the cgroup and the sockets. Moves this whole process there and back.
    pub fn hatch(mount: &Path, root: &Path) -> io::Result<Self> {
        let home = own_cgroup(mount)?;
        let directory = root.join("bulkhead-canary");
        match fs::create_dir(&directory) {
            // An agent that was killed left it behind.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let id = cgroup::id(&directory).map_err(io::Error::other)?;
        fs::write(directory.join("cgroup.procs"), "0")?;
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        // Back before anything else, whatever came of it.
        fs::write(home.join("cgroup.procs"), "0")?;
        let peer = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        Ok(Self { directory, cgroup: id, sender: sender?, denied: peer()?, allowed: peer()? })
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> u64 {
        self.cgroup
    }

    /// The lease that one try needs.
    pub fn rule(&self, boot_ns: u64) -> io::Result<Rule> {
        let peer = self.denied.local_addr()?;
        let peers = PeerPattern::new(peer.ip(), 32, Some(peer.port()), None);
        let what = What::Deny { peers, manual: true };
        Ok(Rule {
            who: Who::Container(CANARY),
            what,
            expires_ns: boot_ns + LEASE_NS,
            measure: MEASURE,
        })
    }

    /// Sends both packets.
    pub fn sing(&self) -> Song {
        match self.reaches(&self.allowed) {
            Ok(true) => {}
            Ok(false) => return Song::Mute("the packet that should pass did not arrive".into()),
            Err(error) => {
                return Song::Mute(format!("the packet that should pass was refused: {error}"));
            }
        }
        match self.reaches(&self.denied) {
            Ok(true) => Song::Passed,
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Song::Refused,
            Ok(false) => Song::Refused,
            Err(error) => {
                Song::Mute(format!("the packet that should be refused failed otherwise: {error}"))
            }
        }
    }

    fn reaches(&self, peer: &UdpSocket) -> io::Result<bool> {
        let to: SocketAddr = peer.local_addr()?;
        self.sender.send_to(b"canary", to)?;
        let mut room = [0; 16];
        match peer.recv(&mut room) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        // Empty since the start; one that cannot be removed is found and used again.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// This process's own cgroup directory.
fn own_cgroup(mount: &Path) -> io::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.filter(|p| !p.split('/').any(|part| part == ".."));
    let home = path.map(|p| mount.join(p)).filter(|home| home.join("cgroup.procs").exists());
    home.ok_or_else(|| {
        io::Error::other("this process's own cgroup is outside the mounted hierarchy")
    })
}
