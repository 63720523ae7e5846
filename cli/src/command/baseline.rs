//! `bulkhead baseline`: what a workload has been seen to do.

use std::collections::BTreeSet;
use std::path::Path;

use bulkhead_api::protocol::{Reply, Request};
use bulkhead_domain::baseline::{BaselineEntry, Provenance};
use bulkhead_domain::text::printable;
use bulkhead_domain::view::{BaselineView, WorkloadSummary};
use serde::Serialize;

use super::{done, workloads};
use crate::args::{Baseline, Global};
use crate::outcome::{Failure, Outcome};
use crate::output::{self, Table};
use crate::service;

/// Lists, shows, compares, exports, blames or accepts.
pub fn run(global: &Global, command: Baseline) -> Result<Outcome, Failure> {
    match command {
        Baseline::List => list(global),
        Baseline::Show { workload, review } => {
            let mut view = fetch(global, workload)?;
            if review {
                view.entries.retain(|e| e.review);
            }
            output::show(global.output, &view, || show(&view));
            Ok(Outcome::Done)
        }
        Baseline::Diff { workload, other, file } => {
            let left = fetch(global, workload)?;
            let right = match (other, file) {
                (_, Some(file)) => read(&file)?,
                (other, None) => fetch(global, other.unwrap_or_default())?,
            };
            let difference = diff(&left, &right);
            output::show(global.output, &difference, || difference.text());
            Ok(if difference.is_empty() { Outcome::Done } else { Outcome::Found })
        }
        Baseline::Export { workload } => {
            let view = fetch(global, workload)?;
            output::show(crate::args::Format::Json, &view, String::new);
            Ok(Outcome::Done)
        }
        Baseline::Blame { workload, act } => {
            let mut view = fetch(global, workload)?;
            if let Some(text) = act {
                view.entries.retain(|e| e.act.to_string().contains(&text));
            }
            output::show(global.output, &view.entries, || blame(&view.entries));
            Ok(Outcome::Done)
        }
        Baseline::Accept { workload, act, why } => done::send(
            global,
            Request::AcceptAct { workload, act, why },
            "See it with `bulkhead baseline blame`.",
        ),
    }
}

fn fetch(global: &Global, workload: String) -> Result<BaselineView, Failure> {
    match service::ask(global, Request::Baseline { workload })? {
        Reply::Baseline(view) => Ok(view),
        other => Err(service::unexpected(&other)),
    }
}

/// A baseline that `export` wrote.
fn read(path: &Path) -> Result<BaselineView, Failure> {
    let name = path.display();
    let bytes =
        std::fs::read(path).map_err(|e| Failure::Usage(format!("cannot read {name}: {e}")))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Failure::Usage(format!(
            "{name} is no exported baseline ({e}): write one with `bulkhead baseline export`"
        ))
    })
}

fn list(global: &Global) -> Result<Outcome, Failure> {
    let reply = service::ask(global, Request::Workloads { workload: None })?;
    let Reply::Workloads(list) = reply else { return Err(service::unexpected(&reply)) };
    output::show(global.output, &list, || {
        let mut table =
            Table::new(["WORKLOAD", "ENTRIES", "REVIEW", "VERSION", "MODE", "LAST RECORD"]);
        let now = output::now();
        for WorkloadSummary { name, entries, review, baseline_version, mode, last, .. } in &list {
            table.row(&[
                name.short(),
                entries.to_string(),
                review.to_string(),
                baseline_version.to_string(),
                mode.word().into(),
                output::relative(*last, now),
            ]);
        }
        table.render()
    });
    Ok(Outcome::Done)
}

fn show(view: &BaselineView) -> String {
    let mut text = format!(
        "{}: version {}, {} windows, {} entries\n\n",
        printable(&view.workload.to_string(), 200),
        view.version,
        view.windows,
        view.entries.len()
    );
    let mut table = Table::new(["ACT", "COUNT", "CELLS", "CONTAINERS", "LAST", "STATE"]);
    for e in &view.entries {
        table.row(&[
            e.act.to_string(),
            e.count.to_string(),
            e.cells.to_string(),
            e.replicas.to_string(),
            e.last.to_string(),
            state(e),
        ]);
    }
    text.push_str(&table.render());
    text.push('\n');
    text.push_str(&workloads::kinds(&view.maturity));
    for t in &view.thresholds {
        text.push_str(&format!(
            "threshold of {:?}: score {:.2}, from {} blocks{}\n",
            t.stream,
            t.threshold.score.0,
            t.threshold.blocks,
            if t.threshold.extrapolated { ", extrapolated" } else { "" }
        ));
    }
    if view.entries.iter().any(|e| e.review) {
        text.push_str("Entries that wait for review are not normal yet: `bulkhead baseline accept WORKLOAD ACT`.\n");
    }
    text
}

fn state(entry: &BaselineEntry) -> String {
    match &entry.provenance {
        Provenance::Accepted { who, .. } => format!("accepted by {who}"),
        Provenance::Learned if entry.review => "waits for review".into(),
        Provenance::Learned => "learned".into(),
    }
}

fn blame(entries: &[BaselineEntry]) -> String {
    let mut table = Table::new(["ACT", "FIRST", "RECORD", "EXECUTABLE", "CONTAINERS", "STATE"]);
    for e in entries {
        table.row(&[
            e.act.to_string(),
            e.first.to_string(),
            e.evidence.to_string(),
            if e.executable.is_empty() { "-".into() } else { e.executable.clone() },
            e.replicas.to_string(),
            state(e),
        ]);
    }
    if table.is_empty() { "No entry has that in it.\n".into() } else { table.render() }
}

/// Acts of one baseline that the other does not have.
#[derive(Debug, Serialize)]
struct Difference {
    only_left: Vec<String>,
    only_right: Vec<String>,
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.only_left.is_empty() && self.only_right.is_empty()
    }

    fn text(&self) -> String {
        if self.is_empty() {
            return "Both know the same acts.\n".into();
        }
        let lines = |sign: char, acts: &[String]| -> String {
            acts.iter().map(|a| format!("{sign} {a}\n")).collect()
        };
        lines('-', &self.only_left) + &lines('+', &self.only_right)
    }
}

fn diff(left: &BaselineView, right: &BaselineView) -> Difference {
    let acts = |view: &BaselineView| -> BTreeSet<String> {
        view.entries.iter().filter(|e| !e.review).map(|e| e.act.to_string()).collect()
    };
    let (left, right) = (acts(left), acts(right));
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect();
    Difference { only_left: only(&left, &right), only_right: only(&right, &left) }
}
