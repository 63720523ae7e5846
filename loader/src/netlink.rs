//! A small netlink client: requests, dumps and acknowledgements, over a bounded buffer.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Bytes of a message's header.
const HEADER: usize = 16;
/// Bytes of an answer at most: what the kernel fills in one go.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Messages of one dump at most: a namespace with more sockets is cut off there, and the rest is left to the packets' verdict.
const MESSAGES_MAX: usize = 200_000;

/// A netlink socket in the namespace where it was opened.
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens one for a protocol (`NETLINK_ROUTE`, `NETLINK_SOCK_DIAG`).
    pub(crate) fn open(protocol: i32) -> io::Result<Self> {
        // SAFETY: a plain call.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // The kernel answers at once or never: a bug of either side must not hold the agent up.
        let patience = libc::timeval { tv_sec: 2, tv_usec: 0 };
        // SAFETY: the option's value is a live timeval of that size.
        unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const patience).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            );
        }
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for a list, and takes each entry: its message type and body.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.send(kind, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16, body)?;
        let mut seen = 0;
        loop {
            let answer = self.receive()?;
            for message in messages(&answer, self.sequence) {
                match message {
                    Message::Done => return Ok(()),
                    Message::Error(0) => {}
                    Message::Error(code) => return Err(io::Error::from_raw_os_error(code)),
                    Message::Body(body) => {
                        seen += 1;
                        if seen > MESSAGES_MAX {
                            return Ok(());
                        }
                        each(body);
                    }
                }
            }
        }
    }

    /// Asks for something to be done, and waits for the kernel's word.
    pub(crate) fn ask(&mut self, kind: u16, body: &[u8]) -> io::Result<()> {
        self.send(kind, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16, body)?;
        loop {
            let answer = self.receive()?;
            for message in messages(&answer, self.sequence) {
                match message {
                    Message::Done | Message::Error(0) => return Ok(()),
                    Message::Error(code) => return Err(io::Error::from_raw_os_error(code)),
                    Message::Body(_) => {}
                }
            }
        }
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(body);
        // SAFETY: pointer and length are the message's.
        let sent = unsafe {
            libc::send(self.socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        // SAFETY: pointer and length are the buffer's.
        let read = unsafe {
            libc::recv(self.socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        if read < 0 {
            return Err(io::Error::last_os_error());
        }
        answer.truncate(read.unsigned_abs());
        Ok(answer)
    }
}

enum Message<'a> {
    Done,
    Error(i32),
    Body(&'a [u8]),
}

/// The messages of an answer that belong to a request.
fn messages(answer: &[u8], sequence: u32) -> Vec<Message<'_>> {
    let mut found = Vec::new();
    let mut rest = answer;
    while let (Some(length), Some(kind), Some(number)) =
        (u32_at(rest, 0), u16_at(rest, 4), u32_at(rest, 8))
    {
        let length = length as usize;
        let Some(body) = rest.get(HEADER..length) else { break };
        if number == sequence {
            found.push(match i32::from(kind) {
                libc::NLMSG_DONE => Message::Done,
                libc::NLMSG_ERROR => {
                    Message::Error(u32_at(body, 0).map_or(libc::EPROTO, |e| -e.cast_signed()))
                }
                _ => Message::Body(body),
            });
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The attributes behind a fixed part: type and value.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)?;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        // Without the flags for nesting and byte order.
        Some((kind & 0x3fff, value))
    })
}

/// A number at an offset.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A number at an offset.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_claim_more_than_there_is_end_the_list() {
        let bytes = [8, 0, 5, 0, 1, 2, 3, 4, 5, 0, 6, 0, 9, 0, 0, 0, 200, 0, 7, 0, 1];
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found, [(5, &[1, 2, 3, 4][..]), (6, &[9][..])]);
        assert_eq!(attributes(&[0, 0, 0, 0]).count(), 0, "no length ends it too");
    }

    #[test]
    fn only_answers_to_the_request_count() {
        let mut answer = Vec::new();
        for (kind, number) in [(17u16, 1u32), (17, 2), (3, 2)] {
            answer.extend_from_slice(&20u32.to_ne_bytes());
            answer.extend_from_slice(&kind.to_ne_bytes());
            answer.extend_from_slice(&[0, 0]);
            answer.extend_from_slice(&number.to_ne_bytes());
            answer.extend_from_slice(&[0; 8]);
        }
        let found = messages(&answer, 2);
        assert!(matches!(found[..], [Message::Body(_), Message::Done]));
    }
}
