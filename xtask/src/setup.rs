//! Brings a fresh machine to where the demo and the tests run.
//!
//! What is there is left alone, so it can be repeated; what is missing is named with its purpose before anything is
//! installed, and comes from the machine's own package sources and from crates.io.

mod group;
mod install;
mod mounts;

use std::io::IsTerminal as _;

use anyhow::bail;
use bulkhead_tests::requirement::Need;

pub(crate) use group::Group;

use crate::{ask, outcome::Refusal};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to prepare for; everything that the demo and the tests need when none is named.
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Agree to every installation beforehand.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let groups = if arguments.groups.is_empty() {
        vec![Group::Ebpf, Group::Containers]
    } else {
        arguments.groups.clone()
    };
    prepare(&groups, arguments.yes)?;
    println!("setup: everything for {} is here", names(&groups));
    Ok(())
}

/// Installs what these groups lack, after asking, and mounts what the kernel's programs need.
pub(crate) fn prepare(groups: &[Group], yes: bool) -> anyhow::Result<()> {
    let missing: Vec<_> = groups.iter().flat_map(|group| group.missing()).collect();
    if !missing.is_empty() {
        println!("setup: {} to install", count(missing.len(), "thing"));
        for item in &missing {
            println!("    {:<28} {}", item.name, item.purpose);
        }
        if !ask::agreed("Install them?", yes)? {
            bail!(Refusal::Usage(format!(
                "nothing was installed; {} cannot run without them",
                names(groups)
            )));
        }
        install::all(&missing)?;
        let left: Vec<_> =
            groups.iter().flat_map(|group| group.missing()).map(|item| item.name).collect();
        if !left.is_empty() {
            bail!("still missing after the installation: {}", left.join(", "));
        }
    }
    if groups.contains(&Group::Ebpf) && rustix::process::geteuid().is_root() {
        mounts::prepare()?;
    }
    Ok(())
}

/// Refuses, in one line, where no installation would help: used by what cannot run in part.
pub(crate) fn require(what: &str, needs: &[Need]) -> anyhow::Result<()> {
    if cfg!(not(target_os = "linux")) {
        bail!(Refusal::Machine(format!("{what} cannot run here: it needs Linux")));
    }
    match needs.iter().find_map(|need| need.lacking()) {
        None => Ok(()),
        Some(cause) => bail!(Refusal::Machine(format!("{what} cannot run here: {cause}"))),
    }
}

/// Whether a person is there to be asked.
pub(crate) fn can_ask(yes: bool) -> bool {
    yes || std::io::stdin().is_terminal()
}

fn names(groups: &[Group]) -> String {
    groups.iter().map(|group| group.name()).collect::<Vec<_>>().join(" and ")
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
