//! Where the workspace is, what is in it, and the cargo that builds it.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::Context as _;
use bulkhead_tests::{command::output, image};
use serde_json::Value;

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    image::workspace()
}

/// The pinned cargo, at the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What cargo set for this process would make the inner build differ from the outer, and be built twice.
    for (key, _) in std::env::vars_os() {
        let key = key.to_string_lossy().into_owned();
        if key.starts_with("CARGO_PKG_")
            || key.starts_with("CARGO_MANIFEST")
            || key == "CARGO_BIN_NAME"
        {
            command.env_remove(key);
        }
    }
    command
}

/// What `cargo metadata` says: every package, and who depends on whom.
pub(crate) fn metadata() -> anyhow::Result<Value> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    serde_json::from_str(&text).context("cargo metadata is not understood")
}

/// Packages of the workspace that cannot build without this one, itself included.
pub(crate) fn standing_on(metadata: &Value, package: &str) -> BTreeSet<String> {
    let members = || {
        let all = metadata["packages"].as_array().into_iter().flatten();
        all.filter(|member| member["source"].is_null())
            .filter_map(|member| Some((member["name"].as_str()?, member)))
    };
    let uses = |member: &Value, of: &BTreeSet<String>, tests: bool| {
        member["dependencies"].as_array().into_iter().flatten().any(|dependency| {
            (tests || dependency["kind"] != "dev")
                && dependency["name"].as_str().is_some_and(|name| of.contains(name))
        })
    };
    let mut standing = BTreeSet::from([package.to_owned()]);
    loop {
        let more: Vec<_> = members()
            .filter(|(name, member)| !standing.contains(*name) && uses(member, &standing, false))
            .map(|(name, _)| name.to_owned())
            .collect();
        if more.is_empty() {
            break;
        }
        standing.extend(more);
    }
    // What only the tests of a package need is needed to build those tests, and by nobody beyond.
    let tests: Vec<_> = members()
        .filter(|(_, member)| uses(member, &standing, true))
        .map(|(name, _)| name.to_owned())
        .collect();
    standing.extend(tests);
    standing
}

/// Every file that git keeps or would keep, relative to the root.
pub(crate) fn files() -> anyhow::Result<Vec<String>> {
    let listed = output(Command::new("git").current_dir(root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "--deduplicate",
    ]))?;
    Ok(listed.lines().filter(|path| root().join(path).is_file()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_stands_on_a_package_is_found_through_others_and_through_tests() {
        let package =
            |name: &str, uses: Value| json!({ "name": name, "source": null, "dependencies": uses });
        let metadata = json!({ "packages": [
            package("loader", json!([{ "name": "tests", "kind": "dev" }])),
            package("collector", json!([{ "name": "loader", "kind": null }])),
            package("cli", json!([{ "name": "collector", "kind": null }])),
            package("tests", json!([{ "name": "cli", "kind": "dev" }])),
            package("xtask", json!([{ "name": "tests", "kind": null }])),
            package("bus", json!([])),
        ] });
        let standing = standing_on(&metadata, "loader");
        assert_eq!(
            standing.into_iter().collect::<Vec<_>>(),
            ["cli", "collector", "loader", "tests"]
        );
    }
}
