//! The first act of every run: the application is learned to maturity, with live progress.

use std::time::{Duration, Instant};

use anyhow::bail;
use bulkhead_tests::service::Service;
use serde_json::Value;

use super::{attend::Attended, closing::Closing, timeline::Timeline};

/// How long learning may take before the demo gives up.
const LEARNING_MAX: Duration = Duration::from_secs(240);

/// Waits until every workload of the application has learned, and says what it waits for.
pub(crate) fn learn(
    timeline: &Timeline,
    attended: &Attended,
    closing: &mut Closing,
    service: &mut Service,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut told = String::new();
    let learned = attended.until(LEARNING_MAX, || {
        if !service.is_alive() {
            bail!("bulkhead has ended: {}", service.last_words());
        }
        let workloads = service.ask(&["workloads"])?;
        let progress = Progress::of(&workloads);
        let line = progress.line();
        if line != told {
            timeline.tell("learning", &line);
            told = line;
        }
        Ok((progress.of_all > 0 && progress.learning.is_empty()).then_some(workloads))
    })?;
    let bound = learned.as_ref().and_then(bound_per_day);
    let detail = match (&learned, bound) {
        (None, _) => format!("still learning after {} s: {told}", LEARNING_MAX.as_secs()),
        (Some(_), None) => format!("{} s", started.elapsed().as_secs()),
        (Some(_), Some(bound)) => format!(
            "{} s; at most {bound:.0} new behaviours a day, at 95 % confidence, in the least known workload",
            started.elapsed().as_secs()
        ),
    };
    closing.row("learns to maturity", learned.is_some(), &detail);
    let Some(_) = learned else { bail!("it did not learn in time") };
    timeline.tell("mature", "every workload is known; measures are applied from now on");

    let alerts = service.ask(&["alerts", "list"])?;
    let early = alerts.as_array().map_or(0, Vec::len);
    closing.row(
        "no alert without an attack",
        early == 0,
        &format!("{early} alerts while it learned"),
    );
    Ok(())
}

/// How far the workloads of the application are.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    of_all: usize,
    learning: Vec<String>,
    waits_for: Option<String>,
}

impl Progress {
    fn of(workloads: &Value) -> Self {
        let all = workloads.as_array().map(Vec::as_slice).unwrap_or_default();
        let learning: Vec<_> = all.iter().filter(|workload| workload["mode"] == "learn").collect();
        let slowest = learning
            .iter()
            .max_by_key(|workload| workload["maturity"]["eta_secs"].as_u64().unwrap_or(u64::MAX));
        let waits_for = slowest.and_then(|workload| {
            let sentence = workload["maturity"]["waits_for"][0].as_str()?;
            Some(format!("{}: {sentence}", short(&workload["name"])))
        });
        Self {
            of_all: all.len(),
            learning: learning.iter().map(|workload| short(&workload["name"])).collect(),
            waits_for,
        }
    }

    fn line(&self) -> String {
        let known = self.of_all - self.learning.len();
        let mut line = format!("{known} of {} workloads are known", self.of_all);
        if let Some(sentence) = &self.waits_for {
            line.push_str("; ");
            line.push_str(sentence);
        }
        line
    }
}

/// The owner's name in a workload's full name: `local/shop/service/web/` is `web`.
fn short(name: &Value) -> String {
    name.as_str().and_then(|name| name.split('/').nth(3)).unwrap_or("?").to_owned()
}

/// The widest bound on new behaviours a day, over all workloads and kinds.
fn bound_per_day(workloads: &Value) -> Option<f64> {
    let workloads = workloads.as_array()?.iter();
    let kinds = workloads
        .flat_map(|workload| workload["maturity"]["kinds"].as_array().into_iter().flatten());
    kinds.filter_map(|kind| kind["new_per_day_bound"].as_f64()).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn progress_names_the_workload_that_learns_longest() {
        let workload = |name: &str, mode: &str, eta: u64| {
            json!({ "name": format!("local/shop/service/{name}/"), "mode": mode,
                "maturity": { "eta_secs": eta, "waits_for": ["two more blocks"] } })
        };
        let progress = Progress::of(&json!([
            workload("web", "enforce", 0),
            workload("shop", "learn", 40),
            workload("redis", "learn", 10),
        ]));
        assert_eq!(progress.line(), "1 of 3 workloads are known; shop: two more blocks");
        assert_eq!(progress.learning, ["shop", "redis"]);
    }
}
