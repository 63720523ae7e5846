//! What `--help` says, kept as a text that a reviewer reads: run with `UPDATE_GOLDEN=1` after a change that is meant.

use clap::CommandFactory as _;

#[test]
fn help_says_what_its_golden_text_says() {
    let mut command = bulkhead_cli::args::Cli::command().color(clap::ColorChoice::Never);
    command.build();
    let mut text = String::new();
    describe(&mut command, &mut text);
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/help.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    let expect = std::fs::read_to_string(golden).unwrap();
    assert!(text == expect, "--help changed; see `git diff` after UPDATE_GOLDEN=1:\n{text}");
}

fn describe(command: &mut clap::Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or("bulkhead").to_owned();
    text.push_str(&format!("=== {name}\n{}\n", command.render_help()));
    for sub in command.get_subcommands_mut().filter(|c| c.get_name() != "help") {
        describe(sub, text);
    }
}

#[test]
fn every_command_and_option_is_described() {
    let mut command = bulkhead_cli::args::Cli::command();
    command.build();
    check(&command);
}

fn check(command: &clap::Command) {
    assert!(command.get_about().is_some(), "{} has no description", command.get_name());
    for argument in command.get_arguments() {
        assert!(
            argument.get_help().is_some(),
            "{} of {} has no description",
            argument.get_id(),
            command.get_name()
        );
    }
    for sub in command.get_subcommands() {
        check(sub);
    }
}
