//! Values for the tests of this crate.

use std::time::Duration;

use bulkhead_domain::alert::{Alert, AlertClass, Response, Review};
use bulkhead_domain::container::{Container, ContainerKey, Engine};
use bulkhead_domain::guardrail::Guardrails;
use bulkhead_domain::inventory::{InventoryRecord, LifeState};
use bulkhead_domain::measure::{Action, Decider, Measure, MeasureRecord, Proposal, Target};
use bulkhead_domain::score::{Score, Threshold};
use bulkhead_domain::workload::OwnerKind;
use bulkhead_domain::{AlertId, EventId, MeasureId, Mode, Timestamp, WorkloadName};

use crate::plan::Settings;

/// An instant some seconds after the tests' beginning.
pub(crate) fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

pub(crate) fn workload() -> WorkloadName {
    WorkloadName {
        cluster: "local".into(),
        scope: "shop".into(),
        kind: OwnerKind::Service,
        owner: "web".into(),
        container: String::new(),
    }
}

pub(crate) fn workload_target() -> Target {
    Target::Workload(workload())
}

pub(crate) fn key(number: u64) -> ContainerKey {
    ContainerKey {
        node: "n1".into(),
        boot: "b".into(),
        engine_id: format!("{number:064x}"),
        cgroup: 100 + number,
    }
}

pub(crate) fn container_target(number: u64) -> Target {
    Target::Container(key(number))
}

pub(crate) fn container(number: u64) -> Container {
    Container {
        key: key(number),
        workload: workload(),
        engine: Engine::Podman,
        name: format!("web-{number}"),
        image: "localhost/web".into(),
        digest: String::new(),
        cgroup_path: String::new(),
        pid: 0,
        netns: 0,
        addresses: Vec::new(),
        host_network: false,
        started: at(0),
    }
}

pub(crate) fn running(container: Container) -> InventoryRecord {
    InventoryRecord { container, state: LifeState::Running, at: at(0) }
}

pub(crate) fn deny() -> Action {
    Action::Deny("203.0.113.9".parse().expect("it is a peer"))
}

pub(crate) fn proposal(target: Target, action: Action) -> Proposal {
    Proposal { target, action }
}

/// An automatic measure, by an alert of the same number.
pub(crate) fn measure(
    number: u64,
    target: Target,
    action: Action,
    created: Timestamp,
    expires: Timestamp,
) -> Measure {
    Measure {
        id: MeasureId(number),
        cluster: "local".into(),
        target,
        action,
        decider: Decider::Automatic { alert: AlertId(number), rung: 0 },
        reason: "because".into(),
        created,
        expires,
    }
}

pub(crate) fn released(measure: &Measure) -> MeasureRecord {
    MeasureRecord::Released {
        id: measure.id,
        workload: workload(),
        cluster: measure.cluster.clone(),
        who: "ann".into(),
        why: "false alarm".into(),
        at: at(0),
    }
}

/// An alert in `enforce` with evidence at this instant.
pub(crate) fn alert(number: u64, proposal: Option<Proposal>, last: Timestamp) -> Alert {
    Alert {
        id: AlertId(number),
        revision: 1,
        class: AlertClass::Deviation,
        workload: workload(),
        container: Some(key(1)),
        container_name: "web-1".into(),
        first: last,
        last,
        evidence: EventId::default(),
        exceedances: 1,
        closed: false,
        title: "connect to a peer never seen".into(),
        score: Score(9.0),
        threshold: Threshold { score: Score(5.0), extrapolated: false, interval: None, blocks: 9 },
        provisional: false,
        contributions: Vec::new(),
        nearest_normal: String::new(),
        process: None,
        loss_ratio: 0.0,
        baseline_version: 1,
        model_version: "live".into(),
        techniques: Vec::new(),
        mode: Mode::Enforce,
        proposal,
        response: Response::None,
        review: Review::Open,
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        cluster: "local".into(),
        guardrails: Guardrails {
            ttl_ladder: [10, 60].map(Duration::from_secs).to_vec(),
            ..Guardrails::default()
        },
        node_critical: Vec::new(),
    }
}
