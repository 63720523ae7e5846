//! What the one binary, `bulkhead`, does: arguments, configuration, supervision and wiring.
//!
//! `args` is what a person typed and `config` what was configured; `command/` holds what asks the running service, one
//! file a command. The other rooms know nothing of one another: here their `run` loops are given a bus and each other's
//! values.
#![forbid(unsafe_code)]

pub mod act;
pub mod agent;
pub mod args;
pub mod command;
pub mod config;
pub mod controller;
pub mod names;
pub mod outcome;
pub mod output;
pub mod run;
pub mod service;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};
use outcome::{Failure, Outcome};

/// Parses the arguments, does what they say, and reports in one line when that failed.
pub fn main() -> ExitCode {
    let result = dispatch(Cli::parse());
    if let Err(failure) = &result {
        eprintln!("{}", outcome::message(failure));
    }
    outcome::code(&result)
}

fn dispatch(cli: Cli) -> Result<Outcome, Failure> {
    let global = cli.global;
    match cli.command {
        Command::Workloads { workload } => command::workloads::run(&global, workload),
        Command::Learn(args) => command::learn::run(&global, args),
        Command::Mode { workload, mode, why } => command::mode::run(&global, workload, mode, why),
        Command::Baseline(args) => command::baseline::run(&global, args),
        Command::Alerts(args) => command::alerts::run(&global, args),
        Command::Deny(args) => command::deny::run(&global, args),
        Command::Quarantine(args) => command::quarantine::run(&global, args),
        Command::Why { container, peer } => command::why::run(&global, container, peer),
        Command::Completions { shell } => {
            // Into memory first: a reader that closes the pipe early is no reason to panic.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "bulkhead", &mut script);
            output::print(&String::from_utf8_lossy(&script));
            Ok(Outcome::Done)
        }
        Command::Run(args) => run::run(&global, &args),
        Command::Doctor => command::doctor::run(&global),
        Command::Status => command::status::run(&global),
        Command::Disarm(args) => command::disarm::run(&global, &args),
    }
}
