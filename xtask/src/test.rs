//! Runs every check and every test, one stage after the other, and says how each went.
//!
//! Everything is built once, in one profile; the test programs are then run in groups. A stage that this machine
//! cannot run is left out by name; with `CI` set it is a failure.

mod build;
mod libtest;
pub(crate) mod report;
mod stage;

use anyhow::bail;

use self::report::{Report, Verdict};
use crate::{
    outcome::Refusal,
    setup::{self, Group},
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Agree to the installation of what is missing beforehand.
    #[arg(long)]
    yes: bool,
    /// Run these stages alone.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<stage::Stage>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let ci = std::env::var_os("CI").is_some();
    if cfg!(target_os = "linux") {
        prepare(arguments.yes)?;
    }
    let stages: Vec<_> = stage::ALL
        .into_iter()
        .filter(|stage| arguments.only.is_empty() || arguments.only.contains(stage))
        .collect();
    let mut report = Report::default();
    let mut built = None;
    for stage in stages {
        println!("=== {}: {}", stage.name(), stage.purpose());
        let verdict = report.timed(stage.name(), || stage.run(&mut built));
        match verdict {
            Verdict::Held { .. } => {}
            Verdict::Failed { causes, .. } => {
                for cause in causes {
                    eprintln!("    FAILED {cause}");
                }
            }
            Verdict::LeftOut(cause) => println!("    left out: {cause}"),
        }
    }
    print!("{}", report.table());
    let counts = report.counts(ci);
    println!("{counts}");
    if counts.failed > 0 {
        bail!("{} of the checks and tests did not hold", counts.failed);
    }
    Ok(())
}

/// Installs what is missing; where that is not possible, the stages that need it are left out instead.
fn prepare(yes: bool) -> anyhow::Result<()> {
    let groups = [Group::Ebpf, Group::Containers];
    match setup::prepare(&groups, yes) {
        Ok(()) => Ok(()),
        // Without a terminal a person has to say so; everything else may be left out.
        Err(error) if !setup::can_ask(yes) => Err(error),
        Err(error) if error.is::<Refusal>() => {
            println!("    {error:#}");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
