//! What outlives the process and the boot: measures in force with their end in both clocks, and those a person disarmed.
//!
//! One JSON file, written whole beside the old one and renamed over it, so that a crash leaves either.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_domain::Timestamp;
use bulkhead_domain::measure::{Measure, MeasureId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::core::{Core, Now};

/// Version of the file's layout.
const FORMAT: u32 = 1;

/// Why a ledger cannot be used.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The file system.
    #[error("cannot use the ledger {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not what was written.
    #[error(
        "{} is damaged ({cause}): move it away and start again; measures in force stay in the kernel, and the log brings back the others",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerFile {
    format: u32,
    boot: String,
    measures: Vec<Entry>,
    ended: BTreeMap<MeasureId, Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    expires_boot_ns: u64,
    measure: Measure,
}

/// The file.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
    boot: String,
}

/// What a ledger remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Measures, with the boot time (ns) of their end where it is of this boot.
    pub measures: Vec<(Measure, Option<u64>)>,
    /// Measures that ended against their time.
    pub ended: Vec<(MeasureId, Timestamp)>,
}

impl Ledger {
    /// The ledger in an agent's state directory, in this boot.
    pub fn new(state: &Path, boot: &str) -> Self {
        Self { path: state.join("ledger.json"), boot: boot.into() }
    }

    /// Reads it; none is an empty one.
    pub fn read(&self) -> Result<Memory, LedgerError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
            Err(source) => return Err(self.io(source)),
        };
        let corrupt = |cause: String| LedgerError::Corrupt { path: self.path.clone(), cause };
        let file: LedgerFile =
            serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
        if file.format != FORMAT {
            return Err(corrupt(format!("format {}, not {FORMAT}", file.format)));
        }
        let same = file.boot == self.boot;
        let measures =
            file.measures.into_iter().map(|e| (e.measure, same.then_some(e.expires_boot_ns)));
        Ok(Memory { measures: measures.collect(), ended: file.ended.into_iter().collect() })
    }

    /// Writes what the core holds; it is on disk when this returns.
    pub fn write(&self, core: &Core) -> Result<(), LedgerError> {
        let entries = core
            .measures()
            .map(|held| Entry { expires_boot_ns: held.expires_ns, measure: held.measure.clone() });
        self.put(entries.collect(), core.ended().collect())
    }

    /// Marks measures as ended by a person, for an agent that is not there to hear it.
    pub fn mark_ended(&self, ids: &[MeasureId], now: Now) -> Result<(), LedgerError> {
        let mut core = Core::new("", usize::MAX);
        let memory = self.read()?;
        core.restore(memory.measures, memory.ended, now);
        for id in ids {
            core.disarm(*id, now);
        }
        self.write(&core)
    }

    fn put(
        &self,
        measures: Vec<Entry>,
        ended: BTreeMap<MeasureId, Timestamp>,
    ) -> Result<(), LedgerError> {
        let file = LedgerFile { format: FORMAT, boot: self.boot.clone(), measures, ended };
        let bytes = serde_json::to_vec_pretty(&file).expect("plain records become JSON");
        let fresh = self.path.with_extension("new");
        let put = || {
            let mut out = fs::OpenOptions::new();
            out.write(true).create(true).truncate(true).mode(0o600);
            let mut out = out.open(&fresh)?;
            out.write_all(&bytes)?;
            out.sync_all()?;
            fs::rename(&fresh, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        put().map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> LedgerError {
        LedgerError::Io { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_domain::measure::{Action, Decider, Target};

    use super::*;

    fn measure(id: u64) -> Measure {
        Measure {
            id: MeasureId(id),
            cluster: "local".into(),
            target: Target::Workload("local/shop/image/web/".parse().unwrap()),
            action: Action::Quarantine,
            decider: Decider::Manual { who: "ada".into() },
            reason: "a \u{1b}[2J reason".into(),
            created: Timestamp(0),
            expires: Timestamp::from_secs(100),
        }
    }

    fn now() -> Now {
        Now { wall: Timestamp::from_secs(10), boot_ns: 5 }
    }

    #[test]
    fn a_restart_in_the_same_boot_keeps_the_boot_time_and_a_reboot_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut core = Core::new("n1", 9);
        core.set(measure(1), now()).unwrap();
        core.disarm(MeasureId(2), now());
        Ledger::new(dir.path(), "boot-1").write(&core).unwrap();
        let held = core.measures().next().unwrap();
        let same = Ledger::new(dir.path(), "boot-1").read().unwrap();
        assert_eq!(same.measures, [(measure(1), Some(held.expires_ns))]);
        assert_eq!(same.ended.len(), 1);
        let other = Ledger::new(dir.path(), "boot-2").read().unwrap();
        assert_eq!(other.measures, [(measure(1), None)]);
    }

    #[test]
    fn none_is_empty_and_a_damaged_one_is_named_with_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(dir.path(), "b");
        assert_eq!(ledger.read().unwrap(), Memory::default());
        fs::write(dir.path().join("ledger.json"), "{\"format\":1").unwrap();
        let error = ledger.read().unwrap_err().to_string();
        assert!(error.contains("ledger.json") && error.contains("move it away"), "{error}");
    }

    #[test]
    fn a_mark_without_the_agent_is_found_by_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(dir.path(), "b");
        let mut core = Core::new("n1", 9);
        core.set(measure(1), now()).unwrap();
        core.set(measure(2), now()).unwrap();
        ledger.write(&core).unwrap();
        ledger.mark_ended(&[MeasureId(1)], now()).unwrap();
        let memory = ledger.read().unwrap();
        assert_eq!(memory.measures.iter().map(|(m, _)| m.id.0).collect::<Vec<_>>(), [2]);
        assert_eq!(memory.ended[0].0, MeasureId(1));
    }
}
