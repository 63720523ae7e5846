//! Every numbered promise names the test that keeps it, and every test that a page names exists.
//!
//! A page names a test as `folder/file.rs::function`, in backticks. In `SPECIFICATION.md` each item of a numbered list
//! and each row of a table is a promise, and needs at least one.

use super::Text;

/// Promises without a test, and tests that are not there.
pub(crate) fn check(files: &[Text<'_>]) -> Vec<String> {
    let mut broken = Vec::new();
    for page in files.iter().filter(|file| file.is("md")) {
        for (number, line) in page.text.lines().enumerate() {
            for name in named(line) {
                if !exists(files, name) {
                    broken.push(page.at(number, &format!("there is no test {name}")));
                }
            }
        }
        if page.path == "SPECIFICATION.md" {
            broken.extend(unkept(page));
        }
    }
    broken
}

/// The tests that a line names.
fn named(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|word| word.contains(".rs::") && !word.contains(' '))
}

fn exists(files: &[Text<'_>], name: &str) -> bool {
    let Some((path, function)) = name.split_once("::") else { return false };
    let function = function.rsplit("::").next().unwrap_or(function);
    let signature = format!("fn {function}(");
    files.iter().any(|file| file.path == path && file.text.contains(&signature))
}

/// Promises of the specification that name no test.
fn unkept(page: &Text<'_>) -> Vec<String> {
    let lines: Vec<_> = page.text.lines().collect();
    let mut broken = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if !is_promise(line, lines.get(number + 1)) {
            continue;
        }
        // An item of a list goes on until a line that is not indented.
        let rest = lines[number + 1..].iter().take_while(|line| line.starts_with("   "));
        let kept = std::iter::once(line).chain(rest).any(|line| named(line).next().is_some());
        if !kept {
            broken.push(page.at(number, "the promise names no test"));
        }
    }
    broken
}

/// Whether a line begins a promise: an item of a numbered list, or a row of a table that is not its head.
fn is_promise(line: &str, next: Option<&&str>) -> bool {
    let is_rule = |line: &str| {
        line.starts_with('|') && line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '))
    };
    let is_row = line.starts_with('|') && !is_rule(line) && !next.is_some_and(|next| is_rule(next));
    let is_item = line.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    is_row || is_item
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(specification: &str) -> Vec<String> {
        check(&[
            Text { path: "SPECIFICATION.md", text: specification.to_owned() },
            Text { path: "bus/src/log.rs", text: "fn an_offset_only_grows() {}".to_owned() },
        ])
    }

    #[test]
    fn a_promise_is_kept_by_a_test_that_exists() {
        assert!(
            broken("1. Offsets grow.\n   Test: `bus/src/log.rs::an_offset_only_grows`\n")
                .is_empty()
        );
        assert_eq!(broken("1. Offsets grow.\n   Test: `bus/src/log.rs::gone`\n").len(), 1);
        assert_eq!(broken("1. Offsets grow.\n\nText.\n").len(), 1);
    }

    #[test]
    fn a_row_is_a_promise_and_a_head_is_none() {
        let row = "`bus/src/log.rs::an_offset_only_grows`";
        assert!(
            broken(&format!("| promise | test |\n|---|---|\n| offsets grow | {row} |\n"))
                .is_empty()
        );
        assert_eq!(broken("| promise | test |\n|---|---|\n| offsets grow | |\n").len(), 1);
    }
}
