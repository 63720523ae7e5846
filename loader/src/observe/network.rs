//! Network observation from user space: attach the programs, read counters and flows, take acts from ring records.
//!
//! Counters in the kernel only grow; whoever reads them keeps the last reading and takes differences. A slot's index is
//! used again after its container ended: [`Network::forget`] must run in between, and readings start anew.

mod event;
mod flow;

use std::{collections::BTreeMap, fs::File, os::fd::AsFd};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, ProgramArray},
    programs::{CgroupAttachMode, CgroupSkb, Program},
};
use bulkhead_abi::network::{
    FLOWS_PER_SLOT_MAX, Flow as RawFlow, FlowKey as RawKey, NetworkCounters,
};

use crate::error::ObserveError;

pub(in crate::observe) use self::flow::address;
pub use self::{
    event::{Actor, Known, NetworkAct, NetworkEvent},
    flow::{Direction, Flow, FlowKey},
};

/// A plain value of a map.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain<T>(T);

// SAFETY: `repr(C)`, made of integers and arrays of them, explicit padding: any bytes are a valid value.
unsafe impl aya::Pod for Plain<RawFlow> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<RawKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<NetworkCounters> {}

/// The programs that are attached.
const PROGRAMS: [&str; 11] = [
    "observe_create",
    "observe_bind4",
    "observe_bind6",
    "observe_post_bind4",
    "observe_post_bind6",
    "observe_connect4",
    "observe_connect6",
    "observe_sendmsg4",
    "observe_sendmsg6",
    "observe_egress",
    "observe_ingress",
];

/// The programs that those for packets go on with, and the map that each is found in.
const CONTINUATIONS: [(&str, &str); 2] =
    [("DNS_EGRESS", "observe_dns_egress"), ("DNS_INGRESS", "observe_dns_ingress")];

/// How long a crowded container's flow may be idle (ns): three windows of the default step.
pub const CROWDED_IDLE_NS: u64 = 15_000_000_000;

/// The maps of the network programs, while they are attached.
pub struct Network {
    counters: Array<MapData, Plain<NetworkCounters>>,
    flows: HashMap<MapData, Plain<RawKey>, Plain<RawFlow>>,
    removed: Array<MapData, u64>,
    // The kernel empties such a map once nobody in user space holds it.
    _continuations: Vec<ProgramArray<MapData>>,
}

impl Network {
    /// Loads and attaches the programs at a cgroup, and takes their maps.
    ///
    /// Programs of one hook run in the order of attachment; those attached before these tell them whether they refused a
    /// call. So guards come first.
    pub fn attach(ebpf: &mut Ebpf, cgroup: &File) -> Result<Self, ObserveError> {
        let mut continuations = Vec::new();
        for (map, name) in CONTINUATIONS {
            continuations.push(go_on(ebpf, map, name)?);
        }
        for name in PROGRAMS {
            let program =
                ebpf.program_mut(name).ok_or(ObserveError::MissingProgram { program: name })?;
            attach(program, cgroup)
                .map_err(|source| ObserveError::Attach { program: name, source })?;
        }
        let mut take =
            |name: &'static str| ebpf.take_map(name).ok_or(ObserveError::MissingMap { map: name });
        let map = |name| move |source| ObserveError::Map { map: name, source };
        Ok(Self {
            counters: take("NETWORK")?.try_into().map_err(map("NETWORK"))?,
            flows: take("FLOWS")?.try_into().map_err(map("FLOWS"))?,
            removed: take("FLOWS_REMOVED")?.try_into().map_err(map("FLOWS_REMOVED"))?,
            _continuations: continuations,
        })
    }

    /// What the container in that slot did since the observer started, or the slot was first used.
    pub fn counters(&self, slot: u32) -> Result<NetworkCounters, ObserveError> {
        self.counters
            .get(&slot, 0)
            .map(|plain| plain.0)
            .map_err(|source| ObserveError::Map { map: "NETWORK", source })
    }

    /// Every flow of every container. One system call for each two flows: read it once a window, not per container.
    pub fn flows(&self) -> Result<Vec<(FlowKey, Flow)>, ObserveError> {
        let map = |source| ObserveError::Map { map: "FLOWS", source };
        let mut flows = Vec::new();
        for key in self.flows.keys() {
            let key = key.map_err(map)?;
            // Removed since: its container ended.
            if let Ok(flow) = self.flows.get(&key, 0) {
                flows.push((FlowKey::from_raw(&key.0), Flow::from_raw(&flow.0)));
            }
        }
        Ok(flows)
    }

    /// The flows of one container.
    pub fn flows_of(&self, slot: u32) -> Result<Vec<(FlowKey, Flow)>, ObserveError> {
        Ok(self.flows()?.into_iter().filter(|(key, _)| key.slot == slot).collect())
    }

    /// Removes those of `flows`, as just read, that nobody used for `idle_ns`; returns how many.
    ///
    /// A container that fills more than half of its share loses its quiet flows after [`CROWDED_IDLE_NS`] already, so
    /// that a scan does not keep what follows it from having flows. A packet at the very moment of removal counts in the
    /// container's totals alone.
    pub fn expire(
        &mut self,
        flows: &[(FlowKey, Flow)],
        now_ns: u64,
        idle_ns: u64,
    ) -> Result<usize, ObserveError> {
        let mut share = BTreeMap::<u32, u64>::new();
        for (key, _) in flows {
            *share.entry(key.slot).or_default() += 1;
        }
        let mut removed = 0;
        for (key, flow) in flows {
            let crowded = share.get(&key.slot).is_some_and(|n| *n > FLOWS_PER_SLOT_MAX / 2);
            let idle_ns = if crowded { idle_ns.min(CROWDED_IDLE_NS) } else { idle_ns };
            if flow.last_ns < now_ns.saturating_sub(idle_ns) {
                removed += usize::from(self.remove(key)?.is_some());
            }
        }
        Ok(removed)
    }

    /// Removes everything about a slot whose container ended, so that the next one starts without its flows, and returns
    /// what they carried. The slot's counters stay: they only grow.
    pub fn forget(&mut self, slot: u32) -> Result<Vec<(FlowKey, Flow)>, ObserveError> {
        let mut removed = Vec::new();
        for (key, _) in self.flows_of(slot)? {
            removed.extend(self.remove(&key)?.map(|flow| (key, flow)));
        }
        Ok(removed)
    }

    /// Removes one flow; what it carried last, or nothing when it was gone already.
    fn remove(&mut self, key: &FlowKey) -> Result<Option<Flow>, ObserveError> {
        let raw = Plain(key.to_raw());
        let Ok(last) = self.flows.get(&raw, 0) else { return Ok(None) };
        if self.flows.remove(&raw).is_err() {
            return Ok(None);
        }
        self.count_removed(key.slot)?;
        Ok(Some(Flow::from_raw(&last.0)))
    }

    /// Makes room for another flow of the slot; this process is the only writer of the number.
    fn count_removed(&mut self, slot: u32) -> Result<(), ObserveError> {
        let map = |source| ObserveError::Map { map: "FLOWS_REMOVED", source };
        let before = self.removed.get(&slot, 0).map_err(map)?;
        self.removed.set(slot, before + 1, 0).map_err(map)
    }
}

/// Loads a program that others go on with, and puts it where they look.
fn go_on(
    ebpf: &mut Ebpf,
    map: &'static str,
    name: &'static str,
) -> Result<ProgramArray<MapData>, ObserveError> {
    let wrong = |source| ObserveError::Map { map, source };
    let mut array: ProgramArray<MapData> =
        ebpf.take_map(map).ok_or(ObserveError::MissingMap { map })?.try_into().map_err(wrong)?;
    let program = ebpf.program_mut(name).ok_or(ObserveError::MissingProgram { program: name })?;
    let failed = |source| ObserveError::Attach { program: name, source };
    let program: &mut CgroupSkb = program.try_into().map_err(failed)?;
    program.load().map_err(failed)?;
    array.set(0, program.fd().map_err(failed)?, 0).map_err(wrong)?;
    Ok(array)
}

fn attach(program: &mut Program, cgroup: &File) -> Result<(), aya::programs::ProgramError> {
    let cgroup = cgroup.as_fd();
    // `Single` is flags 0: links are always multi, and the kernel refuses the flag.
    match program {
        Program::CgroupSkb(p) => {
            let direction = p
                .expected_attach_type()
                .expect("the section name of every packet program holds its direction");
            p.load()?;
            p.attach(cgroup, direction, CgroupAttachMode::Single).map(drop)
        }
        Program::CgroupSock(p) => {
            p.load()?;
            p.attach(cgroup, CgroupAttachMode::Single).map(drop)
        }
        Program::CgroupSockAddr(p) => {
            p.load()?;
            p.attach(cgroup, CgroupAttachMode::Single).map(drop)
        }
        _ => unreachable!("the table above names only cgroup programs"),
    }
}
