//! What one workload's evidence needs to know of the others: who lives where, and who is in trouble.
//!
//! Derived from the workloads' own states, so it needs no snapshot of its own.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_domain::net::Peer;
use bulkhead_domain::{Mode, Timestamp};
use bulkhead_models::Inventory;

use crate::workload::WorkloadState;

/// What all workloads have in common.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// Addresses and names of every observed container.
    pub inventory: Inventory,
    /// Workloads whose callers will see errors until then: under a measure, or restarting.
    pub troubled: BTreeMap<String, Timestamp>,
    /// Interpreters with a socket on their standard streams that a person accepted somewhere.
    pub shells_accepted: BTreeSet<String>,
    /// Resolvers that some workload is known to ask: the network's, whoever asks it first.
    pub resolvers: BTreeSet<Peer>,
    /// Workloads that share the budget.
    pub workloads: usize,
}

impl Fleet {
    /// Gathers it anew.
    pub(crate) fn of<'a>(states: impl Iterator<Item = &'a WorkloadState> + Clone) -> Self {
        let mut fleet = Self {
            workloads: states.clone().filter(|s| s.is_workload()).count(),
            ..Self::default()
        };
        // What holds now overwrites what held before, and containers that run those that ended: addresses are reused.
        for (running, now) in [(false, false), (true, false), (false, true), (true, true)] {
            for state in states.clone() {
                let owner = state.name.owner.rsplit('/').next().unwrap_or_default();
                for container in state.containers.values().filter(|c| c.running == running) {
                    let Some(facts) = container.facts.as_ref().filter(|f| !f.host_network) else {
                        continue;
                    };
                    let addresses = if now { &facts.addresses } else { &container.addresses };
                    let names = [facts.name.trim_start_matches('/'), owner];
                    fleet.inventory.insert(&state.name.to_string(), &names, addresses);
                }
            }
        }
        for state in states {
            if state.troubled_until > Timestamp::default() {
                fleet.troubled.insert(state.name.to_string(), state.troubled_until);
            }
            fleet.shells_accepted.extend(state.shells_accepted());
            // A baseline that still grows is not gathered at each record: only one that is settled counts.
            if state.mode != Mode::Learn {
                fleet.resolvers.extend(state.resolvers());
            }
        }
        fleet
    }

    /// Whether callers of this workload will see errors at that time.
    pub(crate) fn in_trouble(&self, workload: &str, at: Timestamp) -> bool {
        self.troubled.get(workload).is_some_and(|until| *until > at)
    }
}
