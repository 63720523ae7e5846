//! From an incident to the measure that fits it, before any policy or guardrail.
//!
//! | what the incident holds | measure | to whom |
//! |---|---|---|
//! | a forbidden act (engine socket, host mount, ptrace, memfd, module, BPF, shell on a socket) | quarantine | the container |
//! | a sweep: ten or more new ports or peers, or a window's fan-out beyond normal | quarantine | the container |
//! | a DNS tunnel: ten or more new names, or a window's names beyond normal; the resolver itself is needed by all | quarantine | the container |
//! | too much sent to, or fetched from, a known peer | deny that peer's port | the container: its siblings need the peer |
//! | a new peer outside | deny that address | the workload: no replica ever needed it |
//! | a new peer that is an observed container | deny that peer's port | the container |
//! | a new caller | deny that address | the container |
//! | anything else (new program, new port of its own, strange calls) | none: no packet would be less | |

use bulkhead_domain::alert::Contribution;
use bulkhead_domain::behaviour::{Act, BehaviourKind};
use bulkhead_domain::feature;
use bulkhead_domain::measure::{Action, Proposal, Target};
use bulkhead_domain::net::{Cidr, Peer, PeerMatch};
use bulkhead_domain::score::View;
use bulkhead_domain::{ContainerKey, WorkloadName};
use bulkhead_models::Inventory;
use bulkhead_models::fresh::{Fresh, SWEEP};

/// What the mapping looks at.
pub(crate) struct Facts<'a> {
    pub workload: &'a WorkloadName,
    pub container: &'a ContainerKey,
    pub forbidden: bool,
    pub fresh: &'a Fresh,
    pub contributions: &'a [Contribution],
    pub inventory: &'a Inventory,
}

/// The measure that fits, if any.
pub(crate) fn proposal(facts: &Facts<'_>) -> Option<Proposal> {
    let container = || Target::Container(facts.container.clone());
    let many = |kind| facts.fresh.kind(kind).is_some_and(|few| few.count() >= SWEEP);
    if facts.forbidden || many(BehaviourKind::Connect) || many(BehaviourKind::Dns) {
        return Some(Proposal { target: container(), action: Action::Quarantine });
    }
    let top = facts.contributions.first()?;
    if top.view == View::Volume && quarantines(&top.subject) {
        return Some(Proposal { target: container(), action: Action::Quarantine });
    }
    let peer = facts
        .contributions
        .iter()
        .filter(|c| c.view != View::Sequence)
        .find_map(|c| c.peer.map(|p| (c, p)))?;
    let (contribution, peer) = peer;
    if peer.address.is_loopback() || peer.address.is_unspecified() {
        return None;
    }
    let known = contribution.view == View::Volume;
    let inside = facts.inventory.workload(peer.address).is_some();
    Some(match &contribution.act {
        Some(Act::Inbound { .. }) => {
            Proposal { target: container(), action: Action::Deny(whole(peer)) }
        }
        _ if known || inside => {
            Proposal { target: container(), action: Action::Deny(port_of(peer)) }
        }
        _ => Proposal {
            target: Target::Workload(facts.workload.clone()),
            action: Action::Deny(whole(peer)),
        },
    })
}

/// Whether a feature's name is one of a sweep or a tunnel.
fn quarantines(subject: &str) -> bool {
    [
        feature::CONNECT_PORTS,
        feature::CONNECT_ADDRESSES,
        feature::DNS_NAMES,
        feature::DNS_NAME_BYTES,
        feature::DNS_ENTROPY,
    ]
    .iter()
    .filter_map(|id| feature::feature(*id))
    .any(|f| f.name.replace('_', " ") == subject)
}

fn whole(peer: Peer) -> PeerMatch {
    PeerMatch { prefix: Cidr::host(peer.address), port: None, protocol: None }
}

fn port_of(peer: Peer) -> PeerMatch {
    let port = (peer.port != 0).then_some(peer.port);
    PeerMatch { prefix: Cidr::host(peer.address), port, protocol: Some(peer.protocol) }
}
