//! The closing table: what was promised, and whether it happened.

use std::fmt::Write as _;

use crate::test::report::Verdict;

/// The rows so far.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    rows: Vec<Row>,
    settings: Vec<(String, String)>,
}

#[derive(Debug)]
struct Row {
    what: String,
    held: bool,
    detail: String,
}

impl Closing {
    /// Notes whether something happened, with what shows it.
    pub(crate) fn row(&mut self, what: &str, held: bool, detail: &str) {
        self.rows.push(Row { what: what.to_owned(), held, detail: detail.to_owned() });
    }

    /// Notes a setting that the run was made with.
    pub(crate) fn setting(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// The first thing that did not happen.
    pub(crate) fn broken(&self) -> Option<String> {
        let row = self.rows.iter().find(|row| !row.held)?;
        Some(format!("this did not happen: {} ({})", row.what, row.detail))
    }

    /// Every row as a check of a test run.
    pub(crate) fn verdict(&self) -> Verdict {
        self.rows
            .iter()
            .map(|row| {
                if row.held {
                    Verdict::one()
                } else {
                    Verdict::failed(format!("{}: {}", row.what, row.detail))
                }
            })
            .fold(Verdict::none(), Verdict::and)
    }

    /// The table for a person.
    pub(crate) fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
        let mut table = String::from("\n");
        for Row { what, held, detail } in &self.rows {
            let held = if *held { "yes" } else { "NO" };
            writeln!(table, "  {what:<width$}  {held:<3}  {detail}")
                .expect("a string takes everything");
        }
        table.push_str("\nsettings of this run, in deploy/demo/config.toml:\n");
        for (name, value) in &self.settings {
            writeln!(table, "  {name:<width$}  {value}").expect("a string takes everything");
        }
        table.push('\n');
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_that_did_not_happen_breaks_the_demo() {
        let mut closing = Closing::default();
        closing.row("learned", true, "74 s");
        assert_eq!(closing.broken(), None);
        closing.row("flagged", false, "no alert");
        assert_eq!(closing.broken().unwrap(), "this did not happen: flagged (no alert)");
        assert!(closing.table().contains("flagged  NO   no alert"));
    }
}
