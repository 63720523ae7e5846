//! Acts as a person writes them: what `baseline show` prints, read back.

use bulkhead_domain::behaviour::{Act, ForbiddenAct};
use bulkhead_domain::net::{Peer, PeerMatch, Protocol};

/// Reads an act; the message says what to write instead.
pub fn parse(text: &str) -> Result<Act, String> {
    let refuse = || {
        format!(
            "`{text}` is not an act: write it as `baseline show` does, as in `exec /usr/bin/id`, \
             `connect 198.51.100.7:443/tcp`, `listen 80/tcp`, `dns example.org` or `syscall ptrace`"
        )
    };
    let (word, rest) = text.trim().split_once(' ').ok_or_else(refuse)?;
    let rest = rest.trim();
    Ok(match word {
        "exec" => Act::Exec { path: rest.into() },
        "dns" => Act::Dns { name: rest.trim_end_matches('.').to_ascii_lowercase() },
        "syscall" => Act::Syscall { name: rest.into() },
        "listen" => {
            let (port, protocol) = rest.split_once('/').unwrap_or((rest, "tcp"));
            Act::Listen {
                port: port.parse().map_err(|_| refuse())?,
                protocol: protocol.parse().map_err(|_| refuse())?,
            }
        }
        "connect" => connect(rest).ok_or_else(refuse)?,
        "inbound" => inbound(rest).ok_or_else(refuse)?,
        word => {
            let act =
                ForbiddenAct::ALL.into_iter().find(|a| a.word() == word).ok_or_else(refuse)?;
            Act::Forbidden { act, object: rest.into() }
        }
    })
}

/// `PEER`, or `NAME (PEER)`.
fn connect(text: &str) -> Option<Act> {
    let (name, peer) = match text.split_once(" (") {
        Some((name, rest)) => (Some(name.to_owned()), rest.strip_suffix(')')?),
        None => (None, text),
    };
    Some(Act::Connect { peer: exact(peer)?, name, refused: false })
}

/// `ADDRESS to port PORT/PROTOCOL`.
fn inbound(text: &str) -> Option<Act> {
    let (address, rest) = text.split_once(" to port ")?;
    let (port, protocol) = rest.split_once('/').unwrap_or((rest, "tcp"));
    let peer = Peer { address: address.parse().ok()?, port: 0, protocol: protocol.parse().ok()? };
    Some(Act::Inbound { peer, port: port.parse().ok()? })
}

fn exact(text: &str) -> Option<Peer> {
    // A peer without a port is written `ADDRESS/protocol`; by number it would read as a prefix.
    if let Some((address, protocol)) = text.rsplit_once('/')
        && !protocol.starts_with(|c: char| c.is_ascii_digit())
        && let (Ok(address), Ok(protocol)) = (address.parse(), protocol.parse::<Protocol>())
    {
        return Some(Peer { address, port: 0, protocol });
    }
    let parsed: PeerMatch = text.parse().ok()?;
    parsed.prefix.is_host().then_some(Peer {
        address: parsed.prefix.address(),
        port: parsed.port.unwrap_or(0),
        protocol: parsed.protocol.unwrap_or(Protocol::TCP),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_baseline_show_prints() {
        for text in [
            "exec /usr/bin/id",
            "connect 198.51.100.7:443/tcp",
            "connect [2001:db8::1]:443/udp",
            "connect 203.0.113.9/icmp",
            "connect example.org (198.51.100.7:443/tcp)",
            "listen 80/tcp",
            "inbound 198.51.100.7 to port 80/tcp",
            "dns example.org",
            "syscall socket:AF_PACKET",
            "engine-socket /run/docker.sock",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_act_and_says_what_one_looks_like() {
        for text in ["", "exec", "fly away", "listen http", "connect 198.51.100.0/24"] {
            let message = parse(text).unwrap_err();
            assert!(message.contains("exec /usr/bin/id"), "{message}");
        }
    }
}
