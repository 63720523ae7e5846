//! The map that says which cgroup is which container, and what tells programs that it changed.

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
};
use bulkhead_abi::slot::Slot;

use super::take_map;
use crate::error::ObserveError;

/// A plain value of a map.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain<T>(T);

// SAFETY: `repr(C)`, integers only, explicit padding: any bytes are a valid value.
unsafe impl aya::Pod for Plain<Slot> {}

/// `SLOTS` and the cell that makes tasks look again.
pub(super) struct Slots {
    containers: HashMap<MapData, u64, Plain<Slot>>,
    control: Array<MapData, [u32; 2]>,
    started: HashMap<MapData, u64, u32>,
}

impl Slots {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, ObserveError> {
        let containers = take_map!(ebpf, "SLOTS");
        let control = take_map!(ebpf, ".data.control");
        let started = take_map!(ebpf, "STARTED");
        let mut this = Self { containers, control, started };
        this.control.set(0, [1, 0], 0).map_err(control_error)?;
        Ok(this)
    }

    pub(super) fn claim(&mut self, cgroup: u64, slot: Slot) -> Result<(), ObserveError> {
        self.containers.insert(cgroup, Plain(slot), 0).map_err(slots_error)?;
        self.look_again()
    }

    pub(super) fn release(&mut self, cgroup: u64) -> Result<Option<Slot>, ObserveError> {
        let slot = self.of(cgroup);
        if slot.is_some() {
            self.containers.remove(&cgroup).map_err(slots_error)?;
            self.look_again()?;
        }
        // It may not be there: the container never had a process.
        let _ = self.started.remove(&cgroup);
        Ok(slot)
    }

    pub(super) fn of(&self, cgroup: u64) -> Option<Slot> {
        self.containers.get(&cgroup, 0).ok().map(|plain| plain.0)
    }

    pub(super) fn mark_started(&mut self, cgroup: u64) -> Result<(), ObserveError> {
        self.started
            .insert(cgroup, 1, 0)
            .map_err(|source| ObserveError::Map { map: "STARTED", source })
    }

    fn look_again(&mut self) -> Result<(), ObserveError> {
        let [generation, half] = self.control.get(&0, 0).map_err(control_error)?;
        self.control.set(0, [generation.wrapping_add(1), half], 0).map_err(control_error)
    }

    pub(super) fn switch_half(&mut self) -> Result<(), ObserveError> {
        let [generation, half] = self.control.get(&0, 0).map_err(control_error)?;
        self.control.set(0, [generation, half ^ 1], 0).map_err(control_error)
    }

    pub(super) fn filled_half(&self) -> Result<usize, ObserveError> {
        Ok((self.control.get(&0, 0).map_err(control_error)?[1] ^ 1) as usize & 1)
    }
}

fn slots_error(source: aya::maps::MapError) -> ObserveError {
    ObserveError::Map { map: "SLOTS", source }
}

fn control_error(source: aya::maps::MapError) -> ObserveError {
    ObserveError::Map { map: ".data.control", source }
}
