//! Bytes of every released version: a reader of today reads them, and a writer of the same version writes them.
//!
//! A new record's file is made by running this with `BULKHEAD_GOLDEN=make`; a file that is there is never written over.

use std::path::PathBuf;

use super::samples::{all, content, with_content};
use super::{arrived, read};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/1.0")
        .join(name)
        .with_extension("bin")
}

#[test]
fn bytes_of_version_1_0_read_and_write_the_same() {
    for (name, says, record) in all() {
        let path = path(name);
        if !path.exists() && std::env::var("BULKHEAD_GOLDEN").as_deref() == Ok("make") {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content(&record)).unwrap();
        }
        let golden = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let old = arrived(&with_content(&record, golden.clone()));
        assert_eq!(read(&old), Ok(says), "{name} of version 1.0 no longer reads the same");
        assert!(content(&record) == golden, "{name} is no longer written as version 1.0");
    }
}

#[test]
fn every_golden_file_has_its_record() {
    let names: Vec<&str> = all().into_iter().map(|(name, ..)| name).collect();
    for file in std::fs::read_dir(path("x").parent().unwrap()).unwrap() {
        let name = file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        assert!(names.contains(&name.as_str()), "{name} is not read by any test");
    }
}
