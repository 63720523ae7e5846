//! Which room may use which: the arrows of `ARCHITECTURE.md`, as a table.

use serde_json::Value;

/// Rooms and the rooms they may use. A room that is missing here may use none.
const ARROWS: &[(&str, &[&str])] = &[
    ("abi", &[]),
    ("domain", &[]),
    ("loader", &["abi"]),
    ("models", &["domain"]),
    ("bus", &["domain"]),
    ("planner", &["domain"]),
    ("api", &["domain", "bus"]),
    ("collector", &["abi", "loader", "domain", "bus"]),
    ("enforcer", &["abi", "loader", "domain", "bus"]),
    ("detector", &["domain", "models", "bus"]),
    ("replay", &["domain", "models", "bus", "detector", "planner"]),
    (
        "cli",
        &[
            "abi",
            "loader",
            "domain",
            "models",
            "bus",
            "collector",
            "detector",
            "planner",
            "enforcer",
            "api",
        ],
    ),
    // The harness knows nothing of the product, so that it builds before the kernel's programs do.
    ("tests", &[]),
    ("xtask", &["tests"]),
];

/// Every arrow that points where none may.
pub(crate) fn check(metadata: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        // A package of the workspace has no source: it is a path.
        if !package["source"].is_null() {
            continue;
        }
        let from = room(package["name"].as_str().unwrap_or_default());
        let Some((_, allowed)) = ARROWS.iter().find(|(room, _)| *room == from) else {
            broken.push(format!("{from}: the room is in no row of xtask/src/tidy/walls.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // Tests may look over a wall: they stand outside of it.
            if dependency["path"].is_null() || dependency["kind"] == "dev" {
                continue;
            }
            let to = room(dependency["name"].as_str().unwrap_or_default());
            if !allowed.contains(&to) {
                broken.push(format!("{from} uses {to}: that arrow is not in ARCHITECTURE.md"));
            }
        }
    }
    broken
}

fn room(package: &str) -> &str {
    package.strip_prefix("bulkhead-").unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn uses(from: &str, to: &str, kind: &Value) -> Vec<String> {
        check(&json!({ "packages": [{
            "name": from,
            "source": null,
            "dependencies": [{ "name": to, "path": "/somewhere", "kind": kind }],
        }] }))
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_broken() {
        assert_eq!(uses("bulkhead-collector", "bulkhead-detector", &Value::Null).len(), 1);
        assert_eq!(uses("bulkhead-models", "bulkhead-bus", &Value::Null).len(), 1);
        assert!(uses("bulkhead-detector", "bulkhead-bus", &Value::Null).is_empty());
    }

    #[test]
    fn tests_may_look_over_a_wall() {
        assert!(uses("bulkhead-loader", "bulkhead-tests", &json!("dev")).is_empty());
    }

    #[test]
    fn a_new_room_has_to_be_drawn_first() {
        assert_eq!(
            check(&json!({ "packages": [{ "name": "bulkhead-attic", "source": null }] })).len(),
            1
        );
    }
}
