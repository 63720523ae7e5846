//! Installs, one source after the other, with a line of progress for each.

use std::{process::Command, time::Instant};

use anyhow::bail;
use bulkhead_tests::command::exists;

use super::group::{Missing, Source};
use crate::{outcome::Refusal, step, workspace};

/// Installs everything in the list.
pub(crate) fn all(missing: &[Missing]) -> anyhow::Result<()> {
    let packages: Vec<_> =
        missing.iter().filter(|item| item.source == Source::Apt).map(|item| item.name).collect();
    if !packages.is_empty() {
        apt(&packages)?;
    }
    for item in missing {
        if let Source::Crate(version) = item.source {
            timed(&format!("{} {version}: {}", item.name, item.purpose), || {
                let mut cargo = workspace::cargo();
                cargo.args(["install", "--locked", item.name, "--version", version]);
                step::quietly(item.name, &mut cargo)
            })?;
        }
    }
    Ok(())
}

fn apt(packages: &[&str]) -> anyhow::Result<()> {
    if !exists("apt-get") {
        let names = packages.join(" ");
        bail!(Refusal::Machine(format!(
            "this is no Debian: install the counterparts of {names}, then run it again"
        )));
    }
    let root = rustix::process::geteuid().is_root();
    if !root && !exists("sudo") {
        let names = packages.join(" ");
        bail!(Refusal::Machine(format!(
            "as root: apt-get install --no-install-recommends {names}"
        )));
    }
    let command = || {
        let mut command = Command::new(if root { "env" } else { "sudo" });
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]);
        command
    };
    timed("package lists", || step::quietly("apt-update", command().arg("update")))?;
    timed(&format!("packages: {}", packages.join(" ")), || {
        let mut install = command();
        install.args(["install", "--yes", "--no-install-recommends"]).args(packages);
        step::quietly("apt-install", &mut install)
    })
}

fn timed(what: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    println!("    … {what}");
    let started = Instant::now();
    work()?;
    println!("      done in {} s", started.elapsed().as_secs());
    Ok(())
}
