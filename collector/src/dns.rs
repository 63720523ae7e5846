//! Reads DNS messages (RFC 1035) that the kernel copied out of packets: strict, bounded, and never trusting a byte.
//!
//! Only what the loop needs: the question's name and type, the response code, and the addresses of A and AAAA answers.
//! A message may be cut off where the kernel's copy ended; what was readable until then counts, and `cut` says so.
//! Compression pointers only go backwards, and each counts towards the longest name, so reading ends by construction.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// Longest name in wire form (RFC 1035, 3.1).
const NAME_BYTES_MAX: usize = 255;

/// Longest label (RFC 1035, 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// Answers read from one message; more than fit into a kernel copy of it.
const ANSWERS_MAX: usize = 32;

/// Response code for a name that does not exist.
pub const NXDOMAIN: u8 = 3;

/// Record type of an IPv4 address.
const TYPE_A: u16 = 1;
/// Record type of an IPv6 address.
const TYPE_AAAA: u16 = 28;
/// Class Internet.
const CLASS_IN: u16 = 1;

/// What a DNS message asks or answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Transaction id.
    pub id: u16,
    /// An answer, not a question.
    pub response: bool,
    /// Response code; 0 is no error.
    pub code: u8,
    /// The first question's name: lower case, no final dot, bytes outside printable ASCII as `\DDD`.
    pub name: String,
    /// The first question's record type.
    pub kind: u16,
    /// Addresses of A and AAAA answers.
    pub addresses: Vec<IpAddr>,
    /// The copy ended before the message did.
    pub cut: bool,
}

/// Why bytes are not a DNS message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DnsError {
    /// Ends inside the header or the question.
    #[error("message ends inside its question")]
    Short,
    /// No question, so no name.
    #[error("message has no question")]
    NoQuestion,
    /// An operation that is not a query.
    #[error("operation {0} is not a query")]
    Operation(u8),
    /// A label of a reserved kind, or a pointer that does not go backwards.
    #[error("name has a label of no known kind, or a pointer that does not go backwards")]
    Label,
    /// Longer than any name may be.
    #[error("name is longer than 255 bytes")]
    Long,
}

/// Reads one message.
///
/// An error means that the bytes are no DNS question or answer; the caller counts it and goes on.
pub fn parse(bytes: &[u8]) -> Result<Message, DnsError> {
    let header: &[u8; 12] = bytes.first_chunk().ok_or(DnsError::Short)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let operation = header[2] >> 3 & 0x0f;
    if operation != 0 {
        return Err(DnsError::Operation(operation));
    }
    if word(4) == 0 {
        return Err(DnsError::NoQuestion);
    }
    let (name, after) = read_name(bytes, 12)?;
    let kind = read_u16(bytes, after).ok_or(DnsError::Short)?;
    read_u16(bytes, after + 2).ok_or(DnsError::Short)?;
    let mut message = Message {
        id: word(0),
        response: header[2] & 0x80 != 0,
        code: header[3] & 0x0f,
        name,
        kind,
        addresses: Vec::new(),
        cut: false,
    };
    let questions = word(4);
    if message.response && questions == 1 {
        let answers = usize::from(word(6));
        message.cut = read_answers(bytes, after + 4, answers, &mut message.addresses).is_none()
            || answers > ANSWERS_MAX;
    }
    Ok(message)
}

/// Collects addresses; `None` where the bytes end or stop making sense, with what was read before kept.
fn read_answers(bytes: &[u8], mut at: usize, answers: usize, out: &mut Vec<IpAddr>) -> Option<()> {
    for _ in 0..answers.min(ANSWERS_MAX) {
        at = read_name(bytes, at).ok()?.1;
        let kind = read_u16(bytes, at)?;
        let class = read_u16(bytes, at + 2)?;
        let length = usize::from(read_u16(bytes, at + 8)?);
        let data = bytes.get(at + 10..at + 10 + length)?;
        if class == CLASS_IN {
            match kind {
                TYPE_A => out.push(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?))),
                TYPE_AAAA => {
                    out.push(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?)));
                }
                _ => {}
            }
        }
        at += 10 + length;
    }
    Some(())
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

/// A name at an offset, in text, and the offset behind it.
fn read_name(bytes: &[u8], start: usize) -> Result<(String, usize), DnsError> {
    let mut text = String::new();
    let mut at = start;
    let mut end = None;
    let mut wire = 0;
    loop {
        let length = usize::from(*bytes.get(at).ok_or(DnsError::Short)?);
        match length {
            0 => {
                return Ok((text, end.unwrap_or(at + 1)));
            }
            1..=LABEL_BYTES_MAX => {
                let label = bytes.get(at + 1..at + 1 + length).ok_or(DnsError::Short)?;
                wire += length + 1;
                if wire > NAME_BYTES_MAX {
                    return Err(DnsError::Long);
                }
                if !text.is_empty() {
                    text.push('.');
                }
                for byte in label {
                    push_byte(&mut text, *byte);
                }
                at += 1 + length;
            }
            0xc0.. => {
                let low = usize::from(*bytes.get(at + 1).ok_or(DnsError::Short)?);
                let target = (length & 0x3f) << 8 | low;
                if target >= at {
                    return Err(DnsError::Label);
                }
                wire += 1;
                if wire > NAME_BYTES_MAX {
                    return Err(DnsError::Long);
                }
                end.get_or_insert(at + 2);
                at = target;
            }
            _ => return Err(DnsError::Label),
        }
    }
}

/// One byte of a label in the presentation form of RFC 4343: lower case; dots and what is not printable escaped.
fn push_byte(text: &mut String, byte: u8) {
    match byte {
        b'.' | b'\\' => {
            text.push('\\');
            text.push(char::from(byte));
        }
        0x21..=0x7e => text.push(char::from(byte.to_ascii_lowercase())),
        _ => text.push_str(&format!("\\{byte:03}")),
    }
}

/// Shannon entropy of a name's characters before its registered part, in bits per character.
///
/// The last two labels are left out: the domain is the same in each question of a tunnel, and says nothing of its load.
/// Zero for a name of two labels or fewer.
pub fn label_entropy(name: &str) -> f64 {
    let labels: Vec<&str> = name.split('.').collect();
    let load = &labels[..labels.len().saturating_sub(2)];
    let mut counts = [0_u32; 256];
    for byte in load.iter().flat_map(|label| label.bytes()) {
        counts[usize::from(byte)] += 1;
    }
    let total: u32 = counts.iter().sum();
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / f64::from(total))
        .map(|share| -share * share.log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(flags: u16, questions: u16, answers: u16) -> Vec<u8> {
        [0x1234, flags, questions, answers, 0, 0]
            .iter()
            .flat_map(|w: &u16| w.to_be_bytes())
            .collect()
    }

    fn name(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for label in text.split('.').filter(|l| !l.is_empty()) {
            out.push(label.len() as u8);
            out.extend(label.as_bytes());
        }
        out.push(0);
        out
    }

    fn question(flags: u16, text: &str, answers: u16) -> Vec<u8> {
        let mut out = header(flags, 1, answers);
        out.extend(name(text));
        out.extend([0, 1, 0, 1]);
        out
    }

    fn answer(kind: u16, data: &[u8]) -> Vec<u8> {
        let mut out = vec![0xc0, 12];
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 60]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn a_question_has_its_name_in_lower_case() {
        let message = parse(&question(0x0100, "WWW.Example.org", 0)).unwrap();
        assert!(!message.response);
        assert_eq!(
            (message.id, message.name.as_str(), message.kind),
            (0x1234, "www.example.org", 1)
        );
    }

    #[test]
    fn an_answer_gives_addresses_of_both_families_and_skips_aliases() {
        let mut bytes = question(0x8180, "store.example.org", 3);
        bytes.extend(answer(5, &[1, b'a', 0xc0, 12]));
        bytes.extend(answer(TYPE_A, &[198, 51, 100, 7]));
        bytes.extend(answer(TYPE_AAAA, &Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).octets()));
        let message = parse(&bytes).unwrap();
        assert!(message.response && !message.cut);
        assert_eq!(
            message.addresses,
            ["198.51.100.7", "2001:db8::9"].map(|a| a.parse::<IpAddr>().unwrap())
        );
    }

    #[test]
    fn a_cut_answer_keeps_what_was_whole() {
        let mut bytes = question(0x8180, "store.example.org", 2);
        bytes.extend(answer(TYPE_A, &[198, 51, 100, 7]));
        bytes.extend(&answer(TYPE_A, &[198, 51, 100, 8])[..9]);
        let message = parse(&bytes).unwrap();
        assert!(message.cut);
        assert_eq!(message.addresses, ["198.51.100.7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_missing_name_is_told_by_its_code() {
        assert_eq!(parse(&question(0x8183, "nope.example.org", 0)).unwrap().code, NXDOMAIN);
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let mut bytes = header(0x0100, 1, 0);
        bytes.extend([4, 0x1b, b'[', b'.', 0xff, 0, 0, 1, 0, 1]);
        assert_eq!(parse(&bytes).unwrap().name, "\\027[\\.\\255");
    }

    #[test]
    fn refuses_what_is_no_question() {
        assert_eq!(parse(&[]), Err(DnsError::Short));
        assert_eq!(parse(&header(0, 0, 0)), Err(DnsError::NoQuestion));
        assert_eq!(parse(&header(0x2800, 1, 0)), Err(DnsError::Operation(5)));
        assert_eq!(parse(&header(0, 1, 0)), Err(DnsError::Short));
        let with = |tail: &[u8]| parse(&[header(0, 1, 0).as_slice(), tail].concat());
        assert_eq!(with(&[0xc0, 12]), Err(DnsError::Label), "a pointer to itself");
        assert_eq!(with(&[0xc0, 40]), Err(DnsError::Label), "a pointer ahead");
        assert_eq!(with(&[0x40, 0]), Err(DnsError::Label), "a reserved kind");
    }

    #[test]
    fn refuses_a_name_longer_than_a_name_may_be() {
        let long = [63; 5].map(|n| "a".repeat(n)).join(".");
        assert_eq!(parse(&question(0x0100, &long, 0)), Err(DnsError::Long));
    }

    #[test]
    fn a_tunnel_has_more_entropy_than_a_host() {
        assert!(label_entropy("example.org").abs() < f64::EPSILON);
        assert!(label_entropy("www.example.org") < 0.1);
        assert!(label_entropy("q7x2m9k4z8w3p5v1.t.example.org") > 3.5);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = parse(&bytes) {
                prop_assert!(message.name.bytes().all(|b| (0x21..=0x7e).contains(&b)));
                prop_assert!(message.name.len() <= 4 * NAME_BYTES_MAX);
            }
        }

        #[test]
        fn bytes_behind_a_good_header_end_too(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&[header(0x8180, 1, 9).as_slice(), &tail].concat());
        }

        #[test]
        fn a_name_reads_back(labels in proptest::collection::vec("[a-z0-9-]{1,20}", 1..8)) {
            let text = labels.join(".");
            prop_assert_eq!(parse(&question(0x0100, &text, 0)).unwrap().name, text);
        }
    }
}
