//! Files that are not what was written.

use bulkhead_bus::embedded::{Embedded, OpenError};
use bulkhead_bus::suite::record;
use bulkhead_bus::{Bus as _, BusError, Topic};

use super::{config, publish};

#[tokio::test]
async fn a_file_that_is_no_log_is_named_with_what_to_do() {
    for content in [b"not a log at all".to_vec(), vec![0; 100_000], vec![b'x'; 100_000]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus.redb");
        std::fs::write(&path, &content).unwrap();
        let error = Embedded::open(config(dir.path())).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, OpenError::Store(BusError::Corrupt { .. })), "{text}");
        assert!(text.contains(path.to_str().unwrap()) && text.contains("move it away"), "{text}");
        assert!(std::fs::read(&path).unwrap() == content, "left as it was found");
    }
}

#[tokio::test]
async fn damage_anywhere_in_the_file_is_an_error_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus.redb");
    let bus = Embedded::open(config(dir.path())).unwrap();
    for number in 0..300 {
        publish(&bus, Topic::Alerts, &number.to_string(), &"v".repeat(400)).await;
    }
    drop(bus);
    let sound = std::fs::read(&path).unwrap();
    let mut found = 0;
    for part in 0..24 {
        let mut damaged = sound.clone();
        let at = damaged.len() / 24 * part;
        let until = (at + 4096).min(damaged.len());
        damaged[at..until].iter_mut().for_each(|byte| *byte ^= 0x5a);
        std::fs::write(&path, &damaged).unwrap();
        // Damage in pages that nothing uses is not noticed, and need not be.
        let result = match Embedded::open(config(dir.path())) {
            Err(error) => Err(error.to_string()),
            Ok(bus) => match bus.fetch(Topic::Alerts, 0, 0).await {
                Err(error) => Err(error.to_string()),
                Ok(_) => bus
                    .publish(vec![record(Topic::Alerts, "k", Some("v"))])
                    .await
                    .map(|_| ())
                    .map_err(|e| e.to_string()),
            },
        };
        if let Err(text) = result {
            assert!(text.contains(path.to_str().unwrap()), "{text}");
            found += 1;
        }
    }
    assert!(found > 0, "some damage hits a page in use");
}
