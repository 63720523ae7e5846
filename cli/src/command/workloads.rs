//! `bulkhead workloads`: who learns, who is mature, and what learning waits for.

use std::time::Duration;

use bulkhead_api::protocol::{Reply, Request};
use bulkhead_domain::baseline::Maturity;
use bulkhead_domain::text::printable;
use bulkhead_domain::view::WorkloadSummary;
use bulkhead_domain::{Mode, Timestamp};

use crate::args::Global;
use crate::outcome::{Failure, Outcome};
use crate::output::{self, Table};
use crate::service;

/// Asks and shows: all in a table, or one in detail.
pub fn run(global: &Global, workload: Option<String>) -> Result<Outcome, Failure> {
    let detail = workload.is_some();
    let reply = service::ask(global, Request::Workloads { workload })?;
    let Reply::Workloads(list) = reply else { return Err(service::unexpected(&reply)) };
    output::show(global.output, &list, || {
        let now = output::now();
        if detail { list.iter().map(|w| text(w, now)).collect() } else { table(&list, now) }
    });
    Ok(Outcome::Done)
}

fn table(list: &[WorkloadSummary], now: Timestamp) -> String {
    let mut table = Table::new([
        "WORKLOAD",
        "MODE",
        "MATURITY",
        "ETA",
        "CONTAINERS",
        "ENTRIES",
        "REVIEW",
        "ALERTS/DAY",
        "OPEN",
        "VIEWS",
    ]);
    for w in list {
        table.row(&[
            w.name.short(),
            w.mode.word().into(),
            maturity(&w.maturity),
            eta(w, now),
            w.containers.to_string(),
            w.entries.to_string(),
            w.review.to_string(),
            format!("{:.1} of {:.1}", w.alerts_per_day, w.budget.alerts_per_day()),
            w.open_alerts.to_string(),
            views(w),
        ]);
    }
    if table.is_empty() {
        return "No workload has been seen yet: start a container, or see `bulkhead doctor` for the engines that are reached.\n".into();
    }
    table.render()
}

fn text(w: &WorkloadSummary, now: Timestamp) -> String {
    let mut text = format!(
        "workload    {}\nmode        {}{}\nmaturity    {}\neta         {}\ncontainers  {}\nbaseline    {} entries, version {}, {} wait for review\nalerts      {:.1} a day of {} budgeted, {} open\nviews on    {}\n",
        printable(&w.name.to_string(), 200),
        w.mode.word(),
        w.next_mode.map(|m| format!(", then {}", m.word())).unwrap_or_default(),
        maturity(&w.maturity),
        eta(w, now),
        w.containers,
        w.entries,
        w.baseline_version,
        w.review,
        w.alerts_per_day,
        w.budget,
        w.open_alerts,
        views(w),
    );
    text.push_str(&kinds(&w.maturity));
    for sentence in &w.maturity.waits_for {
        text.push_str(&format!("- {}\n", printable(sentence, 300)));
    }
    text
}

/// Maturity by kind in a table.
pub fn kinds(maturity: &Maturity) -> String {
    let mut table =
        Table::new(["KIND", "DISTINCT", "CELLS", "NEW/DAY", "BOUND", "TARGET", "MATURE"]);
    for k in &maturity.kinds {
        table.row(&[
            k.kind.word().into(),
            k.distinct.to_string(),
            k.cells.to_string(),
            format!("{:.2}", k.new_per_day),
            format!("{:.2}", k.new_per_day_bound),
            format!("{:.2}", k.target_per_day),
            if k.mature { "yes".into() } else { "no".into() },
        ]);
    }
    table.render()
}

fn maturity(maturity: &Maturity) -> String {
    if maturity.mature {
        return "mature".into();
    }
    let ready = maturity.kinds.iter().filter(|k| k.mature).count();
    format!("{ready} of {} kinds", maturity.kinds.len())
}

fn eta(w: &WorkloadSummary, now: Timestamp) -> String {
    if w.mode != Mode::Learn {
        return "-".into();
    }
    if let Some(until) = w.learn_until {
        return output::relative(until, now);
    }
    match (w.maturity.eta_secs, w.maturity.eta_is_lower_bound) {
        (Some(secs), false) => format!("about {}", output::rounded(Duration::from_secs(secs))),
        (Some(secs), true) => format!("longer than {}", output::rounded(Duration::from_secs(secs))),
        (None, _) if w.maturity.mature => "now".into(),
        (None, _) => "not known yet".into(),
    }
}

fn views(w: &WorkloadSummary) -> String {
    if w.detectors_on.is_empty() {
        return "none yet".into();
    }
    w.detectors_on.iter().map(|v| v.word()).collect::<Vec<_>>().join(",")
}
