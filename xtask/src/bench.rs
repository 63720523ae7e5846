//! Measures what observing costs, and holds it against the bounds that the specification promises.
//!
//! Every comparison is interleaved in one run, because what a machine does differs more from minute to minute than what is
//! compared. Figures are ratios: nanoseconds mean nothing elsewhere.

mod latency;
mod memory;
mod nginx;
mod starts;
mod syscalls;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::{ebpf, outcome::Refusal, step, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds of each comparison; the medians are compared.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Run these alone.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Bench>,
    /// Write the figures into this file as well.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure this build of the product in `memory` and `starts`, and build none.
    #[arg(long, value_name = "PROGRAM")]
    program: Option<PathBuf>,
    #[command(flatten)]
    starts: starts::Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Bench {
    /// What the observers add to a system call.
    Syscalls,
    /// What of its throughput nginx keeps under load.
    Nginx,
    /// How soon a measure refuses its first packet.
    Latency,
    /// What both processes and their maps take with fifty containers.
    Memory,
    /// Whether a container that starts or restarts gets a packet past a measure; takes a quarter of an hour.
    Starts,
}

/// A figure, and the bound that it must keep.
pub(crate) struct Figure {
    /// What it is, in words.
    pub(crate) name: &'static str,
    /// What was measured.
    pub(crate) value: f64,
    /// What it may be.
    pub(crate) bound: Bound,
}

/// What a figure may be.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    fn holds(&self) -> bool {
        match self.bound {
            Bound::AtMost(bound) => self.value <= bound,
            Bound::AtLeast(bound) => self.value >= bound,
        }
    }

    fn line(&self) -> String {
        let (word, bound) = match self.bound {
            Bound::AtMost(bound) => ("at most", bound),
            Bound::AtLeast(bound) => ("at least", bound),
        };
        let verdict = if self.holds() { "held" } else { "MISSED" };
        format!("{verdict:<7}{:>6.2}  {word} {bound:.2}  {}", self.value, self.name)
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(Refusal::Machine("benchmarks load programs into the kernel: they need root".into()));
    }
    if arguments.rounds == 0 {
        bail!(Refusal::Usage("--rounds must be at least 1".into()));
    }
    ebpf::run(&ebpf::Arguments {})?;
    let wants = |bench| arguments.only.is_empty() || arguments.only.contains(&bench);
    let mut figures = Vec::new();
    let mut details = serde_json::Map::new();
    if wants(Bench::Syscalls) {
        let (measured, found) = syscalls::run(arguments.rounds)?;
        details.insert("syscalls".into(), measured);
        figures.extend(found);
    }
    if wants(Bench::Nginx) {
        let (measured, found) = nginx::run(arguments.rounds)?;
        details.insert("nginx".into(), measured);
        figures.extend(found);
    }
    if wants(Bench::Latency) {
        let (measured, found) = latency::run()?;
        details.insert("latency".into(), measured);
        figures.extend(found);
    }
    if wants(Bench::Memory) || wants(Bench::Starts) {
        let program = arguments.program.clone().map_or_else(product, Ok)?;
        if wants(Bench::Memory) {
            let (measured, found) = memory::run(&program)?;
            details.insert("memory".into(), measured);
            figures.extend(found);
        }
        if wants(Bench::Starts) {
            let (measured, found) = starts::run(&arguments.starts, &program)?;
            details.insert("starts".into(), measured);
            figures.extend(found);
        }
    }
    for figure in &figures {
        println!("{}", figure.line());
    }
    if let Some(path) = &arguments.json {
        write_json(path, &figures, &details)?;
    }
    let missed = figures.iter().filter(|figure| !figure.holds()).count();
    if missed > 0 {
        bail!("{missed} of {} bounds did not hold", figures.len());
    }
    println!("bench: all {} bounds held, over {} rounds", figures.len(), arguments.rounds);
    Ok(())
}

/// Builds the product as it is released, and says where it is.
fn product() -> anyhow::Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "bulkhead-cli"]);
    println!("bench: building the product as it is released; the first time takes minutes");
    step::quietly("bench-build-product", &mut cargo)?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace::root().join("target"), PathBuf::from);
    Ok(target.join("release/bulkhead"))
}

fn write_json(
    path: &PathBuf,
    figures: &[Figure],
    details: &serde_json::Map<String, Value>,
) -> anyhow::Result<()> {
    let figures: Vec<_> = figures
        .iter()
        .map(|figure| {
            let (kind, bound) = match figure.bound {
                Bound::AtMost(bound) => ("at_most", bound),
                Bound::AtLeast(bound) => ("at_least", bound),
            };
            json!({ "name": figure.name, "value": figure.value, kind: bound, "held": figure.holds() })
        })
        .collect();
    let text = serde_json::to_string_pretty(&json!({ "figures": figures, "measured": details }))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_at_its_bound_holds_and_one_beyond_it_does_not() {
        let figure = |value, bound| Figure { name: "cost", value, bound };
        assert!(figure(1.6, Bound::AtMost(1.6)).holds());
        assert!(!figure(1.61, Bound::AtMost(1.6)).holds());
        assert!(figure(0.93, Bound::AtLeast(0.93)).holds());
        assert!(figure(0.5, Bound::AtLeast(0.93)).line().starts_with("MISSED"));
    }
}
