//! The loader's observer as the loop's [`Kernel`]: records become reports, maps become counters.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use bulkhead_abi::slot::{FLAG_OBSERVED, FLAG_UNRESOLVED, SLOT_NONE, Slot};
use bulkhead_domain::net::{Peer, Protocol, normalise};
use bulkhead_domain::process::Origin;
use bulkhead_domain::text::printable_bytes;
use bulkhead_domain::window::Direction;
use bulkhead_loader::observe::network::{self, NetworkAct, NetworkEvent};
use bulkhead_loader::observe::process::{self as loaded, ExecEvent};
use bulkhead_loader::observe::syscall::CallEvent;
use bulkhead_loader::observe::{Event, Observer};

use crate::kernel::{Flows, Kernel, KernelError};
use crate::seen::{Actor, Seen, What};
use crate::syscalls::{Abi, native};
use crate::windows::{Counters, FlowId, Sequences};

/// Longest path kept of an execution, in characters.
const PATH_CHARS_MAX: usize = 512;

/// Flows that were idle this long are removed, so that new ones find room, ns.
const FLOW_IDLE_NS: u64 = 600 * 1_000_000_000;

/// The running kernel programs.
#[derive(Debug)]
pub struct Observed {
    observer: Observer,
    /// Runs of programs that the kernel skipped, as of the last look at the flows.
    skipped: u64,
}

impl Observed {
    /// Takes over a loaded observer.
    pub fn new(observer: Observer) -> Self {
        Self { observer, skipped: 0 }
    }
}

impl AsRawFd for Observed {
    fn as_raw_fd(&self) -> RawFd {
        self.observer.as_raw_fd()
    }
}

impl Kernel for Observed {
    fn next(&mut self) -> Option<Seen> {
        loop {
            let event = self.observer.next()?;
            if let Some(seen) = seen(event) {
                return Some(seen);
            }
        }
    }

    fn kept(&self, cgroup: u64) -> Option<u32> {
        self.observer.slot(cgroup).map(|slot| slot.index).filter(|index| *index != SLOT_NONE)
    }

    fn claim(
        &mut self,
        cgroup: u64,
        index: u32,
        container: u64,
        workload: u64,
    ) -> Result<(), KernelError> {
        let before = self.observer.slot(cgroup).unwrap_or_default();
        let mut slot = Slot { index, container, workload, ..before };
        slot.flags |= FLAG_OBSERVED;
        if container != 0 {
            // With its ids in the slot every lease that concerns it matches: there is nothing to hold it back for.
            slot.flags &= !FLAG_UNRESOLVED;
            slot.unresolved_until_ns = 0;
        }
        self.observer.claim_slot(cgroup, slot).map_err(failed("cannot write a container's slot"))
    }

    fn release(&mut self, cgroup: u64) -> Result<(), KernelError> {
        self.observer.release_slot(cgroup).map_err(failed("cannot take a container's slot back"))
    }

    fn mark_started(&mut self, cgroup: u64) -> Result<(), KernelError> {
        self.observer.mark_started(cgroup).map_err(failed("cannot mark a running container"))
    }

    fn flows(&mut self) -> Result<Flows, KernelError> {
        self.skipped = self.observer.skipped_runs().into_iter().map(|(_, runs)| runs).sum();
        let mut flows = Flows::new();
        let all = self.observer.network.flows().map_err(failed("cannot read flows"))?;
        for (key, flow) in &all {
            if !key.is_bound_port() {
                flows.entry(key.slot).or_default().insert(flow_id(key), *flow);
            }
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let now_ns = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
        self.observer
            .network
            .expire(&all, now_ns, FLOW_IDLE_NS)
            .map_err(failed("cannot remove idle flows"))?;
        Ok(flows)
    }

    fn counters(&mut self, index: u32, flows: &mut Flows) -> Result<Counters, KernelError> {
        let calls =
            self.observer.syscalls.counts(index).map_err(failed("cannot read counts of calls"))?;
        let processes = self
            .observer
            .processes
            .counters(index)
            .map_err(failed("cannot read counts of processes"))?;
        let network = self
            .observer
            .network
            .counters(index)
            .map_err(failed("cannot read network counters"))?;
        let mut syscalls = HashMap::new();
        let abis = [(Abi::Native(native()), &calls.native), (Abi::I386, &calls.foreign)];
        for (abi, counts) in abis {
            syscalls.extend(counts.iter().map(|(number, count)| ((abi, *number), *count)));
        }
        // Numbers that no counter has are one call of their own, so that they are not lost to the sum.
        if calls.beyond > 0 {
            syscalls.insert((Abi::Native(native()), u32::MAX), calls.beyond);
        }
        let losses = BTreeMap::from([
            ("quota".to_owned(), processes.lost_quota + network.acts_lost_quota),
            ("ring_full".to_owned(), processes.lost_ring + network.acts_lost_ring),
            ("bigrams".to_owned(), calls.bigrams_lost),
            ("recursion".to_owned(), self.skipped),
        ]);
        Ok(Counters {
            syscalls,
            bigrams: calls.bigrams.into_iter().collect(),
            execs: processes.execs,
            forks: processes.forks,
            exits: processes.exits,
            acts_repeated: processes.repeated + network.acts_repeated,
            flows: flows.remove(&index).unwrap_or_default(),
            network,
            losses,
        })
    }

    fn turn_sequences(&mut self) -> Result<(), KernelError> {
        self.observer.switch_ngrams().map_err(failed("cannot switch the n-gram bitmaps"))
    }

    fn sequences(&mut self, index: u32) -> Result<Sequences, KernelError> {
        let half = self.observer.filled_half().map_err(failed("cannot read the bitmaps' half"))?;
        let calls = &mut self.observer.syscalls;
        let ngrams = calls.take_ngrams(index, half).map_err(failed("cannot read n-grams"))?;
        let run = calls.take_run(index).map_err(failed("cannot read a run of calls"))?;
        Ok(Sequences { ngrams, runs: if run.is_empty() { Vec::new() } else { vec![run] } })
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(
    doing: &'static str,
) -> impl Fn(E) -> KernelError {
    move |source| KernelError { doing: doing.into(), source: Box::new(source) }
}

fn flow_id(key: &network::FlowKey) -> FlowId {
    let direction = match key.direction {
        network::Direction::Outbound => Direction::Outbound,
        network::Direction::Inbound => Direction::Inbound,
    };
    let protocol = Protocol(key.protocol);
    let peer = Peer { address: normalise(key.peer), port: key.peer_port, protocol };
    FlowId { peer, direction, local_port: key.local_port }
}

/// A record in the loop's terms; `None` for what the loop learns otherwise (cgroups, entries before their first exec).
fn seen(event: Event) -> Option<Seen> {
    match event {
        Event::Exec(event) => Some(exec(&event)),
        Event::Call(event) => Some(call(event)),
        Event::Network(event) => network_act(event),
        Event::Dns(event) => Some(Seen {
            cgroup: event.cgroup,
            slot: event.slot,
            time_ns: event.time_ns,
            what: What::Dns {
                answer: event.answer,
                message: event.message,
                actor: event.actor.map(actor),
            },
        }),
        Event::CgroupMade(event) => Some(Seen {
            cgroup: event.cgroup,
            slot: SLOT_NONE,
            time_ns: event.time_ns,
            what: What::CgroupMade { path: event.path },
        }),
        _ => None,
    }
}

fn exec(event: &ExecEvent) -> Seen {
    let origin = match event.origin {
        loaded::Origin::Started => Origin::Started,
        loaded::Origin::Spawned => Origin::Spawned,
        loaded::Origin::Entered => Origin::Entered,
        loaded::Origin::Unknown => Origin::Unknown,
    };
    let mut path = printable_bytes(&event.path, PATH_CHARS_MAX);
    if event.cut {
        path.push('…');
    }
    Seen {
        cgroup: event.cgroup,
        slot: event.slot,
        time_ns: event.time_ns,
        what: What::Exec {
            pid: event.pid,
            parent: event.parent,
            uid: event.uid,
            origin,
            path,
            socket_stdio: event.socket_stdio,
            memfd: event.memfd,
        },
    }
}

fn call(event: CallEvent) -> Seen {
    let abi = if event.foreign { Abi::I386 } else { Abi::Native(native()) };
    Seen {
        cgroup: event.cgroup,
        slot: event.slot,
        time_ns: event.time_ns,
        what: What::Call {
            pid: event.pid,
            abi,
            number: event.call,
            arguments: event.arguments,
            path: event.text,
        },
    }
}

fn network_act(event: NetworkEvent) -> Option<Seen> {
    let actor = event.actor.map(actor);
    let (protocol, count) = (event.protocol, event.count);
    let peer: Option<SocketAddr> = event.peer;
    let what = match event.act {
        NetworkAct::Connect | NetworkAct::Send | NetworkAct::Packet => {
            What::Connect { peer: peer?, protocol, refused: event.refused, count, actor }
        }
        NetworkAct::Bind { ephemeral } => {
            What::Listen { port: event.local_port, protocol, ephemeral, actor }
        }
        NetworkAct::Inbound => {
            What::Inbound { peer: peer?, port: event.local_port, protocol, count, actor }
        }
    };
    Some(Seen { cgroup: event.cgroup, slot: event.slot, time_ns: event.time_ns, what })
}

fn actor(actor: network::Actor) -> Actor {
    Actor { pid: actor.pid, uid: actor.uid, comm: actor.comm }
}
