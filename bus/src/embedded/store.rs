//! The tables of the embedded log, and what is read and written in one transaction.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use bulkhead_domain::Timestamp;
use prost::Message as _;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition, WriteTransaction,
};
use tokio::sync::watch;

use super::OpenError;
use super::config::Config;
use super::failure::{Failure, guarded};
use crate::contract::{
    Batch, BusError, Commit, FETCH_BYTES_MAX, FETCH_RECORDS_MAX, Outgoing, Position, Record, Topic,
    partition_of,
};
use crate::frame::{self, StoredFrame};

/// Topic, partition, offset → record.
const RECORDS: TableDefinition<(u8, u32, u64), &[u8]> = TableDefinition::new("records");
/// Topic, partition → first offset kept, next offset, bytes kept.
const ENDS: TableDefinition<(u8, u32), (u64, u64, u64)> = TableDefinition::new("ends");
/// Topic, partition, key → offset of its latest record; compacted topics only.
const LATEST: TableDefinition<(u8, u32, &[u8]), u64> = TableDefinition::new("latest");
/// Topic, partition, offset of a tombstone → when it was appended.
const TOMBSTONES: TableDefinition<(u8, u32, u64), u64> = TableDefinition::new("tombstones");
/// Group, topic, partition → next offset wanted.
const COMMITS: TableDefinition<(&str, u8, u32), u64> = TableDefinition::new("commits");
/// Format and number of partitions.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The layout of these tables.
const FORMAT: u64 = 1;

/// Records that retention removes in one transaction, so that it never holds up a write for long.
const REMOVALS_MAX: usize = 4096;

/// One partition's ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    start: u64,
    next: u64,
    bytes: u64,
}

/// Ends by topic and partition: read from the file at its opening, and from then on the writer's own.
pub(super) type Ends = HashMap<(Topic, u32), End>;

/// One write: records to append and offsets to commit.
pub(super) struct Write<'a> {
    pub(super) records: &'a [Outgoing],
    pub(super) commits: Option<(&'a str, &'a [Commit])>,
}

#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    config: Config,
    /// Absent after a failure, until the writer has opened it again.
    database: RwLock<Option<Database>>,
    ends: HashMap<(Topic, u32), watch::Sender<u64>>,
    health: Mutex<Result<(), BusError>>,
}

impl Store {
    pub(super) fn open(config: Config) -> Result<Self, OpenError> {
        let path = config.dir.join("bus.redb");
        let database = open_database(&path, config.cache_bytes)?;
        let meta = guarded(&path, || prepare(&database, config.partitions))?;
        if meta.format != FORMAT {
            return Err(OpenError::Format { path, found: meta.format });
        }
        if meta.partitions != u64::from(config.partitions) {
            let asked = config.partitions;
            return Err(OpenError::Partitions { path, found: meta.partitions, asked });
        }
        let ends = guarded(&path, || read_ends(&database, config.partitions))?;
        Ok(Self {
            ends: ends.into_iter().map(|(at, end)| (at, watch::Sender::new(end.next))).collect(),
            database: RwLock::new(Some(database)),
            health: Mutex::new(Ok(())),
            path,
            config,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn partitions(&self) -> u32 {
        self.config.partitions
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.config.clock)()
    }

    pub(super) fn health(&self) -> Result<(), BusError> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_health(&self, health: Result<(), BusError>) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// The partition's end as it moves.
    pub(super) fn watch(
        &self,
        topic: Topic,
        partition: u32,
    ) -> Result<watch::Receiver<u64>, BusError> {
        self.ends
            .get(&(topic, partition))
            .map(watch::Sender::subscribe)
            .ok_or_else(|| BusError::Partition { topic: topic.to_string(), partition })
    }

    /// Committed records from an offset on.
    pub(super) fn fetch(&self, topic: Topic, partition: u32, from: u64) -> Result<Batch, BusError> {
        self.check_partition(topic, partition)?;
        self.read(|database| {
            let transaction = database.begin_read()?;
            let end = transaction.open_table(ENDS)?.get((topic as u8, partition))?;
            let (log_start, high_watermark, _) = end.map(|end| end.value()).unwrap_or_default();
            let records = transaction.open_table(RECORDS)?;
            let mut batch = Batch { high_watermark, log_start, ..Batch::default() };
            let mut bytes = 0;
            // Beyond the end: this log is not the one that the reader knew.
            batch.next = if from > high_watermark { log_start } else { from.max(log_start) };
            for entry in records
                .range((topic as u8, partition, batch.next)..=(topic as u8, partition, u64::MAX))?
            {
                let (key, value) = entry?;
                let offset = key.value().2;
                let stored = decode(value.value())?;
                batch.next = offset + 1;
                bytes += value.value().len();
                batch.records.push(Record {
                    position: Position { topic, partition, offset },
                    key: stored.key,
                    headers: frame::headers(stored.headers),
                    value: stored.value,
                });
                if batch.records.len() == FETCH_RECORDS_MAX || bytes >= FETCH_BYTES_MAX {
                    return Ok(batch);
                }
            }
            batch.next = batch.next.max(high_watermark);
            Ok(batch)
        })
    }

    pub(super) fn committed(
        &self,
        group: &str,
        topic: Topic,
        partition: u32,
    ) -> Result<Option<u64>, BusError> {
        self.check_partition(topic, partition)?;
        self.read(|database| {
            let commits = database.begin_read()?.open_table(COMMITS)?;
            Ok(commits.get((group, topic as u8, partition))?.map(|next| next.value()))
        })
    }

    /// The ends as the file tells them.
    pub(super) fn ends(&self) -> Result<Ends, BusError> {
        self.read(|database| read_ends(database, self.config.partitions))
    }

    /// Commits all writes in one transaction and moves the ends; returns where each record lies, by write.
    pub(super) fn commit(
        &self,
        writes: &[Write<'_>],
        ends: &mut Ends,
    ) -> Result<Vec<Vec<Position>>, BusError> {
        let now = self.now();
        let mut moved = ends.clone();
        let positions = self.read(|database| {
            let transaction = database.begin_write()?;
            let mut positions = Vec::with_capacity(writes.len());
            {
                let mut tables = Tables::open(&transaction)?;
                for write in writes {
                    positions.push(tables.append(
                        write,
                        self.config.partitions,
                        now,
                        &mut moved,
                    )?);
                }
                tables.retain(&self.config, now, ends, &mut moved)?;
                tables.write_ends(ends, &moved)?;
            }
            transaction.commit()?;
            Ok(positions)
        })?;
        *ends = moved;
        for (at, end) in ends.iter() {
            self.ends[at].send_if_modified(|next| std::mem::replace(next, end.next) != end.next);
        }
        Ok(positions)
    }

    /// Closes the file and opens it again, which repairs what a failed write left.
    pub(super) fn reopen(&self) -> Result<(), BusError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        *database = Some(open_database(&self.path, self.config.cache_bytes)?);
        Ok(())
    }

    fn read<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, BusError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match database.as_ref() {
            Some(database) => guarded(&self.path, || work(database)),
            None => Err(self.health().err().unwrap_or(BusError::Closed)),
        }
    }

    fn check_partition(&self, topic: Topic, partition: u32) -> Result<(), BusError> {
        if partition < self.config.partitions {
            return Ok(());
        }
        Err(BusError::Partition { topic: topic.to_string(), partition })
    }
}

/// What is wrong with a write, before anything of it is written.
pub(super) fn refusal(write: &Write<'_>, ends: &Ends) -> Option<BusError> {
    let (_, commits) = write.commits?;
    commits.iter().find_map(|commit| {
        let Some(end) = ends.get(&(commit.topic, commit.partition)) else {
            return Some(BusError::Partition {
                topic: commit.topic.to_string(),
                partition: commit.partition,
            });
        };
        (commit.next > end.next).then(|| BusError::Beyond {
            topic: commit.topic.to_string(),
            next: commit.next,
            high_watermark: end.next,
        })
    })
}

struct Meta {
    format: u64,
    partitions: u64,
}

fn open_database(path: &Path, cache_bytes: usize) -> Result<Database, BusError> {
    guarded(path, || {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        let name = path.display().to_string();
        // A new file passes through the same steps, and nothing of it was lost.
        let is_new = path.metadata().is_ok_and(|file| file.len() == 0) || !path.exists();
        builder.set_repair_callback(move |session| {
            if is_new {
                return;
            }
            tracing::info!(path = %name, progress = session.progress(), "repairing the log");
        });
        let file = {
            use std::os::unix::fs::OpenOptionsExt as _;
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(redb::Error::Io)?
        };
        Ok(builder.create_file(file)?)
    })
}

/// Makes the tables of a new file; says what an old one holds.
fn prepare(database: &Database, partitions: u32) -> Result<Meta, Failure> {
    let transaction = database.begin_write()?;
    let found = {
        let mut meta = transaction.open_table(META)?;
        let format = meta.get("format")?.map(|v| v.value());
        let known = meta.get("partitions")?.map(|v| v.value());
        if format.is_none() {
            meta.insert("format", FORMAT)?;
            meta.insert("partitions", u64::from(partitions))?;
        }
        Meta {
            format: format.unwrap_or(FORMAT),
            partitions: known.unwrap_or_else(|| u64::from(partitions)),
        }
    };
    if found.format == FORMAT {
        Tables::open(&transaction)?;
    }
    transaction.commit()?;
    Ok(found)
}

fn read_ends(database: &Database, partitions: u32) -> Result<Ends, Failure> {
    let table = database.begin_read()?.open_table(ENDS)?;
    let mut ends = Ends::new();
    for topic in Topic::ALL {
        for partition in 0..partitions {
            let end = table.get((topic as u8, partition))?.map(|v| v.value()).unwrap_or_default();
            let (start, next, bytes) = end;
            ends.insert((topic, partition), End { start, next, bytes });
        }
    }
    Ok(ends)
}

fn decode(bytes: &[u8]) -> Result<StoredFrame, Failure> {
    Ok(StoredFrame::decode(bytes).map_err(|e| redb::Error::Corrupted(format!("a record: {e}")))?)
}

/// The tables within a write transaction.
struct Tables<'t> {
    records: Table<'t, (u8, u32, u64), &'static [u8]>,
    ends: Table<'t, (u8, u32), (u64, u64, u64)>,
    latest: Table<'t, (u8, u32, &'static [u8]), u64>,
    tombstones: Table<'t, (u8, u32, u64), u64>,
    commits: Table<'t, (&'static str, u8, u32), u64>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, Failure> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            ends: transaction.open_table(ENDS)?,
            latest: transaction.open_table(LATEST)?,
            tombstones: transaction.open_table(TOMBSTONES)?,
            commits: transaction.open_table(COMMITS)?,
        })
    }

    fn append(
        &mut self,
        write: &Write<'_>,
        partitions: u32,
        now: Timestamp,
        ends: &mut Ends,
    ) -> Result<Vec<Position>, Failure> {
        let mut positions = Vec::with_capacity(write.records.len());
        for record in write.records {
            let (topic, partition) = (record.topic, partition_of(record.route, partitions));
            let end = ends.entry((topic, partition)).or_default();
            let (number, offset) = (topic as u8, end.next);
            let stored = StoredFrame {
                appended_ns: now.0,
                key: record.key.clone(),
                headers: frame::header_frames(&record.headers),
                value: record.value.clone(),
            }
            .encode_to_vec();
            end.next += 1;
            end.bytes += stored.len() as u64;
            self.records.insert((number, partition, offset), stored.as_slice())?;
            if topic.is_compacted() {
                let before =
                    self.latest.insert((number, partition, record.key.as_slice()), offset)?;
                if let Some(before) = before.map(|b| b.value()) {
                    self.remove(topic, partition, before, end)?;
                }
                if record.value.is_none() {
                    self.tombstones.insert((number, partition, offset), now.0)?;
                }
            }
            positions.push(Position { topic, partition, offset });
        }
        if let Some((group, commits)) = write.commits {
            for commit in commits {
                self.commits.insert((group, commit.topic as u8, commit.partition), commit.next)?;
            }
        }
        Ok(positions)
    }

    fn remove(
        &mut self,
        topic: Topic,
        partition: u32,
        offset: u64,
        end: &mut End,
    ) -> Result<(), Failure> {
        let at = (topic as u8, partition, offset);
        if let Some(old) = self.records.remove(at)? {
            end.bytes = end.bytes.saturating_sub(old.value().len() as u64);
        }
        if topic.is_compacted() {
            self.tombstones.remove(at)?;
        }
        Ok(())
    }

    /// Removes what is too old or too much of the topics that this transaction writes to.
    fn retain(
        &mut self,
        config: &Config,
        now: Timestamp,
        before: &Ends,
        ends: &mut Ends,
    ) -> Result<(), Failure> {
        for ((topic, partition), end) in ends.iter_mut() {
            if before.get(&(*topic, *partition)) == Some(end) {
                continue;
            }
            match config.retention.of(*topic) {
                Some(keep) => {
                    for _ in 0..REMOVALS_MAX {
                        if end.start == end.next {
                            break;
                        }
                        let too_much = end.bytes > keep.bytes_max;
                        if !too_much
                            && !self.is_older(*topic, *partition, end.start, now, keep.age)?
                        {
                            break;
                        }
                        let offset = end.start;
                        self.remove(*topic, *partition, offset, end)?;
                        end.start = offset + 1;
                    }
                }
                None => self.forget_tombstones(*topic, *partition, now, config, end)?,
            }
        }
        Ok(())
    }

    fn is_older(
        &self,
        topic: Topic,
        partition: u32,
        offset: u64,
        now: Timestamp,
        age: std::time::Duration,
    ) -> Result<bool, Failure> {
        let Some(bytes) = self.records.get((topic as u8, partition, offset))? else {
            return Ok(true);
        };
        Ok(now.since(Timestamp(decode(bytes.value())?.appended_ns)) > age)
    }

    fn forget_tombstones(
        &mut self,
        topic: Topic,
        partition: u32,
        now: Timestamp,
        config: &Config,
        end: &mut End,
    ) -> Result<(), Failure> {
        let number = topic as u8;
        let mut old = Vec::new();
        for entry in
            self.tombstones.range((number, partition, 0)..=(number, partition, u64::MAX))?
        {
            let (at, appended) = entry?;
            let age = now.since(Timestamp(appended.value()));
            if age <= config.retention.tombstones || old.len() == REMOVALS_MAX {
                break;
            }
            old.push(at.value().2);
        }
        for offset in old {
            let key = match self.records.get((number, partition, offset))? {
                Some(bytes) => decode(bytes.value())?.key,
                None => continue,
            };
            self.latest.remove((number, partition, key.as_slice()))?;
            self.remove(topic, partition, offset, end)?;
        }
        Ok(())
    }

    fn write_ends(&mut self, before: &Ends, after: &Ends) -> Result<(), Failure> {
        for ((topic, partition), end) in after {
            if before.get(&(*topic, *partition)) != Some(end) {
                self.ends.insert((*topic as u8, *partition), (end.start, end.next, end.bytes))?;
            }
        }
        Ok(())
    }
}
