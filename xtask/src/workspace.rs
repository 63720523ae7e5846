//! Where the workspace is, what is in it, and the cargo that builds it.

use std::{path::Path, process::Command};

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
