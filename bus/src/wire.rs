//! The wire format: twins of the domain's records with field numbers of their own, one file per record.
//!
//! The domain follows the code, the wire follows the installed fleet. A reader ignores fields that it does not know and
//! refuses an unknown major version; field numbers are never reused. `bus/tests/golden` keeps bytes of every version.

pub(crate) mod alert;
pub(crate) mod audit;
pub(crate) mod baseline;
pub(crate) mod behaviour;
pub(crate) mod container;
pub(crate) mod deadletter;
pub(crate) mod error;
pub(crate) mod header;
pub(crate) mod health;
pub(crate) mod intent;
pub(crate) mod inventory;
pub(crate) mod measure;
pub(crate) mod net;
pub(crate) mod observation;
pub(crate) mod process;
pub(crate) mod window;

pub(crate) use error::Unreadable;

use std::fmt;
use std::time::Duration;

use bulkhead_domain::{Mode, WorkloadName};

/// Reads a message of the wire.
pub(crate) fn decode<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, Unreadable> {
    M::decode(bytes).map_err(|e| Unreadable::Malformed(e.to_string()))
}

/// A field without which a record says nothing.
pub(crate) fn need<T>(field: &'static str, value: Option<T>) -> Result<T, Unreadable> {
    value.ok_or(Unreadable::Missing(field))
}

/// A field whose value this version knows.
pub(crate) fn known<T>(
    field: &'static str,
    found: impl fmt::Display,
    value: Option<T>,
) -> Result<T, Unreadable> {
    value.ok_or_else(move || Unreadable::Value {
        field,
        found: bulkhead_domain::text::printable(&found.to_string(), 80),
    })
}

/// A number that fits its narrower domain type.
pub(crate) fn narrow<T, N>(field: &'static str, number: N) -> Result<T, Unreadable>
where
    N: Copy + fmt::Display,
    T: TryFrom<N>,
{
    known(field, number, T::try_from(number).ok())
}

pub(crate) fn workload(text: &str) -> Result<WorkloadName, Unreadable> {
    known("workload", text, text.parse().ok())
}

pub(crate) fn mode_number(mode: Mode) -> u32 {
    match mode {
        Mode::Learn => 1,
        Mode::Detect => 2,
        Mode::Enforce => 3,
    }
}

pub(crate) fn mode(number: u32) -> Result<Mode, Unreadable> {
    let mode =
        [Mode::Learn, Mode::Detect, Mode::Enforce].into_iter().find(|m| mode_number(*m) == number);
    known("mode", number, mode)
}

/// Durations travel as whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A number without which a score would be senseless.
pub(crate) fn finite(field: &'static str, number: f64) -> Result<f64, Unreadable> {
    known(field, number, number.is_finite().then_some(number))
}
