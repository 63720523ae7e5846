//! House rules of Rust files: a reason at the top, no unsafe where none belongs, nothing silenced or unfinished.

use super::Text;

/// Rooms that may hold unsafe code, each with a note on every block.
const UNSAFE_ROOMS: [&str; 3] = ["abi/", "ebpf/", "loader/"];

/// What no file may contain, and why. Put together at compile time, so that this file does not contain it either.
const FORBIDDEN: &[(&str, &str)] = &[
    (
        concat!("#[", "allow("),
        "silence a lint with #[expect(…, reason = …)], which says when it is no longer needed",
    ),
    (
        concat!("#![", "allow("),
        "silence a lint with #![expect(…, reason = …)], which says when it is no longer needed",
    ),
    (concat!("#[", "ignore"), "a test that does not run proves nothing: gate it on what it needs"),
    (concat!("to", "do!("), "finish it, or leave it out"),
    (concat!("unimple", "mented!("), "finish it, or leave it out"),
    (concat!("db", "g!("), "log a field instead"),
];

/// Every house rule that a Rust file breaks.
pub(crate) fn check(file: &Text<'_>) -> Vec<String> {
    if !file.is("rs") {
        return Vec::new();
    }
    let mut broken = Vec::new();
    if !file.text.starts_with("//!") {
        broken.push(file.at(0, "begin with `//!` and why the file exists"));
    }
    let may_be_unsafe = UNSAFE_ROOMS.iter().any(|room| file.path.starts_with(room));
    if is_crate_root(file.path) && !may_be_unsafe && !file.text.contains("#![forbid(unsafe_code)]")
    {
        broken.push(file.at(0, "forbid unsafe code at the root of the crate"));
    }
    let silenced_with_reason = is_shared_by_tests(file);
    for (number, line) in file.text.lines().enumerate() {
        for (pattern, rule) in FORBIDDEN {
            let excused = silenced_with_reason && pattern.starts_with("#![");
            if line.contains(pattern) && !excused {
                broken.push(file.at(number, rule));
            }
        }
    }
    broken
}

/// A module of several test binaries, each of which uses another part of it: there a lint is neither always right nor
/// always wrong, so it is silenced with a reason instead of expected.
fn is_shared_by_tests(file: &Text<'_>) -> bool {
    file.path.ends_with("tests/support/mod.rs") && file.text.contains("reason = ")
}

fn is_crate_root(path: &str) -> bool {
    path.ends_with("src/lib.rs") || path.ends_with("src/main.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> usize {
        check(&Text { path, text: text.to_owned() }).len()
    }

    #[test]
    fn a_file_says_why_it_exists() {
        assert_eq!(broken("bus/src/log.rs", "use std::fs;\n"), 1);
        assert_eq!(broken("bus/src/log.rs", "//! The log.\nuse std::fs;\n"), 0);
    }

    #[test]
    fn unsafe_code_is_forbidden_outside_three_rooms() {
        assert_eq!(broken("bus/src/lib.rs", "//! The bus.\n"), 1);
        assert_eq!(broken("bus/src/lib.rs", "//! The bus.\n#![forbid(unsafe_code)]\n"), 0);
        assert_eq!(broken("loader/src/lib.rs", "//! The loader.\n"), 0);
    }

    #[test]
    fn a_module_of_several_test_binaries_may_silence_with_a_reason() {
        let silenced =
            concat!("//! Shared.\n#![", "allow(dead_code, reason = \"each uses a part\")]\n");
        assert_eq!(broken("loader/tests/support/mod.rs", silenced), 0);
        assert_eq!(broken("loader/tests/network.rs", silenced), 1);
    }

    #[test]
    fn nothing_is_silenced_or_unfinished() {
        for (pattern, _) in FORBIDDEN {
            assert_eq!(
                broken("bus/src/log.rs", &format!("//! The log.\n    {pattern}dead_code)]\n")),
                1,
                "{pattern}"
            );
        }
        assert_eq!(
            broken("bus/src/log.rs", "//! The log.\n#[expect(dead_code, reason = \"x\")]\n"),
            0
        );
    }
}
