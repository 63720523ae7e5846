//! What a demo could leave behind on the machine, by the names that only this run gives.
//!
//! Namespaces, interfaces, cgroups and pins of the demo carry its process id; what other runs make meanwhile is theirs.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use bulkhead_tests::{command::output, requirement::cgroup2};

/// What is still there, after the kernel had time to take namespaces and interfaces down.
pub(crate) fn left() -> anyhow::Result<Vec<String>> {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let left = there()?;
        if left.is_empty() || Instant::now() >= end {
            return Ok(left);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn there() -> anyhow::Result<Vec<String>> {
    let places: [(&str, PathBuf); 5] = [
        ("directory", "/var/tmp".into()),
        ("namespace", "/run/netns".into()),
        ("pin", "/sys/fs/bpf".into()),
        ("interface", "/sys/class/net".into()),
        ("cgroup", cgroup2().unwrap_or_default()),
    ];
    let mut there = Vec::new();
    for (kind, directory) in places {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        there.extend(of_this_run(names).map(|name| format!("{kind} {name}")));
    }
    let routes = output(Command::new("ip").args(["-o", "route"]))?;
    there.extend(
        of_this_run(routes.lines().map(str::to_owned)).map(|route| format!("route {route}")),
    );
    Ok(there)
}

/// The names that this process gave: its id in hexadecimal is in them, after a prefix of ours.
fn of_this_run(names: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let id = format!("{:x}", std::process::id());
    names.filter(move |name| {
        ["bh-out-", "bho", "bhp", "bulkhead-", "bulkhead-demo-"]
            .iter()
            .any(|prefix| name.contains(&format!("{prefix}{id}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_run_made_is_not_left_by_this_one() {
        let id = format!("{:x}", std::process::id());
        let names =
            ["lo".to_owned(), format!("bho{id}0"), "bho0".to_owned(), format!("bulkhead-{id}1")];
        assert_eq!(of_this_run(names.into_iter()).count(), 2);
    }
}
