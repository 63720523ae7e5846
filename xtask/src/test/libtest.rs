//! Runs one test program and reads how it closed.

use std::process::Command;

use super::report::Verdict;
use crate::step;

/// Runs it with its output in a log, and turns its closing lines into a verdict.
pub(crate) fn run(name: &str, command: &mut Command) -> Verdict {
    let result = step::logged(name, command);
    match result {
        Err(error) => Verdict::failed(format!("{name}: {error:#}")),
        Ok(ended) => judge(name, ended.success, &ended.output),
    }
}

/// What the output of a test program says, given whether it ended well.
fn judge(name: &str, success: bool, output: &str) -> Verdict {
    let (mut passed, mut failed) = (0, 0);
    for line in output.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        passed += number_before(line, " passed");
        failed += number_before(line, " failed");
    }
    let skipped: Vec<_> = output
        .lines()
        .filter_map(|line| line.trim().strip_prefix("SKIP "))
        .map(str::to_owned)
        .collect();
    // A skipped test counts as passed for its runner; it proved nothing here.
    let passed = passed.saturating_sub(skipped.len());
    let mut causes: Vec<_> = output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(|test| format!("{name}: {test}"))
        .collect();
    if !success && causes.is_empty() {
        causes.push(format!("{name}: ended without a result; its words are in target/logs"));
    }
    if success && failed == 0 {
        return Verdict::Held { passed, skipped };
    }
    Verdict::Failed { passed, causes, skipped }
}

fn number_before(line: &str, word: &str) -> usize {
    line.split(word)
        .next()
        .and_then(|before| before.rsplit([' ', '.']).next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_and_skipped_tests_are_told_apart() {
        let output = "test a ... ok\nSKIP guard: it needs root\ntest b ... ok\n\
                      test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(
            judge("loader", true, output),
            Verdict::Held { passed: 1, skipped: vec!["guard: it needs root".to_owned()] }
        );
    }

    #[test]
    fn a_failed_test_is_named() {
        let output = "test deep::leak ... FAILED\n\
                      test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let Verdict::Failed { passed, causes, .. } = judge("loader", false, output) else {
            panic!("it did not fail");
        };
        assert_eq!((passed, causes), (4, vec!["loader: deep::leak".to_owned()]));
    }

    #[test]
    fn a_program_that_dies_without_a_word_has_failed() {
        assert!(
            matches!(judge("bus", false, ""), Verdict::Failed { causes, .. } if causes.len() == 1)
        );
    }
}
