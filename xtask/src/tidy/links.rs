//! Every relative link in the documentation leads somewhere.

use super::Text;

/// Links of a page to files that are not there.
pub(crate) fn check(file: &Text<'_>, files: &[String]) -> Vec<String> {
    if !file.is("md") {
        return Vec::new();
    }
    let mut broken = Vec::new();
    let mut in_code = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in targets(line) {
            let Some(path) = resolve(file.path, target) else { continue };
            let folder = format!("{path}/");
            if !files.iter().any(|known| *known == path || known.starts_with(&folder)) {
                broken.push(file.at(number, &format!("the link to {target} leads nowhere")));
            }
        }
    }
    broken
}

/// What the links in a line point to.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// The path from the root that a link means; nothing when it leads out of the project or stays on its page.
fn resolve(page: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let target = target.split('#').next().filter(|path| !path.is_empty())?;
    let mut parts: Vec<_> = page.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(page: &str, text: &str) -> usize {
        let files = ["docs/decisions/0001-maps.md".to_owned(), "README.md".to_owned()];
        check(&Text { path: page, text: text.to_owned() }, &files).len()
    }

    #[test]
    fn a_link_is_followed_from_the_folder_of_its_page() {
        assert_eq!(
            broken(
                "docs/index.md",
                "see [maps](decisions/0001-maps.md#layout) and [home](../README.md)"
            ),
            0
        );
        assert_eq!(broken("docs/index.md", "see [maps](0001-maps.md)"), 1);
        assert_eq!(broken("README.md", "all [decisions](docs/decisions/)"), 0);
    }

    #[test]
    fn links_outward_and_examples_are_left_alone() {
        assert_eq!(
            broken("README.md", "[kernel](https://kernel.org) [here](#words)\n```\n[x](y)\n```\n"),
            0
        );
    }
}
