//! Holds the walls between the rooms and the house rules: what a compiler cannot know about this project.

mod deny;
mod links;
mod places;
mod promises;
mod source;
mod walls;

use anyhow::bail;

use crate::workspace;

pub(crate) fn run() -> anyhow::Result<()> {
    let broken = check()?;
    for line in &broken {
        eprintln!("{line}");
    }
    if !broken.is_empty() {
        bail!("tidy: {} of the rules are broken", broken.len());
    }
    println!("tidy: every wall and every house rule holds");
    Ok(())
}

/// Every broken rule, one line each, with the place and the remedy.
pub(crate) fn check() -> anyhow::Result<Vec<String>> {
    let metadata = workspace::metadata()?;
    let files = workspace::files()?;
    let texts: Vec<_> = files
        .iter()
        .filter_map(|path| {
            Some(Text { path, text: std::fs::read_to_string(workspace::root().join(path)).ok()? })
        })
        .collect();
    let mut broken = walls::check(&metadata);
    broken.extend(deny::check(&metadata)?);
    for file in &texts {
        broken.extend(places::check(file));
        broken.extend(source::check(file));
        broken.extend(links::check(file, &files));
    }
    broken.extend(promises::check(&texts));
    Ok(broken)
}

/// A file of text and its path from the root of the workspace.
struct Text<'a> {
    path: &'a str,
    text: String,
}

impl Text<'_> {
    /// Whether its name ends so.
    fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, end)| end == extension)
    }

    /// A broken rule at a line of it, counted from nought.
    fn at(&self, line: usize, rule: &str) -> String {
        format!("{}:{}: {rule}", self.path, line + 1)
    }
}
