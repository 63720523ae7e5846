//! How long it takes from a measure committed to the log until the first packet is refused.

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{Bound, Figure};
use crate::{step, workspace};

/// Measures that are timed: enough for a 99th percentile of ten.
const MEASURES: u32 = 1_000;

pub(super) fn run() -> anyhow::Result<(Value, Vec<Figure>)> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "bulkhead-enforcer"]);
    cargo.args(["--example", "deny_latency"]);
    println!("bench: building the program that times measures");
    step::quietly("bench-build-latency", &mut cargo)?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace::root().join("target"), std::path::PathBuf::from);
    println!("bench: {MEASURES} measures, about 40 s");
    let mut command = std::process::Command::new(target.join("release/examples/deny_latency"));
    command.arg(MEASURES.to_string());
    let ended = step::logged("bench-latency", &mut command)?;
    if !ended.success {
        bail!("timing measures failed; its words are in {}", ended.log.display());
    }
    let line = ended.output.lines().find(|line| line.starts_with('{'));
    let measured: Value = serde_json::from_str(line.context("no figures were printed")?)?;
    let p99 = measured["p99_ms"].as_f64().context("no p99 was printed")?;
    let name = "ms, p99, from a measure in the log to the first refused packet";
    Ok((measured, vec![Figure { name, value: p99, bound: Bound::AtMost(5.0) }]))
}
