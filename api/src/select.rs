//! From what a person typed to the one thing that is meant.

use bulkhead_domain::container::Container;
use bulkhead_domain::text::printable;
use bulkhead_domain::{Alert, WorkloadName};

use crate::protocol::{Refusal, RefusalKind};

/// How many candidates an ambiguous name lists.
const CANDIDATES_SHOWN_MAX: usize = 5;

/// The workload meant by a full name, a short name, or an owner's last path component (`app` for `localhost/shop/app`).
pub fn workload<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a WorkloadName>,
) -> Result<WorkloadName, Refusal> {
    let known: Vec<&WorkloadName> = known.into_iter().collect();
    let last = |n: &WorkloadName| n.owner.rsplit('/').next() == Some(typed);
    let tests: [&dyn Fn(&WorkloadName) -> bool; 3] =
        [&|n| n.to_string() == typed, &|n| n.short() == typed, &last];
    for test in tests {
        let hits: Vec<String> = known.iter().filter(|n| test(n)).map(ToString::to_string).collect();
        match &hits[..] {
            [] => {}
            [one] => return one.parse().map_err(|_| unknown("workload", typed, "workloads")),
            several => return Err(ambiguous("workload", typed, several)),
        }
    }
    Err(unknown("workload", typed, "workloads"))
}

/// The container meant by its name, or by the beginning of its id.
pub fn container<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a Container>,
) -> Result<&'a Container, Refusal> {
    let known: Vec<&Container> = known.into_iter().collect();
    let tests: [&dyn Fn(&Container) -> bool; 2] = [
        &|c| c.name == typed || c.key.engine_id == typed,
        // As engines do: any unambiguous beginning, but never an empty one.
        &|c| typed.len() >= 3 && c.key.engine_id.starts_with(typed),
    ];
    for test in tests {
        let hits: Vec<&Container> = known.iter().copied().filter(|c| test(c)).collect();
        match &hits[..] {
            [] => {}
            [one] => return Ok(one),
            several => {
                let names: Vec<String> =
                    several.iter().map(|c| format!("{} ({})", c.name, c.key.short())).collect();
                return Err(ambiguous("container", typed, &names));
            }
        }
    }
    Err(unknown("container", typed, "workloads -o json"))
}

/// The alert meant by its id, or by the beginning of it with or without `a-`.
pub fn alert<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a Alert>,
) -> Result<&'a Alert, Refusal> {
    let wanted = typed.strip_prefix("a-").unwrap_or(typed);
    let hits: Vec<&Alert> = if wanted.is_empty() {
        Vec::new()
    } else {
        known.into_iter().filter(|a| a.id.to_string()[2..].starts_with(wanted)).collect()
    };
    match &hits[..] {
        [] => Err(unknown("alert", typed, "alerts list")),
        [one] => Ok(one),
        several => {
            let ids: Vec<String> = several.iter().map(|a| a.id.to_string()).collect();
            Err(ambiguous("alert", typed, &ids))
        }
    }
}

fn unknown(thing: &str, typed: &str, command: &str) -> Refusal {
    Refusal::new(
        RefusalKind::Unknown,
        format!("{thing} `{}` is not known here", printable(typed, 80)),
        format!("see `bulkhead {command}`"),
    )
}

fn ambiguous(thing: &str, typed: &str, candidates: &[String]) -> Refusal {
    let mut list: Vec<String> =
        candidates.iter().take(CANDIDATES_SHOWN_MAX).map(|c| printable(c, 120)).collect();
    if candidates.len() > CANDIDATES_SHOWN_MAX {
        list.push(format!("and {} more", candidates.len() - CANDIDATES_SHOWN_MAX));
    }
    Refusal::new(
        RefusalKind::Ambiguous,
        format!("{thing} `{}` could be {} of them", printable(typed, 80), candidates.len()),
        format!("write more of it: {}", list.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_domain::workload::OwnerKind;

    fn name(scope: &str, owner: &str) -> WorkloadName {
        WorkloadName {
            cluster: "local".into(),
            scope: scope.into(),
            kind: OwnerKind::Image,
            owner: owner.into(),
            container: String::new(),
        }
    }

    #[test]
    fn finds_a_workload_by_full_short_and_last_part_of_its_name() {
        let known = [name("h", "localhost/shop/app"), name("h", "redis")];
        for typed in ["local/h/image/localhost%2Fshop%2Fapp/", "localhost/shop/app", "app"] {
            assert_eq!(workload(typed, &known).unwrap(), known[0], "{typed}");
        }
    }

    #[test]
    fn refuses_what_is_unknown_and_names_the_way_to_find_out() {
        let refusal = workload("no\x1bpe", &[name("h", "redis")]).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Unknown);
        assert_eq!(
            refusal.to_string(),
            "workload `no\\u{1b}pe` is not known here; see `bulkhead workloads`"
        );
    }

    #[test]
    fn an_ambiguous_name_lists_its_candidates() {
        let known = [name("a", "web"), name("b", "web")];
        let refusal = workload("web", &known).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Ambiguous);
        assert!(refusal.remedy.contains("local/a/image/web/"), "{}", refusal.remedy);
    }
}
