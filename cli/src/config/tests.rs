//! What the configuration promises.

use super::*;

/// The configuration of a file, fragments and variables.
fn load(file: &str, fragments: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, file).unwrap();
    std::fs::create_dir(directory.path().join("config.d")).unwrap();
    for (name, text) in fragments {
        std::fs::write(directory.path().join("config.d").join(name), text).unwrap();
    }
    let global = Global { config: Some(path), ..Global::default() };
    let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    Config::load(&global, env).map_err(|e| e.to_string())
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = load("", &[], &[]).unwrap();
    assert_eq!(config.cluster, "local");
    assert_eq!(config.collector.step, Duration::from_secs(5));
    assert_eq!(config.detection, bulkhead_detector::Config::default());
    assert_eq!(config.guardrails, Guardrails::default());
    assert_eq!(config.paths.api_socket(), PathBuf::from("/run/bulkhead/api.sock"));
}

#[test]
fn later_sources_win_key_by_key() {
    let config = load(
        "[detection]\nbudget = \"1/day\"\nblock = \"10s\"",
        &[("20.toml", "[detection]\nblock = \"30s\""), ("10.toml", "[detection]\nblock = \"20s\"")],
        &[("BULKHEAD_DETECTION_LEARN_FOR", "2m"), ("BULKHEAD_NODE", "n7")],
    )
    .unwrap();
    assert!((config.detection.budget.alerts_per_day() - 1.0).abs() < 1e-9);
    assert_eq!(config.detection.block, Duration::from_secs(30));
    assert_eq!(config.detection.learning.at_most, Some(Duration::from_secs(120)));
    assert_eq!(config.node, "n7");
}

#[test]
fn the_environment_takes_lists_numbers_and_truths_as_toml_writes_them() {
    let config = load(
        "",
        &[],
        &[
            ("BULKHEAD_GUARDRAILS_TTL_LADDER", r#"["20s", "1m"]"#),
            ("BULKHEAD_DETECTION_UNTIL_MATURE", "false"),
            ("BULKHEAD_CONTROLLER_USER", "64117"),
            ("BULKHEAD_ENFORCEMENT_NODE_CRITICAL", r#"["198.51.100.1:53/udp"]"#),
        ],
    )
    .unwrap();
    assert_eq!(config.guardrails.ttl_ladder, [20, 60].map(Duration::from_secs));
    assert!(!config.detection.learning.until_mature);
    assert_eq!(config.controller_user, "64117");
    assert_eq!(config.rules.node_critical[0].to_string(), "198.51.100.1:53/udp");
}

#[test]
fn errors_name_the_source_and_the_key_and_say_what_to_write() {
    for (file, env, expect) in [
        ("[detection]\nbudgte = \"1/day\"", None, vec!["config.toml", "budgte", "budget"]),
        ("[detection]\nblock = \"5\"", None, vec!["block", "not a duration", "90s"]),
        ("[collector]\nstep = \"7s\"", None, vec!["collector.step", "divides a minute"]),
        ("[guardrails]\nttl-ladder = [\"1h\", \"1m\"]", None, vec!["guardrails.ttl-ladder"]),
        ("[guardrails]\nprotected = [\"198.51.100.7/24\"]", None, vec!["198.51.100.0/24"]),
        ("node = \"a/b\"", None, vec!["node"]),
        ("[detection", None, vec!["config.toml", "line 1"]),
        ("", Some(("BULKHEAD_DETECTION_BUDGTE", "1")), vec!["BULKHEAD_DETECTION_BUDGTE", "budgte"]),
        ("", Some(("BULKHEAD_NOPE", "1")), vec!["BULKHEAD_NOPE", "nope"]),
    ] {
        let error = load(file, &[], env.as_slice()).unwrap_err();
        for part in expect {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
}

#[test]
fn a_named_file_must_exist_and_the_default_one_need_not() {
    let global = Global { config: Some("/nonexistent/b.toml".into()), ..Global::default() };
    let error = Config::load(&global, []).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/b.toml"), "{error}");
}

#[test]
fn flags_win_over_what_is_written() {
    let global = Global { state: Some("/tmp/s".into()), ..Global::default() };
    let config = check(
        twin::File {
            paths: twin::Paths { state: Some("/elsewhere".into()), ..twin::Paths::default() },
            ..twin::File::default()
        },
        &global,
    )
    .unwrap();
    assert_eq!(config.paths.state, PathBuf::from("/tmp/s"));
}

#[test]
fn the_documented_example_is_exactly_the_defaults() {
    let example = include_str!("../../../docs/config.example.toml");
    let mut read = load(example, &[], &[]).unwrap();
    // What is written down is asked for: the one difference that an example cannot avoid.
    (read.collector.docker_required, read.collector.podman_required) = (false, false);
    assert_eq!(read, load("", &[], &[]).unwrap());
    // Every key of the twins is in it, so that none goes undocumented.
    for key in include_str!("twin.rs").lines().filter_map(|line| {
        line.trim().strip_prefix("pub(super) ")?.split_once(": Option<").map(|(key, _)| key)
    }) {
        assert!(example.contains(&format!("{} = ", key.replace('_', "-"))), "{key}");
    }
}
