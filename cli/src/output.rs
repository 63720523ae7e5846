//! How answers are shown: aligned tables for people, JSON for programs.
//!
//! Whatever a cell holds, it passes `printable` on the way: names and paths are chosen by containers.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use bulkhead_domain::text::printable;
use bulkhead_domain::{Timestamp, duration};
use serde::Serialize;

use crate::args::Format;

/// Longest cell; longer ones are cut with an ellipsis.
const CELL_CHARS_MAX: usize = 160;

/// Rows under a header, columns two spaces apart.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with that header.
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: &[String; N]) {
        self.rows.push(cells.iter().map(|c| printable(c, CELL_CHARS_MAX)).collect());
    }

    /// Whether there is nothing below the header.
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// The text of the table.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Shows an answer: the value as JSON, or the text that `table` makes of it.
pub fn show<T: Serialize>(format: Format, value: &T, table: impl FnOnce() -> String) {
    match format {
        Format::Table => print(&table()),
        Format::Json => {
            let mut text = serde_json::to_string_pretty(value)
                .expect("views have text keys, so they are JSON");
            text.push('\n');
            print(&text);
        }
    }
}

/// Writes to standard output; a reader that went away (`| head`) ends the command quietly.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
}

/// How long ago, or how far ahead, in two units.
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("in {}", rounded(at.since(now)))
    } else {
        format!("{} ago", rounded(now.since(at)))
    }
}

/// A duration without fractions of a second once there are seconds.
pub fn rounded(d: std::time::Duration) -> String {
    if d.as_secs() == 0 {
        duration::format(d)
    } else {
        duration::format(std::time::Duration::from_secs(d.as_secs()))
    }
}

/// The wall clock.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_hostile_cells_are_escaped() {
        let mut table = Table::new(["NAME", "STATE"]);
        table.row(&["web".into(), "ok".into()]);
        table.row(&["a\x1b[2J".into(), "lo\nst".into()]);
        assert_eq!(table.render(), "NAME        STATE\nweb         ok\na\\u{1b}[2J  lo\\u{a}st\n");
    }

    #[test]
    fn times_are_told_in_two_units_without_fractions() {
        let at = Timestamp::from_secs(1000);
        assert_eq!(relative(at, at.plus(std::time::Duration::from_millis(3_661_500))), "1h1m ago");
        assert_eq!(relative(at.plus(std::time::Duration::from_secs(90)), at), "in 1m30s");
    }
}
