//! Typed access to pinned maps: records of `abi` in and out, errors that name the map.

use std::path::Path;

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use bulkhead_abi::guard::{
    GuardCounters, Hits, Interface, Lease, LeaseKey, Scope, ScopeKey, Settings, Shape,
};
use bulkhead_abi::slot::Slot;

use super::error::GuardError;

/// A record that is plain bytes without padding.
///
/// # Safety
///
/// Every bit pattern is a value, and no byte of it is padding.
pub(super) unsafe trait Record: Copy + 'static {}

macro_rules! records {
    ($($record:ty)*) => {
        // SAFETY: integers, or `repr(C)` of integers whose size `abi` asserts, with explicit padding.
        $(unsafe impl Record for $record {})*
    };
}
records!(u32 u64 Slot LeaseKey Lease Shape ScopeKey Scope Settings Hits GuardCounters Interface);

/// A record in aya's terms.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Raw<T>(T);

// SAFETY: `Record` promises what `Pod` wants.
unsafe impl<T: Record> Pod for Raw<T> {}

/// A pinned hash.
pub(super) struct Table<K: Record, V: Record> {
    name: &'static str,
    map: HashMap<MapData, Raw<K>, Raw<V>>,
}

impl<K: Record, V: Record> Table<K, V> {
    /// Opens the pin of that name.
    pub(super) fn open(pins: &Path, name: &'static str) -> Result<Self, GuardError> {
        let map = HashMap::try_from(Map::HashMap(data(pins, name)?))
            .map_err(|source| GuardError::Map { name, source })?;
        Ok(Self { name, map })
    }

    /// The value of a key, when it is there.
    pub(super) fn find(&self, key: K) -> Result<Option<V>, GuardError> {
        match self.map.get(&Raw(key), 0) {
            Ok(value) => Ok(Some(value.0)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(self.error(source)),
        }
    }

    /// Writes a value, whole.
    pub(super) fn put(&mut self, key: K, value: V) -> Result<(), GuardError> {
        self.map.insert(Raw(key), Raw(value), 0).map_err(|source| self.error(source))
    }

    /// Writes a value where there is none; whether there was none.
    pub(super) fn put_new(&mut self, key: K, value: V) -> Result<bool, GuardError> {
        /// `BPF_NOEXIST`.
        const NO_EXIST: u64 = 1;
        match self.map.insert(Raw(key), Raw(value), NO_EXIST) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(e))
                if e.io_error.kind() == std::io::ErrorKind::AlreadyExists =>
            {
                Ok(false)
            }
            Err(source) => Err(self.error(source)),
        }
    }

    /// Removes a key; one that is not there is no error.
    pub(super) fn remove(&mut self, key: K) -> Result<(), GuardError> {
        match self.map.remove(&Raw(key)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(e)) if e.io_error.kind() == std::io::ErrorKind::NotFound => {
                Ok(())
            }
            Err(source) => Err(self.error(source)),
        }
    }

    /// All entries. What comes or goes meanwhile may be missing or seen twice.
    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, GuardError> {
        self.map
            .iter()
            .map(|entry| entry.map(|(k, v)| (k.0, v.0)).map_err(|source| self.error(source)))
            .collect()
    }

    fn error(&self, source: MapError) -> GuardError {
        GuardError::Map { name: self.name, source }
    }
}

/// A pinned array.
pub(super) struct Cells<V: Record> {
    name: &'static str,
    map: Array<MapData, Raw<V>>,
}

impl<V: Record> Cells<V> {
    /// Opens the pin of that name.
    pub(super) fn open(pins: &Path, name: &'static str) -> Result<Self, GuardError> {
        let map = Array::try_from(Map::Array(data(pins, name)?))
            .map_err(|source| GuardError::Map { name, source })?;
        Ok(Self { name, map })
    }

    /// One element.
    pub(super) fn at(&self, index: u32) -> Result<V, GuardError> {
        let value = self.map.get(&index, 0);
        value.map(|v| v.0).map_err(|source| GuardError::Map { name: self.name, source })
    }

    /// Writes one element.
    pub(super) fn put(&mut self, index: u32, value: V) -> Result<(), GuardError> {
        let name = self.name;
        self.map.set(index, Raw(value), 0).map_err(|source| GuardError::Map { name, source })
    }
}

fn data(pins: &Path, name: &'static str) -> Result<MapData, GuardError> {
    MapData::from_pin(pins.join(name)).map_err(|source| match source {
        MapError::SyscallError(e) if e.io_error.kind() == std::io::ErrorKind::NotFound => {
            GuardError::NotInstalled { path: pins.into() }
        }
        source => GuardError::Map { name, source },
    })
}
