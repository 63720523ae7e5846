//! What an alert says, as the demo tells it.

use std::collections::BTreeSet;

use serde_json::Value;

/// The ids of a list of alerts.
pub(crate) fn ids(alerts: &Value) -> BTreeSet<String> {
    let ids = alerts.as_array().into_iter().flatten().filter_map(|alert| alert["id"].as_str());
    ids.map(str::to_owned).collect()
}

/// The ranked evidence of an alert, and who did it.
pub(crate) fn explanation(alert: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let parts = alert["contributions"].as_array().into_iter().flatten().take(3);
    let mut lines: Vec<_> = parts
        .map(|part| {
            let share = part["share"].as_f64().unwrap_or(0.0) * 100.0;
            format!(
                "{share:>3.0} %  {}: {}, expected {}",
                text(&part["subject"]),
                text(&part["observed"]),
                text(&part["expected"])
            )
        })
        .collect();
    let process = &alert["process"];
    if !process.is_null() {
        lines.push(format!(
            "by {} (parent {}), {}",
            text(&process["executable"]),
            text(&process["parent"]),
            text(&process["origin"])
        ));
    }
    lines
}
