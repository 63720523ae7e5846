//! Builds every program and every test in one go, and learns where the test programs are.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::workspace;

/// Which machine a test program needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any.
    Unit,
    /// One whose kernel takes our programs.
    Kernel,
    /// One that runs containers as well.
    Containers,
}

/// A test program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Crate and target, as `loader/escapes`.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    /// The folder of its crate, in which cargo would run it.
    pub(crate) folder: PathBuf,
}

/// What a build made.
#[derive(Debug, Default)]
pub(crate) struct Built {
    pub(crate) programs: Vec<Program>,
}

/// Builds everything, with the words of the compiler in sight.
pub(crate) fn everything() -> anyhow::Result<Built> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--workspace", "--all-targets", "--locked"]).args(left_out()?);
    cargo.args(["--quiet", "--message-format", "json-render-diagnostics"]);
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo build")?;
    let mut built = Built::default();
    for line in BufReader::new(child.stdout.take().expect("it was asked for")).lines() {
        // Build scripts may print lines of their own among cargo's.
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        built.programs.extend(program(&message));
    }
    if !child.wait()?.success() {
        bail!("the workspace does not build");
    }
    built.programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(built)
}

/// Options that leave out what embeds the kernel programs, where those cannot be built.
pub(crate) fn left_out() -> anyhow::Result<Vec<String>> {
    if crate::build::kernel_programs_are_there() {
        return Ok(Vec::new());
    }
    let packages = workspace::standing_on(&workspace::metadata()?, "bulkhead-loader");
    println!(
        "    left out, for lack of the kernel programs: {}",
        packages.iter().cloned().collect::<Vec<_>>().join(", ")
    );
    Ok(packages.into_iter().flat_map(|package| ["--exclude".to_owned(), package]).collect())
}

/// The test program that a message of cargo's announces, if it does.
fn program(message: &Value) -> Option<Program> {
    if message.pointer("/reason")?.as_str()? != "compiler-artifact"
        || !message.pointer("/profile/test")?.as_bool()?
    {
        return None;
    }
    let path = PathBuf::from(message.pointer("/executable")?.as_str()?);
    let folder = Path::new(message.pointer("/manifest_path")?.as_str()?).parent()?.to_owned();
    let room = folder.file_name()?.to_str()?.to_owned();
    let target = message.pointer("/target/name")?.as_str()?;
    let integration = message.pointer("/target/kind/0")?.as_str()? == "test";
    let kind = match (integration, room.as_str()) {
        (true, "loader" | "enforcer" | "collector") => Kind::Kernel,
        (true, "tests") => Kind::Containers,
        _ => Kind::Unit,
    };
    let name = if integration { format!("{room}/{target}") } else { room };
    Some(Program { name, kind, path, folder })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn artifact(folder: &str, kind: &str, test: bool) -> Value {
        json!({
            "reason": "compiler-artifact",
            "manifest_path": format!("{folder}/Cargo.toml"),
            "target": { "kind": [kind], "name": "escapes" },
            "profile": { "test": test },
            "executable": "/out/escapes-1",
        })
    }

    #[test]
    fn the_room_of_a_test_tells_which_machine_it_needs() {
        let kind =
            |folder, target| program(&artifact(folder, target, true)).map(|program| program.kind);
        assert_eq!(kind("/w/loader", "test"), Some(Kind::Kernel));
        assert_eq!(kind("/w/loader", "lib"), Some(Kind::Unit));
        assert_eq!(kind("/w/tests", "test"), Some(Kind::Containers));
        assert_eq!(kind("/w/bus", "test"), Some(Kind::Unit));
    }

    #[test]
    fn a_program_that_is_no_test_is_not_run() {
        assert_eq!(program(&artifact("/w/cli", "bin", false)), None);
    }
}
