//! What the demo needs to know of the configuration that it runs with.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail};
use toml::{Table, Value};

use crate::workspace;

/// The checked-in configuration, and the parts of it that the demo paces itself by.
#[derive(Debug)]
pub(crate) struct Settings {
    table: Table,
    /// The length of a window.
    pub(crate) step: Duration,
    /// Windows without an exceedance that close an incident.
    pub(crate) quiet_windows: u32,
}

impl Settings {
    /// The checked-in configuration, as it is written.
    pub(crate) fn text() -> anyhow::Result<String> {
        let path = workspace::root().join("deploy/demo/config.toml");
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    pub(crate) fn read() -> anyhow::Result<Self> {
        Self::parse(&Self::text()?).context("deploy/demo/config.toml")
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let table: Table = text.parse()?;
        // What is not set is the product's own default.
        let step = match find(&table, "collector.step") {
            None => Duration::from_secs(5),
            Some(value) => seconds(value).context("collector.step")?,
        };
        let quiet =
            find(&table, "detection.quiet-windows").and_then(Value::as_integer).unwrap_or(10);
        Ok(Self {
            step,
            quiet_windows: u32::try_from(quiet).context("detection.quiet-windows")?,
            table,
        })
    }

    /// How long a container has to be quiet until its incident is closed, and a little more.
    pub(crate) fn quiet(&self) -> Duration {
        self.step * (self.quiet_windows + 1)
    }

    /// A setting as it is written, for the closing table.
    pub(crate) fn shown(&self, key: &str) -> String {
        find(&self.table, key).map_or_else(|| "default".to_owned(), ToString::to_string)
    }
}

fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let (section, key) = key.split_once('.')?;
    table.get(section)?.get(key)
}

/// Reads the plain durations that a configuration for a short run has.
fn seconds(value: &Value) -> anyhow::Result<Duration> {
    let text = value.as_str().context("not a text")?;
    let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let number: u64 =
        text[..text.len() - unit.len()].parse().with_context(|| format!("{text:?}"))?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => bail!("{text:?} is not in seconds or minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_the_products_default() {
        let settings = Settings::parse("").unwrap();
        assert_eq!(settings.quiet(), Duration::from_secs(55));
        assert_eq!(settings.shown("detection.budget"), "default");
    }

    #[test]
    fn the_demo_paces_itself_by_what_is_set() {
        let text =
            "[collector]\nstep = \"2s\"\n[detection]\nquiet-windows = 9\nbudget = \"5/day\"\n";
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.quiet(), Duration::from_secs(20));
        assert_eq!(settings.shown("detection.budget"), "\"5/day\"");
    }

    #[test]
    fn the_checked_in_configuration_is_understood() {
        Settings::read().unwrap();
    }
}
