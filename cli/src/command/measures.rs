//! Measures in a table: for `deny list` and `quarantine list`.

use bulkhead_api::protocol::{MeasureKind, Reply, Request};
use bulkhead_domain::Timestamp;
use bulkhead_domain::measure::{Decider, Measure};
use bulkhead_domain::view::MeasureSummary;

use crate::args::Global;
use crate::outcome::{Failure, Outcome};
use crate::output::{self, Table};
use crate::service;

/// Asks for the measures of that kind and shows them.
pub fn list(global: &Global, kind: Option<MeasureKind>) -> Result<Outcome, Failure> {
    let reply = service::ask(global, Request::Measures { kind })?;
    let Reply::Measures(measures) = reply else { return Err(service::unexpected(&reply)) };
    output::show(global.output, &measures, || table(&measures, output::now()));
    Ok(Outcome::Done)
}

/// The table of measures, those that end first at the top.
pub fn table(measures: &[MeasureSummary], now: Timestamp) -> String {
    let mut sorted: Vec<&MeasureSummary> = measures.iter().collect();
    sorted.sort_by_key(|m| (m.measure.expires, m.measure.id));
    let mut table = Table::new(["ID", "ACTION", "TARGET", "CONTAINERS", "ENDS", "BY", "REASON"]);
    for m in sorted {
        table.row(&[
            m.measure.id.to_string(),
            m.measure.action.to_string(),
            m.measure.target.to_string(),
            if m.containers.is_empty() { "-".into() } else { m.containers.join(",") },
            output::relative(m.measure.expires, now),
            decider(&m.measure),
            m.measure.reason.clone(),
        ]);
    }
    if table.is_empty() { "No measure of that kind is in force.\n".into() } else { table.render() }
}

/// Who decided on it.
pub fn decider(measure: &Measure) -> String {
    match &measure.decider {
        Decider::Manual { who } => who.clone(),
        Decider::Automatic { alert, .. } => alert.to_string(),
    }
}
