//! What the node's own files say about measures, with every daemon dead: the agent's ledger and its audit log.

use std::collections::HashMap;

use anyhow::Context as _;
use bulkhead_abi::guard::CANARY;
use bulkhead_collector::naming::facts;
use bulkhead_domain::MeasureId;
use bulkhead_domain::measure::Measure;
use bulkhead_enforcer::audit::Audit;
use bulkhead_enforcer::core::Now;
use bulkhead_enforcer::ledger::Ledger;
use bulkhead_loader::guard::{self, Guard, Who};

use crate::config::Config;
use crate::output;
use crate::run::lock;

/// Measures by id, as the agent's ledger remembers them; none where it cannot be read, because names are a courtesy.
pub fn from_ledger(config: &Config) -> HashMap<u64, Measure> {
    match ledger(config).read() {
        Ok(memory) => memory.measures.into_iter().map(|(m, _)| (m.id.0, m)).collect(),
        Err(error) => {
            tracing::debug!(%error, "no names from the ledger");
            HashMap::new()
        }
    }
}

/// Measures of the self-test's pseudo-container: nobody's, and never ended by a person.
pub fn canary_measures(guard: &Guard) -> Vec<u64> {
    let (rules, _) = guard.rules();
    rules.iter().filter(|r| r.who == Who::Container(CANARY)).map(|r| r.measure).collect()
}

/// Writes down that a person ended these measures on the node: in the audit log, and, with no agent to do it, in the
/// ledger.
pub fn disarmed(config: &Config, ended: &[MeasureId]) -> anyhow::Result<()> {
    let state = config.paths.agent_state();
    if !state.is_dir() {
        // Pins without a state directory: somebody removed it, and nothing would read what is written there.
        return Ok(());
    }
    let now = Now { wall: output::now(), boot_ns: guard::boot_ns() };
    if lock::by_file("state directory", &config.paths.state).is_ok() {
        ledger(config).mark_ended(ended, now)?;
    }
    let mut audit = Audit::open(&state, &config.node).context("cannot write the audit log")?;
    let who = bulkhead_api::credentials::own_name();
    for id in ended {
        audit.write(now.wall, (&who, "disarm", &id.to_string()), "", "done");
    }
    Ok(())
}

fn ledger(config: &Config) -> Ledger {
    Ledger::new(&config.paths.agent_state(), &facts::boot_id().unwrap_or_default())
}
