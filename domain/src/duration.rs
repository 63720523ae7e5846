//! Durations as people write them: `90s`, `10m`, `4h`, `7d`, `1h30m`.

use std::time::Duration;

use thiserror::Error;

/// Why a text is not a duration; the message says what to write instead.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{text}` is not a duration: write a number and a unit of ms, s, m, h or d, as in 90s, 10m or 1h30m"
)]
pub struct DurationError {
    text: String,
}

/// Reads a duration such as `250ms`, `90s`, `10m`, `1h30m` or `7d`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let refuse = || DurationError { text: crate::text::printable(text, 40) };
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
        let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit_ms = match &rest[..unit_len] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(refuse()),
        };
        rest = &rest[unit_len..];
        total_ms = number
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or_else(refuse)?;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration in its two largest units: `1h30m`, `45s`, `250ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms < 1000 {
        return if ms == 0 { "0s".into() } else { format!("{ms}ms") };
    }
    let secs = ms / 1000;
    let parts =
        [(secs / 86_400, 'd'), (secs / 3600 % 24, 'h'), (secs / 60 % 60, 'm'), (secs % 60, 's')];
    let first = parts.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    parts[first..]
        .iter()
        .take(2)
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, secs) in
            [("90s", 90), ("10m", 600), ("1h30m", 5400), ("7d", 604_800), (" 4h ", 14_400)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn refuses_what_has_no_unit_or_no_number() {
        for text in ["", "10", "m", "10x", "-5m", "1.5h", "99999999999999999999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_two_units_at_most() {
        for (secs, expect) in
            [(0, "0s"), (45, "45s"), (5400, "1h30m"), (90_061, "1d1h"), (3600, "1h")]
        {
            assert_eq!(format(Duration::from_secs(secs)), expect);
        }
    }
}
