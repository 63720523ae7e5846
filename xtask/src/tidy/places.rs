//! No file names a place that exists on one machine only: home directories, work trees, package mirrors.

use super::Text;

/// Places that differ between machines. Put together at compile time, so that this file does not name them.
const PLACES: &[&str] = &[
    concat!("/wor", "k/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/."),
    concat!("/Use", "rs/"),
    concat!("deb.deb", "ian.org"),
    concat!("snapshot.deb", "ian.org"),
    concat!("static.cra", "tes.io"),
    concat!("index.cra", "tes.io"),
    concat!("py", "pi.org"),
    concat!("registry.np", "mjs.org"),
    concat!("proxy.gol", "ang.org"),
];

/// Every place that a file names and should not.
pub(crate) fn check(file: &Text<'_>) -> Vec<String> {
    let named = |line: &str| PLACES.iter().find(|place| line.contains(*place)).copied();
    let lines = file.text.lines().enumerate();
    lines
        .filter_map(|(number, line)| {
            named(line).map(|place| {
                file.at(number, &format!("names {place}, which is a place of one machine"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_of_one_machine_is_found_with_its_line() {
        let text = format!("fine\nsee {}tree\n", PLACES[0]);
        let broken = check(&Text { path: "README.md", text });
        assert_eq!(broken.len(), 1);
        assert!(broken[0].starts_with("README.md:2:"), "{}", broken[0]);
    }

    #[test]
    fn places_that_every_machine_has_are_fine() {
        assert!(
            check(&Text { path: "a.rs", text: "/var/lib/bulkhead /root /proc/1".to_owned() })
                .is_empty()
        );
    }
}
