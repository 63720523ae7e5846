//! What the observers add to a system call, as multiples of what empty programs on the same hooks and `bpftrace` add.

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{Bound, Figure};
use crate::{step, workspace};

/// Builds the program that loads the observers and measures.
pub(super) fn program() -> anyhow::Result<std::path::PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "bulkhead-loader"]);
    cargo.args(["--example", "syscall_cost"]);
    println!("bench: building the measuring program");
    step::quietly("bench-build", &mut cargo)?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace::root().join("target"), std::path::PathBuf::from);
    Ok(target.join("release/examples/syscall_cost"))
}

pub(super) fn run(rounds: usize) -> anyhow::Result<(Value, Vec<Figure>)> {
    let program = program()?;
    println!("bench: {rounds} rounds of system calls, about 6 s each");
    let mut command = std::process::Command::new(program);
    command.arg(rounds.to_string()).arg(workspace::root().join("target/bpf/empty.o"));
    let ended = step::logged("bench-syscalls", &mut command)?;
    if !ended.success {
        bail!("measuring system calls failed; its words are in {}", ended.log.display());
    }
    let line = ended.output.lines().find(|line| line.starts_with('{'));
    let measured: Value = serde_json::from_str(line.context("no figures were printed")?)?;
    let figures = figures(&measured)?;
    Ok((measured, figures))
}

fn figures(measured: &Value) -> anyhow::Result<Vec<Figure>> {
    let added = |mode: &str, variant: &str| -> Option<f64> {
        let of = |variant: &str| measured.get(mode)?.get(variant)?.as_f64();
        Some(of(variant)? - of("none")?)
    };
    let ratio = |mode, of, to| -> anyhow::Result<f64> {
        let added = added(mode, of).zip(added(mode, to));
        let (of, to) = added.with_context(|| format!("{of} or {to} was not measured"))?;
        Ok(of / to)
    };
    let (calls, switches) = ("ns_per_call", "ns_per_call_switching");
    let mut figures = vec![
        Figure {
            name: "added to a call, as a multiple of empty programs",
            value: ratio(calls, "observe", "empty")?,
            bound: Bound::AtMost(1.6),
        },
        Figure {
            name: "the same, where every call switches tasks",
            value: ratio(switches, "observe", "empty")?,
            bound: Bound::AtMost(1.8),
        },
    ];
    if added(calls, "bpftrace").is_some() {
        figures.push(Figure {
            name: "added to a call, as a multiple of bpftrace counting per cgroup and id",
            value: ratio(calls, "observe", "bpftrace")?,
            bound: Bound::AtMost(0.5),
        });
    } else {
        println!("bench: bpftrace is missing, so nothing is compared with it");
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_added_is_compared_and_not_the_floor() {
        let measured = json!({
            "ns_per_call": { "none": 100.0, "empty": 150.0, "observe": 175.0, "bpftrace": 300.0 },
            "ns_per_call_switching": { "none": 1000.0, "empty": 1100.0, "observe": 1200.0 },
        });
        let values: Vec<_> =
            figures(&measured).unwrap().iter().map(|figure| figure.value).collect();
        assert_eq!(values, [1.5, 2.0, 0.375]);
    }

    #[test]
    fn a_variant_that_is_missing_is_an_error() {
        assert!(figures(&json!({ "ns_per_call": { "none": 1.0 } })).is_err());
    }
}
