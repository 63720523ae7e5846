//! What an engine says about one container: parsed, bounded, and still hostile text.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bulkhead_domain::Timestamp;
use bulkhead_domain::container::Engine;
use bulkhead_domain::text::printable;

/// Longest name, label value or image reference that is kept, in characters.
pub const TEXT_CHARS_MAX: usize = 200;

/// Words of a command line that are kept: those that can tell one role of an image from another.
pub const COMMAND_WORDS_MAX: usize = 2;

/// Addresses kept of one container.
pub const ADDRESSES_MAX: usize = 16;

/// The labels that take part in naming; all others are dropped unread.
pub const LABELS: [&str; 12] = [
    "bulkhead.workload",
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.docker.stack.namespace",
    "com.docker.swarm.service.name",
    "io.cri-containerd.kind",
    "io.kubernetes.container.name",
    "io.kubernetes.docker.type",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.namespace",
    "io.podman.compose.project",
    "PODMAN_SYSTEMD_UNIT",
];

/// One container in its engine's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The engine that says so.
    pub engine: Engine,
    /// The engine's id: 64 hex digits, or a cgroup's path.
    pub id: String,
    /// The container's own name.
    pub name: String,
    /// Image repository, without tag or digest.
    pub image: String,
    /// Image digest.
    pub digest: String,
    /// Labels that take part in naming.
    pub labels: BTreeMap<String, String>,
    /// The first words of its command line.
    pub command: Vec<String>,
    /// The systemd unit that is the container itself.
    pub unit: Option<String>,
    /// First process in this pid namespace; 0 while it is not started.
    pub pid: u32,
    /// Its addresses, as far as the engine gave it any.
    pub addresses: Vec<IpAddr>,
    /// Shares the host's network.
    pub host_network: bool,
    /// When it was started; zero while it is not.
    pub started: Timestamp,
}

impl Description {
    /// A container of which nothing is known but its id.
    pub fn bare(engine: Engine, id: &str) -> Self {
        Self {
            engine,
            id: bounded(id),
            name: bounded(id),
            image: String::new(),
            digest: String::new(),
            labels: BTreeMap::new(),
            command: Vec::new(),
            unit: None,
            pid: 0,
            addresses: Vec::new(),
            host_network: false,
            started: Timestamp::default(),
        }
    }
}

/// Text cut to the bound, its control characters escaped.
pub fn bounded(text: &str) -> String {
    printable(text, TEXT_CHARS_MAX)
}

/// Of all labels, those that take part in naming, bounded.
pub fn naming_labels<'a>(
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, String> {
    labels
        .filter(|(key, value)| LABELS.contains(key) && !value.is_empty())
        .map(|(key, value)| (key.to_owned(), bounded(value)))
        .collect()
}

/// The words of a command line that are kept, bounded.
pub fn naming_command<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    words.take(COMMAND_WORDS_MAX).map(bounded).collect()
}

/// The repository of an image reference: without digest, tag, or transport.
pub fn repository(reference: &str) -> String {
    let without_digest = reference.split_once('@').map_or(reference, |(before, _)| before);
    // A colon behind the last slash begins a tag; one before it belongs to a registry's port.
    let name_at = without_digest.rfind('/').map_or(0, |slash| slash + 1);
    let end = without_digest[name_at..].find(':').map_or(without_digest.len(), |c| name_at + c);
    bounded(&without_digest[..end])
}

/// Reads RFC 3339 as engines write it (`2026-01-31T08:15:30.25Z`, `…+01:00`); the zero time and nonsense are `None`.
pub fn timestamp(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once(['T', ' '])?;
    let mut date = date.split('-').map(str::parse::<i64>);
    let (Ok(year), Ok(month @ 1..=12), Ok(day @ 1..=31)) =
        (date.next()?, date.next()?, date.next()?)
    else {
        return None;
    };
    if !(1970..=9999).contains(&year) {
        return None;
    }
    let zone_at = rest.rfind(['Z', '+', '-']).filter(|at| *at >= 8)?;
    let (clock, zone) = rest.split_at(zone_at);
    let (seconds, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut fields = seconds.split(':').map(str::parse::<i64>);
    let (Ok(hour @ 0..=23), Ok(minute @ 0..=59), Ok(second @ 0..=60)) =
        (fields.next()?, fields.next()?, fields.next()?)
    else {
        return None;
    };
    let offset = if zone == "Z" {
        0
    } else {
        let sign = if zone.starts_with('-') { -1 } else { 1 };
        let (hours, minutes) = zone[1..].split_once(':')?;
        sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60)
    };
    let nanos: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let secs =
        days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(Timestamp(u64::try_from(secs).ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)?))
}

/// Day number since 1970-01-01 of a Gregorian date (Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_shifted = (month + 9) % 12;
    let day_of_year = (153 * month_shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_neither_tag_nor_digest() {
        for (reference, expect) in [
            ("nginx", "nginx"),
            ("nginx:1.27", "nginx"),
            ("localhost/shop/app:v2@sha256:00", "localhost/shop/app"),
            ("registry.example:5000/app", "registry.example:5000/app"),
            ("registry.example:5000/app:1", "registry.example:5000/app"),
            ("", ""),
        ] {
            assert_eq!(repository(reference), expect, "{reference}");
        }
    }

    #[test]
    fn engine_times_read_back() {
        for (text, expect) in [
            ("2026-01-31T08:15:30.25Z", Some("2026-01-31T08:15:30.250Z")),
            ("2026-01-31T08:15:30.123456789+01:00", Some("2026-01-31T07:15:30.123Z")),
            ("2024-02-29 00:00:00Z", Some("2024-02-29T00:00:00.000Z")),
            ("0001-01-01T00:00:00Z", None),
            ("yesterday", None),
            ("2026-13-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(timestamp(text).map(|t| t.to_string()).as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn only_labels_that_name_are_kept_and_never_raw() {
        let long = "x".repeat(5000);
        let labels = naming_labels(
            [
                ("bulkhead.workload", "shop\x1b[2J"),
                ("com.docker.compose.project", long.as_str()),
                ("com.docker.compose.service", ""),
                ("password", "secret"),
            ]
            .into_iter(),
        );
        assert_eq!(labels.len(), 2);
        assert_eq!(labels["bulkhead.workload"], "shop\\u{1b}[2J");
        assert_eq!(labels["com.docker.compose.project"].chars().count(), TEXT_CHARS_MAX + 1);
    }
}
