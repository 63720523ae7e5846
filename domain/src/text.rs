//! Making bytes from a container safe to show: nothing that a workload chose reaches a terminal or a page raw.

/// The text with control characters, bidirectional marks and other invisible ones escaped, cut to `max` characters.
///
/// A path, a DNS name or a label may hold terminal escapes; every place that shows one goes through here.
pub fn printable(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for (count, c) in text.chars().enumerate() {
        if count == max {
            out.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// The same for bytes that may not be UTF-8.
pub fn printable_bytes(bytes: &[u8], max: usize) -> String {
    printable(&String::from_utf8_lossy(bytes), max)
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_terminal_sequences_and_bidirectional_marks() {
        assert_eq!(printable("a\x1b[31mb", 80), "a\\u{1b}[31mb");
        assert_eq!(printable("\u{202e}exe", 80), "\\u{202e}exe");
    }

    #[test]
    fn cuts_long_text_and_says_so() {
        assert_eq!(printable("abcdef", 3), "abc…");
        assert_eq!(printable("abc", 3), "abc");
    }
}
