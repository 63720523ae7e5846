//! Exit statuses and the one line that goes with them: 0 done, 1 found or refused, 2 usage, 3 unreachable.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

fn bulkhead(directory: &Path, arguments: &[&str]) -> Output {
    let config = directory.join("config.toml");
    if !config.exists() {
        std::fs::write(&config, "").unwrap();
    }
    Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .env_clear()
        .arg("--config")
        .arg(config)
        .arg("--run-dir")
        .arg(directory)
        .args(arguments)
        .output()
        .unwrap()
}

fn line(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_service_that_does_not_run_is_3_with_the_way_to_start_it() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["workloads"][..],
        &["alerts", "list"],
        &["deny", "add", "--workload", "web", "198.51.100.7"],
        &["why", "web-1", "198.51.100.7:443"],
    ] {
        let output = bulkhead(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        assert!(line(&output).contains("bulkhead run"), "{}", line(&output));
    }
}

#[test]
fn a_socket_that_nobody_serves_any_more_is_3_too() {
    let directory = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(directory.path().join("api.sock")).unwrap());
    let output = bulkhead(directory.path(), &["workloads"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(line(&output).contains("nobody listens"), "{}", line(&output));
}

#[test]
fn wrong_arguments_are_2_and_say_what_to_write() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, expect) in [
        (&["learn", "web", "--for", "10"][..], "90s, 10m or 1h30m"),
        (&["mode", "web", "block"], "learn, detect or enforce"),
        (&["deny", "add", "--workload", "web", "198.51.100.7/24"], "198.51.100.0/24"),
        (&["deny", "add", "198.51.100.7"], "--container"),
        (&["deny", "remove", "7"], "bulkhead status"),
        (&["baseline", "accept", "web", "fly away"], "exec /usr/bin/id"),
        (&["why", "web-1", "198.51.100.0/24"], "one address"),
        (&["disarm"], "--all"),
    ] {
        let output = bulkhead(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(line(&output).contains(expect), "{arguments:?}: {}", line(&output));
    }
}

#[test]
fn a_wrong_configuration_is_2_and_names_file_and_key() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.toml"), "[detection]\nbudgte = \"1/day\"\n")
        .unwrap();
    let output = bulkhead(directory.path(), &["workloads"]);
    assert_eq!(output.status.code(), Some(2));
    for part in ["config.toml", "line 2", "budgte"] {
        assert!(line(&output).contains(part), "{}", line(&output));
    }
}

#[test]
fn completions_need_no_service() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = bulkhead(directory.path(), &["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains("quarantine"), "{shell}");
    }
}
