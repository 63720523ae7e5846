//! The order in which a verdict is made, and the same decision for a person: what becomes of a packet, and why.
//!
//! The kernel decides (`ebpf/src/guard`); this is the naive reading of the same rules over measures, for `bulkhead why`
//! and for tests that hold the kernel to it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::container::Container;
use crate::measure::{Action, Measure, Target};
use crate::net::{Peer, PeerMatch};

/// The steps of a verdict, in order; the first that hits decides. Numbered with gaps for steps to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictStep {
    /// A peer that the node needs to live: it passes.
    NodeCritical = 10,
    /// The container is quarantined: only what `quarantine_allow` names passes.
    Quarantine = 20,
    /// A person denied it.
    ManualLease = 30,
    /// A protected peer: no automatic measure reaches it.
    Protected = 40,
    /// The planner denied it.
    AutomaticLease = 50,
    /// Nothing hit: it passes.
    Default = 100,
}

impl VerdictStep {
    /// The words for this step.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NodeCritical => "node-critical peer",
            Self::Quarantine => "quarantine",
            Self::ManualLease => "manual lease",
            Self::Protected => "protected peer",
            Self::AutomaticLease => "automatic lease",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for VerdictStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// What of the configuration a verdict depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Peers that the node needs to live.
    pub node_critical: Vec<PeerMatch>,
    /// Peers that automatic measures may not deny.
    pub protected: Vec<PeerMatch>,
    /// All that a quarantined container reaches.
    pub quarantine_allow: Vec<PeerMatch>,
}

/// A verdict and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict<'a> {
    /// The step that decided.
    pub step: VerdictStep,
    /// Whether a packet passes.
    pub passes: bool,
    /// The measure that decided, when one did.
    pub measure: Option<&'a Measure>,
}

/// Whether a measure concerns a container: the same engine's id, through restarts, or the same workload.
pub fn concerns(measure: &Measure, container: &Container) -> bool {
    match &measure.target {
        Target::Container(key) => {
            key.node == container.key.node && key.engine_id == container.key.engine_id
        }
        Target::Workload(name) => *name == container.workload,
    }
}

/// What becomes of a packet between the container and the peer, with these measures in force.
///
/// Of several measures at the same step the one that lasts longest is named: ending a shorter one would change nothing.
pub fn verdict<'a>(
    container: &Container,
    peer: &Peer,
    measures: &'a [Measure],
    rules: &Rules,
    now: Timestamp,
) -> Verdict<'a> {
    let any = |list: &[PeerMatch]| list.iter().any(|m| m.matches(peer));
    let longest = |wanted: &dyn Fn(&Measure) -> bool| {
        measures
            .iter()
            .filter(|m| m.expires > now && concerns(m, container) && wanted(m))
            .max_by_key(|m| m.expires)
    };
    let denies = |m: &Measure, manual: bool| {
        m.is_manual() == manual && matches!(&m.action, Action::Deny(p) if p.matches(peer))
    };
    if any(&rules.node_critical) {
        return Verdict { step: VerdictStep::NodeCritical, passes: true, measure: None };
    }
    if let Some(measure) = longest(&|m| m.action == Action::Quarantine) {
        let passes = any(&rules.quarantine_allow);
        return Verdict { step: VerdictStep::Quarantine, passes, measure: Some(measure) };
    }
    if let Some(measure) = longest(&|m| denies(m, true)) {
        return Verdict { step: VerdictStep::ManualLease, passes: false, measure: Some(measure) };
    }
    if any(&rules.protected) {
        return Verdict { step: VerdictStep::Protected, passes: true, measure: None };
    }
    if let Some(measure) = longest(&|m| denies(m, false)) {
        return Verdict {
            step: VerdictStep::AutomaticLease,
            passes: false,
            measure: Some(measure),
        };
    }
    Verdict { step: VerdictStep::Default, passes: true, measure: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{ContainerKey, Engine};
    use crate::measure::{Decider, MeasureId};
    use crate::workload::OwnerKind;
    use crate::{AlertId, WorkloadName};

    fn container() -> Container {
        Container {
            key: ContainerKey {
                node: "n1".into(),
                boot: "b".into(),
                engine_id: "e".repeat(64),
                cgroup: 7,
            },
            workload: WorkloadName {
                cluster: "local".into(),
                scope: "shop".into(),
                kind: OwnerKind::Image,
                owner: "web".into(),
                container: String::new(),
            },
            engine: Engine::Podman,
            name: "web-1".into(),
            image: "web".into(),
            digest: String::new(),
            cgroup_path: "/web".into(),
            pid: 0,
            netns: 0,
            addresses: Vec::new(),
            host_network: false,
            started: Timestamp(0),
        }
    }

    fn measure(id: u64, action: Action, manual: bool, expires: u64) -> Measure {
        let decider = if manual {
            Decider::Manual { who: "ada".into() }
        } else {
            Decider::Automatic { alert: AlertId(1), rung: 0 }
        };
        Measure {
            id: MeasureId(id),
            cluster: "local".into(),
            target: Target::Workload(container().workload),
            action,
            decider,
            reason: String::new(),
            created: Timestamp(0),
            expires: Timestamp(expires),
        }
    }

    fn deny(id: u64, peer: &str, manual: bool, expires: u64) -> Measure {
        measure(id, Action::Deny(peer.parse().unwrap()), manual, expires)
    }

    fn decide(measures: &[Measure], rules: &Rules) -> (VerdictStep, bool, Option<u64>) {
        let peer = Peer {
            address: "198.51.100.7".parse().unwrap(),
            port: 443,
            protocol: crate::net::Protocol::TCP,
        };
        let v = verdict(&container(), &peer, measures, rules, Timestamp(100));
        (v.step, v.passes, v.measure.map(|m| m.id.0))
    }

    #[test]
    fn without_measures_everything_passes_by_default() {
        assert_eq!(decide(&[], &Rules::default()), (VerdictStep::Default, true, None));
    }

    #[test]
    fn an_expired_narrow_lease_does_not_hide_an_active_wide_one() {
        let measures = [deny(1, "198.51.100.7", false, 50), deny(2, "198.51.100.0/24", false, 500)];
        assert_eq!(
            decide(&measures, &Rules::default()),
            (VerdictStep::AutomaticLease, false, Some(2))
        );
    }

    #[test]
    fn steps_decide_in_their_order() {
        let list = |text: &str| vec![text.parse().unwrap()];
        let automatic = deny(1, "198.51.100.7", false, 500);
        let manual = deny(2, "198.51.100.7", true, 500);
        let quarantine = measure(3, Action::Quarantine, false, 500);
        let protected = Rules { protected: list("198.51.100.7"), ..Rules::default() };
        let critical = Rules { node_critical: list("198.51.100.0/24"), ..Rules::default() };
        let allow = Rules { quarantine_allow: list("198.51.100.7:443/tcp"), ..Rules::default() };
        for (measures, rules, expect) in [
            (vec![automatic.clone()], &protected, (VerdictStep::Protected, true, None)),
            (vec![manual.clone()], &protected, (VerdictStep::ManualLease, false, Some(2))),
            (
                vec![automatic, manual, quarantine.clone()],
                &protected,
                (VerdictStep::Quarantine, false, Some(3)),
            ),
            (vec![quarantine.clone()], &allow, (VerdictStep::Quarantine, true, Some(3))),
            (vec![quarantine], &critical, (VerdictStep::NodeCritical, true, None)),
        ] {
            assert_eq!(decide(&measures, rules), expect);
        }
    }

    #[test]
    fn a_container_measure_follows_the_engines_id_through_a_restart() {
        let mut before = container();
        before.key.cgroup = 1;
        let mut measure = deny(1, "198.51.100.7", false, 500);
        measure.target = Target::Container(before.key);
        assert!(concerns(&measure, &container()));
        let mut other = container();
        other.key.engine_id = "f".repeat(64);
        assert!(!concerns(&measure, &other));
    }
}
