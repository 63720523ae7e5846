//! `bulkhead disarm`: ends measures in the kernel, whoever is alive.
//!
//! It leaves a mark beside the leases, so that an agent that comes back does not put them in force again; a running
//! service is told too, so that its ledger and the audit log know.

use bulkhead_api::client::Client;
use bulkhead_api::protocol::Request;
use bulkhead_domain::measure::MeasureId;
use bulkhead_loader::guard::Guard;
use serde::Serialize;

use super::status;
use crate::args::{Disarm, Global};
use crate::config::Config;
use crate::outcome::{Failure, Outcome};
use crate::output;

/// What was ended.
#[derive(Debug, Serialize)]
struct Disarmed {
    ended: Vec<MeasureId>,
    /// Whether the running service was told; `false` with every daemon dead.
    service_told: bool,
}

/// Ends one measure or all.
pub fn run(global: &Global, args: &Disarm) -> Result<Outcome, Failure> {
    let config = Config::load(global, std::env::vars())?;
    let mut guard = Guard::open(&config.paths.pins).map_err(status::pins)?;
    // The self-test's lease concerns no container, and without it the test would report that the guards are dead.
    let keep: Vec<u64> = crate::names::canary_measures(&guard);
    let ended = guard.disarm(args.id.map(|id| id.0), &keep).map_err(status::pins)?;
    if let (Some(id), true) = (args.id, ended.is_empty()) {
        return Err(anyhow::anyhow!(
            "measure {id} is not in force on this node; `bulkhead status` shows what is"
        )
        .into());
    }
    let ended: Vec<MeasureId> = ended.into_iter().map(MeasureId).collect();
    crate::names::disarmed(&config, &ended)?;
    let disarmed = Disarmed { service_told: tell(&config, &ended), ended };
    output::show(global.output, &disarmed, || text(&disarmed));
    Ok(Outcome::Done)
}

/// Tells the service about each; it may not know all of them, and may not be there.
fn tell(config: &Config, ended: &[MeasureId]) -> bool {
    let Ok(mut client) = Client::connect(&config.paths.api_socket()) else { return false };
    ended.iter().all(|id| {
        let why = "disarmed on the node".to_owned();
        client.call(Request::Release { id: *id, why }).is_ok()
    })
}

fn text(disarmed: &Disarmed) -> String {
    let mut text: String = disarmed.ended.iter().map(|id| format!("ended {id}\n")).collect();
    if disarmed.ended.is_empty() {
        text.push_str("No measure was in force.\n");
    } else if !disarmed.service_told {
        text.push_str(
            "The service was not told. This node does not apply them again; `bulkhead deny remove ID` or `bulkhead quarantine release ID` ends them in its list too.\n",
        );
    }
    text.push_str(
        "New measures may follow from new evidence: see `bulkhead mode` and `bulkhead alerts`.\n",
    );
    text
}
