//! `bulkhead alerts`: what happened, what was expected, what was done about it, and what a person says to it.

use std::io::Write as _;
use std::time::Duration;

use bulkhead_api::protocol::{Reply, Request, ReviewAction, TAIL_WAIT_MAX};
use bulkhead_domain::alert::{AlertClass, Response, Review as Reviewed};
use bulkhead_domain::measure::Proposal;
use bulkhead_domain::text::printable;
use bulkhead_domain::{Alert, Timestamp};

use super::done;
use crate::args::{Alerts, Format, Global, Review};
use crate::outcome::{Failure, Outcome};
use crate::output::{self, Table};
use crate::service;

/// Lists, shows, follows or reviews.
pub fn run(global: &Global, command: Alerts) -> Result<Outcome, Failure> {
    match command {
        Alerts::List { workload, open, limit } => {
            let reply = service::ask(global, Request::Alerts { workload, open, limit })?;
            let Reply::Alerts { alerts, .. } = reply else {
                return Err(service::unexpected(&reply));
            };
            output::show(global.output, &alerts, || list(&alerts, output::now()));
            Ok(Outcome::Done)
        }
        Alerts::Show { id } => {
            let reply = service::ask(global, Request::Alert { id })?;
            let Reply::Alert(alert) = reply else { return Err(service::unexpected(&reply)) };
            output::show(global.output, &*alert, || show(&alert));
            Ok(Outcome::Done)
        }
        Alerts::Tail => tail(global),
        Alerts::Accept(r) => review(
            global,
            r,
            ReviewAction::Accept,
            "It is normal from now on; take it back with `bulkhead alerts retract`.",
        ),
        Alerts::Retract(r) => review(global, r, ReviewAction::Retract, ""),
        Alerts::Mute { review: r, mute_for } => review(
            global,
            r,
            ReviewAction::Mute(mute_for),
            "The baseline is unchanged; end it with `bulkhead alerts unmute`.",
        ),
        Alerts::Unmute(r) => review(global, r, ReviewAction::Unmute, ""),
    }
}

fn review(
    global: &Global,
    review: Review,
    action: ReviewAction,
    next: &str,
) -> Result<Outcome, Failure> {
    done::send(global, Request::Review { id: review.id, review: action, why: review.why }, next)
}

/// Follows until interrupted; a restarted service is waited for.
fn tail(global: &Global) -> Result<Outcome, Failure> {
    let mut client = service::connect(global)?;
    let mut cursor = None;
    loop {
        let request = Request::AlertsAfter { cursor, wait: TAIL_WAIT_MAX };
        let (alerts, next) = match client.call(request) {
            Ok(Reply::Alerts { alerts, cursor }) => (alerts, cursor),
            Ok(other) => return Err(service::unexpected(&other)),
            Err(bulkhead_api::client::ClientError::Broken { .. }) => {
                client = reconnect(global)?;
                cursor = None;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        cursor = Some(next);
        for alert in alerts {
            match global.output {
                Format::Table => output::print(&line(&alert)),
                Format::Json => {
                    let mut text = serde_json::to_string(&alert)
                        .expect("an alert has text keys, so it is JSON");
                    text.push('\n');
                    output::print(&text);
                }
            }
        }
    }
}

/// How long a follower waits for a service that went away.
const RECONNECT_ATTEMPTS: u32 = 60;

fn reconnect(global: &Global) -> Result<bulkhead_api::client::Client, Failure> {
    let _ = writeln!(std::io::stderr(), "bulkhead: the service went away; waiting for it");
    let mut last = service::connect(global);
    for _ in 0..RECONNECT_ATTEMPTS {
        if last.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
        last = service::connect(global);
    }
    last
}

fn line(alert: &Alert) -> String {
    format!(
        "{}  {}  {}  {}  {}  [{}]\n",
        alert.last,
        alert.id,
        printable(&alert.workload.short(), 60),
        printable(&alert.container_name, 40),
        printable(&alert.title, 200),
        state(alert),
    )
}

fn list(alerts: &[Alert], now: Timestamp) -> String {
    let mut table = Table::new(["ID", "LAST", "WORKLOAD", "CONTAINER", "SCORE", "WHAT", "STATE"]);
    for a in alerts {
        table.row(&[
            a.id.to_string(),
            output::relative(a.last, now),
            a.workload.short(),
            a.container_name.clone(),
            format!("{:.1}{}", a.score.0, if a.provisional { "~" } else { "" }),
            a.title.clone(),
            state(a),
        ]);
    }
    if table.is_empty() {
        return "No alert matches.\n".into();
    }
    let mut text = table.render();
    text.push_str("Read one with `bulkhead alerts show ID`.\n");
    text
}

fn state(alert: &Alert) -> String {
    let done = match &alert.response {
        Response::None => "no measure fits".into(),
        Response::Would(_) => "would act".into(),
        Response::Took(measures) => {
            format!(
                "took {}",
                measures.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            )
        }
        Response::HeldBack { .. } => "held back".into(),
    };
    let review = match &alert.review {
        Reviewed::Open if alert.closed => "over",
        Reviewed::Open => "open",
        Reviewed::Accepted { .. } => "accepted",
        Reviewed::Muted { .. } => "muted",
    };
    format!("{review}, {done}")
}

fn show(a: &Alert) -> String {
    let mut text = format!("{}  {}\n\n", a.id, printable(&a.title, 300));
    let mut field = |name: &str, value: String| {
        text.push_str(&format!("{name:<16}{}\n", printable(&value, 300)));
    };
    field("workload", a.workload.to_string());
    field(
        "container",
        format!("{} {}", a.container_name, a.container.as_ref().map_or("", |c| c.short())),
    );
    field("class", format!("{:?}", a.class).to_lowercase());
    field("first, last", format!("{}, {} ({} exceedances)", a.first, a.last, a.exceedances));
    // What an agent reports about itself was not scored; what it says stands where evidence would.
    let scored = matches!(a.class, AlertClass::Deviation | AlertClass::Forbidden);
    if scored {
        field("score", score(a));
    }
    if let Some(p) = &a.process {
        field(
            "process",
            format!("{} (pid {}, uid {}, {})", p.executable, p.pid, p.uid, p.origin.word()),
        );
        if !p.parent.is_empty() {
            field("parent", p.parent.clone());
        }
    }
    if !a.nearest_normal.is_empty() {
        field(if scored { "nearest normal" } else { "detail" }, a.nearest_normal.clone());
    }
    if !a.techniques.is_empty() {
        field("ATT&CK", a.techniques.join(", "));
    }
    if a.loss_ratio > 0.0 {
        field("loss", format!("{:.2} % of the window's events", a.loss_ratio * 100.0));
    }
    field("baseline", format!("version {}, models {}", a.baseline_version, a.model_version));
    field("response", response(a));
    field("review", reviewed(a));
    text.push('\n');
    let mut table = Table::new(["SHARE", "VIEW", "SUBJECT", "OBSERVED", "EXPECTED"]);
    for c in &a.contributions {
        table.row(&[
            format!("{:.0} %", c.share * 100.0),
            c.view.word().into(),
            c.subject.clone(),
            c.observed.clone(),
            c.expected.clone(),
        ]);
    }
    if !table.is_empty() {
        text.push_str(&table.render());
    }
    if a.review == Reviewed::Open && scored {
        text.push_str(&format!(
            "\nNormal after all? `bulkhead alerts accept {0}`. Not worth a look for a while? `bulkhead alerts mute {0} --for 1d`.\n",
            a.id
        ));
    }
    text
}

fn score(a: &Alert) -> String {
    let threshold = &a.threshold;
    let mut text = format!("{:.2} over a threshold of {:.2}", a.score.0, threshold.score.0);
    if threshold.extrapolated {
        text.push_str(", extrapolated");
        if let Some((low, high)) = threshold.interval {
            text.push_str(&format!(" (95 %: {low:.2} to {high:.2})"));
        }
        text.push_str(": provisional");
    }
    text
}

fn response(a: &Alert) -> String {
    let words = |p: &Proposal| format!("{} for {}", p.action, p.target);
    match &a.response {
        Response::None => "none: no measure fits".into(),
        Response::Would(p) => format!("would {} (mode is {})", words(p), a.mode.word()),
        Response::Took(measures) => format!(
            "took {}: see `bulkhead status`",
            measures.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ),
        Response::HeldBack { proposal, reason } => {
            format!("held back {}: {reason}", words(proposal))
        }
    }
}

fn reviewed(a: &Alert) -> String {
    match &a.review {
        Reviewed::Open => "nobody has looked".into(),
        Reviewed::Accepted { who, why } => format!("accepted by {who}: {why}"),
        Reviewed::Muted { who } => format!("muted by {who}"),
    }
}
