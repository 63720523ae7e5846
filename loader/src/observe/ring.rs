//! The ring: bytes that the programs wrote, taken out as plain values.

use std::os::fd::{AsRawFd, RawFd};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use bulkhead_abi::{
    dns::DnsRecord,
    network::NetworkRecord,
    process::{CgroupRecord, ExecRecord, ProcessRecord},
    ring::{
        KIND_ATTACH, KIND_CALL, KIND_CGROUP_GONE, KIND_CGROUP_MADE, KIND_DNS, KIND_EXEC,
        KIND_NETWORK,
    },
    syscall::CallRecord,
};

use super::{
    Event,
    dns::DnsEvent,
    network::NetworkEvent,
    process::{CgroupEvent, ExecEvent, ProcessEvent},
    syscall::CallEvent,
    take_map,
};
use crate::error::ObserveError;

/// The ring and how many of its records made no sense.
pub(super) struct Ring {
    ring: RingBuf<MapData>,
    malformed: u64,
}

impl Ring {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, ObserveError> {
        Ok(Self { ring: take_map!(ebpf, "RING"), malformed: 0 })
    }

    pub(super) fn next(&mut self) -> Option<Event> {
        loop {
            let item = self.ring.next()?;
            if let Some(event) = parse(&item) {
                return Some(event);
            }
            drop(item);
            self.malformed += 1;
        }
    }

    pub(super) fn malformed(&self) -> u64 {
        self.malformed
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// One record; `None` when its kind is unknown or it is shorter than its kind.
fn parse(bytes: &[u8]) -> Option<Event> {
    let kind = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    Some(match kind {
        KIND_EXEC => Event::Exec(ExecEvent::from_record(&record::<ExecRecord>(bytes)?)?),
        KIND_ATTACH => Event::Attach(ProcessEvent::from_record(&record::<ProcessRecord>(bytes)?)),
        KIND_CALL => Event::Call(CallEvent::from_record(&record::<CallRecord>(bytes)?)?),
        KIND_NETWORK => {
            Event::Network(NetworkEvent::from_record(&record::<NetworkRecord>(bytes)?)?)
        }
        KIND_DNS => {
            let rest = bytes.get(size_of::<DnsRecord>()..)?;
            Event::Dns(DnsEvent::from_record(&record::<DnsRecord>(bytes)?, rest)?)
        }
        KIND_CGROUP_MADE => {
            Event::CgroupMade(CgroupEvent::from_record(&record::<CgroupRecord>(bytes)?))
        }
        KIND_CGROUP_GONE => {
            Event::CgroupGone(CgroupEvent::from_record(&record::<CgroupRecord>(bytes)?))
        }
        _ => return None,
    })
}

/// A record of the ABI.
///
/// Sealed to this file: every type that implements it is `repr(C)` of integers, so that any bytes are a value.
trait Record: Copy {}
impl Record for ExecRecord {}
impl Record for ProcessRecord {}
impl Record for CallRecord {}
impl Record for NetworkRecord {}
impl Record for DnsRecord {}
impl Record for CgroupRecord {}

fn record<T: Record>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough, read unaligned, and any bytes are a value of a `Record`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_short_or_of_no_known_kind_is_refused() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&KIND_EXEC.to_ne_bytes()), None);
        assert_eq!(parse(&[0xff; 4096]), None);
    }
}
