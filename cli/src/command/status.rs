//! `bulkhead status`: the measures in force and their end, from the pins, whoever is alive.
//!
//! The kernel's maps are the truth about what is in force; names come from the agent's ledger and from the service where
//! they can be had, and are left out where not.

use std::collections::HashMap;
use std::time::Duration;

use bulkhead_api::client::Client;
use bulkhead_api::protocol::{Reply, Request, ServiceStatus};
use bulkhead_domain::Timestamp;
use bulkhead_domain::measure::{Measure, MeasureId};
use bulkhead_domain::net::{Cidr, PeerMatch, Protocol};
use bulkhead_domain::text::printable;
use bulkhead_domain::view::Hits;
use bulkhead_loader::guard::{self, Guard, GuardError, PeerPattern, Rule, What, Who};
use serde::Serialize;

use super::measures::decider;
use crate::args::Global;
use crate::config::{Config, Paths};
use crate::outcome::{Failure, Outcome};
use crate::output::{self, Table};
use crate::service;

/// All that is shown.
#[derive(Debug, Serialize)]
struct Status {
    /// The running service; `None` when it cannot be reached.
    service: Option<ServiceStatus>,
    /// Why it cannot be.
    service_error: Option<String>,
    /// What the kernel holds; `None` when no guard is pinned.
    guards: Option<Guards>,
}

/// What the kernel holds.
#[derive(Debug, Serialize)]
struct Guards {
    pins: String,
    measures: Vec<InForce>,
    /// Measures that a person ended on this node since it started.
    disarmed: Vec<MeasureId>,
    /// Containers that nobody has named yet.
    unresolved: usize,
    /// Interfaces with a wall of their own.
    walls: usize,
}

/// One rule in force.
#[derive(Debug, Serialize)]
struct InForce {
    id: MeasureId,
    action: String,
    target: String,
    ends: Option<Timestamp>,
    remaining: Option<String>,
    hits: Option<Hits>,
    decided_by: Option<String>,
    reason: Option<String>,
}

/// Reads the pins, asks the service, and shows both.
pub fn run(global: &Global) -> Result<Outcome, Failure> {
    let config = Config::load(global, std::env::vars())?;
    let (service, known, service_error) = match ask(&config.paths) {
        Ok((status, measures)) => (Some(status), measures, None),
        Err(error) => (None, Vec::new(), Some(error.to_string())),
    };
    let mut names: HashMap<u64, Measure> = crate::names::from_ledger(&config);
    names.extend(known.into_iter().map(|m| (m.id.0, m)));
    let guards = match Guard::open(&config.paths.pins) {
        Ok(guard) => Some(guards(&config.paths, &guard, &names)?),
        Err(GuardError::NotInstalled { .. }) => None,
        Err(error) => return Err(pins(error)),
    };
    let status = Status { service, service_error, guards };
    output::show(global.output, &status, || text(&status, &config.paths));
    Ok(Outcome::Done)
}

/// What the service says of itself, and the measures that it knows.
fn ask(paths: &Paths) -> Result<(ServiceStatus, Vec<Measure>), Failure> {
    let mut client = Client::connect(&paths.api_socket())?;
    let status = match client.call(Request::Status)? {
        Reply::Status(status) => status,
        other => return Err(service::unexpected(&other)),
    };
    let measures = match client.call(Request::Measures { kind: None })? {
        Reply::Measures(list) => list.into_iter().map(|m| m.measure).collect(),
        other => return Err(service::unexpected(&other)),
    };
    Ok((status, measures))
}

/// A failure to open or change the pins, with what to do about it.
pub fn pins(error: GuardError) -> Failure {
    let denied = match &error {
        GuardError::Io { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
        _ => nix::unistd::Uid::effective().as_raw() != 0,
    };
    let error = anyhow::Error::new(error);
    if denied { error.context("the pins need root: run it with sudo").into() } else { error.into() }
}

fn guards(paths: &Paths, guard: &Guard, names: &HashMap<u64, Measure>) -> Result<Guards, Failure> {
    let (wall, boot) = (output::now(), guard::boot_ns());
    let (rules, _) = guard.rules();
    let mut measures = Vec::new();
    // The self-test's own lease is nobody's measure.
    for rule in rules.iter().filter(|r| r.who != Who::Container(bulkhead_abi::guard::CANARY)) {
        // An expired rule is a miss in the kernel, and is swept later: it is not in force.
        if rule.expires_ns <= boot {
            continue;
        }
        let hits = guard.hits(rule.measure).map_err(pins)?;
        let hits = hits.map(|h| Hits { packets: h.packets, bytes: h.bytes, calls: h.calls });
        measures.push(in_force(rule, names.get(&rule.measure), hits, wall, boot));
    }
    measures.sort_by_key(|m| (m.ends, m.id));
    Ok(Guards {
        pins: paths.pins.display().to_string(),
        measures,
        disarmed: guard.disarmed().map_err(pins)?.into_iter().map(MeasureId).collect(),
        unresolved: guard.unresolved().map_err(pins)?.len(),
        walls: guard.walls().map_err(pins)?.len(),
    })
}

fn in_force(
    rule: &Rule,
    known: Option<&Measure>,
    hits: Option<Hits>,
    wall: Timestamp,
    boot: u64,
) -> InForce {
    let left = (rule.expires_ns != u64::MAX)
        .then(|| Duration::from_nanos(rule.expires_ns.saturating_sub(boot)));
    InForce {
        id: MeasureId(rule.measure),
        action: match rule.what {
            What::Quarantine => "quarantine".into(),
            What::Deny { peers, .. } => format!("deny {}", peer(&peers)),
        },
        target: known.map_or_else(|| who(rule.who), |m| m.target.to_string()),
        ends: left.map(|left| wall.plus(left)),
        remaining: left.map(output::rounded),
        hits,
        decided_by: known.map(decider),
        reason: known.map(|m| m.reason.clone()),
    }
}

fn who(who: Who) -> String {
    match who {
        Who::Container(scope) => format!("container with scope {scope:016x}"),
        Who::Workload(id) => format!("workload with id {id:016x}"),
        Who::Node => "every container of this node".into(),
    }
}

/// The peers of a rule, in the words of the command line.
fn peer(pattern: &PeerPattern) -> String {
    let address = std::net::Ipv6Addr::from(pattern.address);
    let (address, length) = match address.to_ipv4_mapped() {
        Some(v4) if pattern.prefix >= 96 => (std::net::IpAddr::V4(v4), pattern.prefix - 96),
        _ => (std::net::IpAddr::V6(address), pattern.prefix),
    };
    match Cidr::new(address, length) {
        Some(prefix) => {
            PeerMatch { prefix, port: pattern.port, protocol: pattern.protocol.map(Protocol) }
                .to_string()
        }
        None => format!("{address}/{length}"),
    }
}

fn text(status: &Status, paths: &Paths) -> String {
    let mut text = match (&status.service, &status.service_error) {
        (Some(s), _) => format!(
            "service    {} on node {}, up for {}; {} containers, {} open alerts\n",
            s.version,
            printable(&s.node, 60),
            output::rounded(s.now.since(s.started)),
            s.containers,
            s.open_alerts,
        ),
        (None, error) => {
            format!("service    {}\n", printable(error.as_deref().unwrap_or("not reached"), 300))
        }
    };
    if let Some(error) = status.service.as_ref().and_then(|s| s.log_error.as_ref()) {
        text.push_str(&format!("log        takes no writes: {}\n", printable(error, 300)));
    }
    let Some(guards) = &status.guards else {
        text.push_str(&format!(
            "guards     none pinned under {}: nothing is enforced here; start them with `bulkhead run`\n",
            paths.pins.display()
        ));
        return text;
    };
    text.push_str(&format!(
        "guards     pinned under {}; {} measures in force, {} interfaces walled, {} containers without a name\n",
        guards.pins,
        guards.measures.len(),
        guards.walls,
        guards.unresolved
    ));
    if guards.measures.is_empty() {
        return text;
    }
    text.push('\n');
    let mut table = Table::new(["ID", "ACTION", "TARGET", "ENDS IN", "STOPPED", "BY", "REASON"]);
    for m in &guards.measures {
        table.row(&[
            m.id.to_string(),
            m.action.clone(),
            m.target.clone(),
            m.remaining.clone().unwrap_or_else(|| "never".into()),
            m.hits.map_or_else(
                || "-".into(),
                |h| format!("{} packets, {} calls", h.packets, h.calls),
            ),
            m.decided_by.clone().unwrap_or_else(|| "-".into()),
            m.reason.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    text.push_str(&table.render());
    text.push_str("End one before its time with `bulkhead disarm ID`.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_of_rules_read_like_the_command_line() {
        for text in ["198.51.100.7", "198.51.100.0/24", "198.51.100.7:443/tcp", "2001:db8::/32"] {
            let m: PeerMatch = text.parse().unwrap();
            let pattern = PeerPattern::new(
                m.prefix.address(),
                m.prefix.length(),
                m.port,
                m.protocol.map(|p| p.0),
            );
            assert_eq!(peer(&pattern), text);
        }
    }

    #[test]
    fn the_end_is_told_by_both_clocks() {
        let rule = Rule {
            who: Who::Workload(7),
            what: What::Quarantine,
            expires_ns: 90_500_000_000,
            measure: 1,
        };
        let shown = in_force(&rule, None, None, Timestamp::from_secs(1000), 500_000_000);
        assert_eq!(shown.remaining.as_deref(), Some("1m30s"));
        assert_eq!(shown.ends, Some(Timestamp::from_secs(1090)));
        assert_eq!(shown.target, "workload with id 0000000000000007");
    }
}
