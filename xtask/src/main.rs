//! Every automation of the project, behind one front door.
//!
//! Each command ends with one line that says what held. Exit codes: 0 done, 1 something did not hold, 2 the command
//! was used wrongly, 3 this machine cannot.
#![forbid(unsafe_code)]

mod ask;
mod bench;
mod build;
mod demo;
mod ebpf;
mod outcome;
mod setup;
mod step;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Every automation of the project"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure what observing costs, and hold it against its bounds.
    Bench(bench::Arguments),
    /// Show the whole loop on a real application: it learns, is attacked, and is protected.
    Demo(demo::Arguments),
    /// Build the programs that run in the kernel.
    Ebpf(ebpf::Arguments),
    /// Install what this machine lacks, by purpose.
    Setup(setup::Arguments),
    /// Run every check and every test that this machine can run.
    Test(test::Arguments),
    /// Hold the walls between the rooms, and the house rules.
    Tidy,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Ebpf(arguments) => ebpf::run(&arguments),
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Tidy => tidy::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(outcome::exit_code(&error))
        }
    }
}
