//! `bulkhead doctor`: what this kernel and these engines offer, what degrades, and what stays open, by name.

use std::os::unix::net::UnixStream;
use std::path::Path;

use bulkhead_loader::features::{self, Feature, State, Weight};
use serde::Serialize;

use crate::args::Global;
use crate::config::Config;
use crate::outcome::{Failure, Outcome};
use crate::output::{self, Table};
use crate::run::account;

/// One line of the report.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// `present`, `absent` or `unknown`.
    state: &'static str,
    /// Nothing works without it.
    needed: bool,
    purpose: String,
    /// What was found.
    detail: String,
    /// What degrades or stays open without it.
    without: String,
}

/// Probes and reports; something that is needed and missing is exit 1.
pub fn run(global: &Global) -> Result<Outcome, Failure> {
    let config = Config::load(global, std::env::vars())?;
    let mut lines: Vec<Line> = features::probe().into_iter().map(kernel).collect();
    lines.push(user(&config));
    lines.extend(engines(&config));
    let missing = lines.iter().any(|l| l.needed && l.state == "absent");
    output::show(global.output, &lines, || text(&lines));
    Ok(if missing { Outcome::Found } else { Outcome::Done })
}

fn kernel(feature: Feature) -> Line {
    let (state, detail) = match feature.state {
        State::Present => ("present", format!("since Linux {}", feature.since)),
        State::Absent(cause) => ("absent", cause),
        State::Unknown(cause) => ("unknown", cause),
    };
    Line {
        name: feature.name.into(),
        state,
        needed: feature.weight == Weight::Needed,
        purpose: feature.purpose.into(),
        detail,
        without: feature.without.into(),
    }
}

fn user(config: &Config) -> Line {
    let (state, detail) = match account::resolve(&config.controller_user) {
        Ok(account) => ("present", format!("uid {}, gid {}", account.uid, account.gid)),
        Err(error) => ("absent", error.to_string()),
    };
    Line {
        name: "controller_user".into(),
        state,
        needed: true,
        purpose: "the controller runs as it, without capabilities".into(),
        detail,
        without: "the service does not start".into(),
    }
}

/// Each engine's socket; not one of them is needed, since cgroups and units are named without.
fn engines(config: &Config) -> Vec<Line> {
    let sockets = |engine: &'static str, paths: &[std::path::PathBuf]| {
        paths.iter().map(|path| (engine, path.clone())).collect::<Vec<_>>()
    };
    let mut all = sockets("docker", &config.collector.docker);
    all.extend(sockets("podman", &config.collector.podman));
    all.into_iter().map(|(engine, path)| socket(engine, &path)).collect()
}

fn socket(engine: &str, path: &Path) -> Line {
    let (state, detail) = match UnixStream::connect(path) {
        Ok(_) => ("present", format!("{} answers", path.display())),
        Err(error) => ("absent", format!("{}: {error}", path.display())),
    };
    Line {
        name: format!("{engine}_socket"),
        state,
        needed: false,
        purpose: format!("names of the containers of {engine}, and its exec events"),
        detail,
        without: format!(
            "containers of {engine} are named by its storage or their cgroups, and an exec through the engine has no evidence"
        ),
    }
}

fn text(lines: &[Line]) -> String {
    let mut table = Table::new(["FEATURE", "STATE", "FOR", "FOUND"]);
    for line in lines {
        table.row(&[
            line.name.clone(),
            line.state.into(),
            line.purpose.clone(),
            line.detail.clone(),
        ]);
    }
    let mut text = table.render();
    let open: Vec<&Line> = lines.iter().filter(|l| l.state != "present").collect();
    if !open.is_empty() {
        text.push_str("\nWhat that means:\n");
    }
    for line in &open {
        let weight = match (line.state, line.needed) {
            ("unknown", _) => "could not be told",
            (_, true) => "NEEDED",
            (_, false) => "degraded",
        };
        text.push_str(&format!("- {} ({weight}): {}\n", line.name, line.without));
    }
    if open.iter().any(|l| l.state == "unknown") && account::current().uid != 0 {
        text.push_str("Root is told more: run it with sudo.\n");
    }
    text.push_str(match open.iter().filter(|l| l.needed && l.state == "absent").count() {
        0 => "\nNothing that is needed is missing.\n",
        _ => "\nSomething that is needed is missing: the service does not start, or does not do its work.\n",
    });
    text
}
