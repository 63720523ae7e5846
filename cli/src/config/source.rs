//! Where keys come from: the file, `config.d/`, the environment; later ones win, key by key.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::{ConfigError, DEFAULT_FILE, twin};

/// Variables of that prefix which are no configuration keys.
const RESERVED: [&str; 2] = ["BULKHEAD_CONFIG", "BULKHEAD_LOG"];

/// Everything written, merged; each source was checked by itself, so that an error names it.
pub(super) fn gather(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Table, ConfigError> {
    let mut merged = Table::new();
    let main = file.unwrap_or(Path::new(DEFAULT_FILE));
    let mut files = vec![main.to_owned()];
    files.extend(fragments(&main.with_file_name("config.d"))?);
    for path in files {
        match std::fs::read_to_string(&path) {
            Ok(text) => merge(&mut merged, parse(&path, &text)?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && file.is_none() => {}
            Err(cause) => return Err(ConfigError::Read { path, cause }),
        }
    }
    let mut variables: Vec<(String, String)> = environment
        .into_iter()
        .filter(|(n, _)| n.starts_with("BULKHEAD_") && !RESERVED.contains(&n.as_str()))
        .filter(|(n, _)| !n.starts_with("BULKHEAD_TEST_"))
        .collect();
    variables.sort();
    for (name, value) in variables {
        let table = variable(&name, &value)?;
        merge(&mut merged, table);
    }
    Ok(merged)
}

/// The merged table as a twin.
pub(super) fn twin(table: Table) -> Result<twin::File, String> {
    twin::File::deserialize(table).map_err(|e| e.to_string())
}

/// `*.toml` of the directory, by name.
fn fragments(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(ConfigError::Read { path: directory.to_owned(), cause }),
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    paths.sort();
    Ok(paths)
}

fn parse(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let refuse = |message: String| ConfigError::File {
        path: path.to_owned(),
        message: message.trim_end().to_owned(),
    };
    toml::from_str::<twin::File>(text).map_err(|e| refuse(e.to_string()))?;
    toml::from_str(text).map_err(|e: toml::de::Error| refuse(e.to_string()))
}

/// `BULKHEAD_DETECTION_LEARN_FOR=2m` is `learn-for` of `[detection]`; lists are written as in TOML.
fn variable(name: &str, value: &str) -> Result<Table, ConfigError> {
    let lower = name["BULKHEAD_".len()..].to_ascii_lowercase();
    let section = twin::SECTIONS
        .iter()
        .find_map(|s| lower.strip_prefix(s)?.strip_prefix('_').map(|key| (*s, key)));
    let refuse = |message: String| ConfigError::Env { name: name.to_owned(), message };
    let build = |value: Value| {
        let mut table = Table::new();
        match section {
            Some((section, key)) => {
                let inner = Table::from_iter([(key.replace('_', "-"), value)]);
                table.insert(section.to_owned(), Value::Table(inner));
            }
            None => {
                table.insert(lower.replace('_', "-"), value);
            }
        }
        table
    };
    // Most values are texts (durations, names, budgets); what is none is tried as TOML first.
    let typed =
        toml::from_str::<Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    let mut error = String::new();
    for candidate in typed.into_iter().chain([Value::String(value.to_owned())]) {
        let table = build(candidate);
        match twin(table.clone()) {
            Ok(_) => return Ok(table),
            Err(message) if error.is_empty() => error = message,
            Err(_) => {}
        }
    }
    Err(refuse(error.trim_end().to_owned()))
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(table)) => merge(inner, table),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}
