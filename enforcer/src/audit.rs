//! Who did what, when and why: one JSON object a line, only ever appended.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_domain::Timestamp;
use bulkhead_domain::audit::AuditEntry;
use bulkhead_domain::measure::{Decider, Measure};

/// The audit log of this node.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: File,
    node: String,
    /// Entries that the disk did not take.
    pub lost: u64,
}

impl Audit {
    /// Opens `<state>/audit.jsonl` for appending.
    pub fn open(state: &Path, node: &str) -> io::Result<Self> {
        let path = state.join("audit.jsonl");
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        Ok(Self { path, file, node: node.into(), lost: 0 })
    }

    /// Appends an entry and returns it. A disk that does not take it is logged and counted; the measure goes on.
    pub fn write(
        &mut self,
        at: Timestamp,
        (who, what, object): (&str, &str, &str),
        why: &str,
        result: &str,
    ) -> AuditEntry {
        let entry = AuditEntry {
            at,
            node: self.node.clone(),
            who: who.into(),
            what: what.into(),
            object: object.into(),
            why: why.into(),
            result: result.into(),
        };
        // JSON escapes control characters, so one entry is one line whatever it holds.
        let mut line = serde_json::to_string(&entry).expect("plain records become JSON");
        line.push('\n');
        // One write call: appends of one call are not torn apart.
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            self.lost += 1;
            tracing::error!(path = %self.path.display(), %error, lost = self.lost, "audit entry lost");
        }
        entry
    }
}

/// Who decided on a measure.
pub fn decider(measure: &Measure) -> String {
    match &measure.decider {
        Decider::Manual { who } => who.clone(),
        Decider::Automatic { alert, .. } => format!("planner for {alert}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_appended_one_a_line_whatever_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let said = ("ada", "deny add", "web");
        Audit::open(dir.path(), "n1").unwrap().write(Timestamp(1), said, "a\nb\u{1b}[2J", "done");
        Audit::open(dir.path(), "n1").unwrap().write(Timestamp(2), said, "later", "done");
        let text = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(!lines[0].contains('\u{1b}'));
        let entry: AuditEntry = serde_json::from_str(lines[0]).unwrap();
        assert_eq!((entry.why.as_str(), entry.at), ("a\nb\u{1b}[2J", Timestamp(1)));
    }
}
