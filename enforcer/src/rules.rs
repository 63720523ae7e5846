//! Measures and lists in the words of the guards.

use bulkhead_domain::measure::{Action, Measure, Target};
use bulkhead_domain::net::PeerMatch;
use bulkhead_domain::verdict::Rules;
use bulkhead_loader::guard::{Lists, PeerPattern, Rule, What, Who};

/// A peer match as the kernel matches it.
pub fn pattern(peers: &PeerMatch) -> PeerPattern {
    PeerPattern::new(
        peers.prefix.address(),
        peers.prefix.length(),
        peers.port,
        peers.protocol.map(|p| p.0),
    )
}

/// The configured lists.
pub fn lists(rules: &Rules) -> Lists {
    let all = |list: &[PeerMatch]| list.iter().map(pattern).collect();
    Lists {
        critical: all(&rules.node_critical),
        protected: all(&rules.protected),
        quarantine_allow: all(&rules.quarantine_allow),
    }
}

/// Whom a measure concerns: a container by its engine's id, so that a restart changes nothing.
pub fn who(target: &Target) -> Who {
    match target {
        Target::Container(key) => Who::Container(key.lease_scope()),
        Target::Workload(name) => Who::Workload(name.id().0),
    }
}

/// A measure's rule, which ends at that boot time (ns).
pub fn rule(measure: &Measure, expires_ns: u64) -> Rule {
    let what = match &measure.action {
        Action::Quarantine => What::Quarantine,
        Action::Deny(peers) => What::Deny { peers: pattern(peers), manual: measure.is_manual() },
    };
    Rule { who: who(&measure.target), what, expires_ns, measure: measure.id.0 }
}
