//! What `deny.toml` allows of other people's crates: licences, several versions of one, and who may use which.
//!
//! The file is cargo-deny's own; this reads the parts of it that need no network and no minutes of building.

use std::{collections::BTreeMap, fs};

use anyhow::Context as _;
use serde_json::Value;
use toml::Table;

use crate::workspace;

/// Everything in the dependencies that the file does not allow.
pub(crate) fn check(metadata: &Value) -> anyhow::Result<Vec<String>> {
    let text =
        fs::read_to_string(workspace::root().join("deny.toml")).context("cannot read deny.toml")?;
    let rules: Table = text.parse().context("deny.toml")?;
    let mut broken = licences(&rules, metadata);
    broken.extend(versions(&rules, metadata));
    broken.extend(wrappers(&rules, metadata));
    Ok(broken)
}

fn licences(rules: &Table, metadata: &Value) -> Vec<String> {
    let allowed = strings(rules.get("licenses").and_then(|table| table.get("allow")));
    packages(metadata)
        .filter_map(|package| {
            let licence = package["license"].as_str().unwrap_or("none");
            let fine = satisfied(licence, &allowed);
            (!fine).then(|| format!("deny.toml: {} has the licence {licence}", package["name"]))
        })
        .collect()
}

/// Whether a licence expression can be met with the licences that are allowed.
fn satisfied(expression: &str, allowed: &[&str]) -> bool {
    // `/` is the old spelling of OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest, allowed) && rest.is_empty()
}

fn either(words: &mut &[&str], allowed: &[&str]) -> bool {
    let mut met = both(words, allowed);
    while let ["OR", rest @ ..] = words {
        *words = rest;
        met |= both(words, allowed);
    }
    met
}

fn both(words: &mut &[&str], allowed: &[&str]) -> bool {
    let mut met = one(words, allowed);
    while let ["AND", rest @ ..] = words {
        *words = rest;
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &[&str]) -> bool {
    match words {
        ["(", rest @ ..] => {
            *words = rest;
            let met = either(words, allowed);
            *words = words.strip_prefix(&[")"]).unwrap_or(words);
            met
        }
        // An exception only adds permissions, but it is another licence all the same.
        [licence, "WITH", exception, rest @ ..] => {
            let met = allowed.contains(&format!("{licence} WITH {exception}").as_str());
            *words = rest;
            met
        }
        [licence, rest @ ..] => {
            let met = allowed.contains(licence);
            *words = rest;
            met
        }
        [] => false,
    }
}

/// Crates of which two versions are built, unless the file names them with a reason.
fn versions(rules: &Table, metadata: &Value) -> Vec<String> {
    let skipped = named(rules, "skip");
    let mut seen = BTreeMap::<&str, Vec<&str>>::new();
    for package in packages(metadata) {
        let name = package["name"].as_str().unwrap_or_default();
        seen.entry(name).or_default().push(package["version"].as_str().unwrap_or_default());
    }
    seen.into_iter()
        .filter(|(name, versions)| {
            versions.len() > 1 && !skipped.iter().any(|(skipped, _)| skipped == name)
        })
        .map(|(name, versions)| {
            format!("deny.toml: {name} is built in versions {}", versions.join(" and "))
        })
        .collect()
}

/// Crates that only some rooms may use, used by another.
fn wrappers(rules: &Table, metadata: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for (denied, entry) in named(rules, "deny") {
        let allowed = strings(entry.get("wrappers"));
        for package in metadata["packages"].as_array().into_iter().flatten() {
            let from = package["name"].as_str().unwrap_or_default();
            let uses = package["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|to| to["name"] == denied.as_str());
            if uses && package["source"].is_null() && !allowed.contains(&from) {
                broken.push(format!(
                    "deny.toml: {from} uses {denied}, which is for {}",
                    allowed.join(", ")
                ));
            }
        }
    }
    broken
}

/// Other people's packages.
fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|package| !package["source"].is_null())
}

/// The entries of a list under `[bans]`, by the crate that each names.
fn named(rules: &Table, list: &str) -> Vec<(String, Table)> {
    let entries = rules.get("bans").and_then(|bans| bans.get(list)).and_then(toml::Value::as_array);
    entries
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let table = entry.as_table()?;
            let name = table.get("crate")?.as_str()?;
            Some((name.split('@').next().unwrap_or(name).to_owned(), table.clone()))
        })
        .collect()
}

fn strings(value: Option<&toml::Value>) -> Vec<&str> {
    value
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_licence_expression_is_met_by_one_of_its_choices() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"];
        assert!(satisfied("MIT OR Apache-2.0 OR LGPL-2.1-or-later", &allowed));
        assert!(satisfied("MIT/Apache-2.0", &allowed));
        assert!(satisfied("(MIT OR Apache-2.0) AND Unicode-3.0", &allowed));
        assert!(satisfied("Apache-2.0 WITH LLVM-exception OR MIT", &allowed));
        assert!(!satisfied("Apache-2.0 WITH LLVM-exception", &allowed));
        assert!(!satisfied("MIT AND GPL-3.0-only", &allowed));
        assert!(!satisfied("", &allowed));
    }

    #[test]
    fn a_crate_is_kept_to_its_room() {
        let rules: Table = "[bans]\ndeny = [{ crate = \"aya\", wrappers = [\"bulkhead-loader\"] }]"
            .parse()
            .unwrap();
        let uses = |room: &str| {
            let dependencies = json!([{ "name": "aya" }]);
            json!({ "packages": [{ "name": room, "source": null, "dependencies": dependencies }] })
        };
        assert!(wrappers(&rules, &uses("bulkhead-loader")).is_empty());
        assert_eq!(wrappers(&rules, &uses("bulkhead-cli")).len(), 1);
    }

    #[test]
    fn a_second_version_has_to_be_named() {
        let rules: Table =
            "[bans]\nskip = [{ crate = \"syn\", reason = \"derive crates move slowly\" }]"
                .parse()
                .unwrap();
        let twice = |name: &str| {
            let package =
                |version: &str| json!({ "name": name, "version": version, "source": "registry" });
            json!({ "packages": [package("1.0.0"), package("2.0.0")] })
        };
        assert!(versions(&rules, &twice("syn")).is_empty());
        assert_eq!(versions(&rules, &twice("winnow")).len(), 1);
    }
}
