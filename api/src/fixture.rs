//! Values for this crate's tests: one workload `web`, its containers, alerts and denies.

use bulkhead_domain::alert::{Alert, AlertClass, AlertId, Response, Review};
use bulkhead_domain::container::{Container, ContainerKey, Engine};
use bulkhead_domain::measure::{Action, Decider, Measure, MeasureId, Target};
use bulkhead_domain::score::{Score, Threshold};
use bulkhead_domain::workload::{OwnerKind, hash64};
use bulkhead_domain::{EventId, Mode, Timestamp, WorkloadName};

pub(crate) fn workload() -> WorkloadName {
    WorkloadName {
        cluster: "local".into(),
        scope: "shop".into(),
        kind: OwnerKind::Image,
        owner: "web".into(),
        container: String::new(),
    }
}

pub(crate) fn container(name: &str, cgroup: u64) -> Container {
    Container {
        key: ContainerKey {
            node: "n1".into(),
            boot: "b".into(),
            engine_id: format!("{:064x}", hash64(name.as_bytes())),
            cgroup,
        },
        workload: workload(),
        engine: Engine::Podman,
        name: name.into(),
        image: "web".into(),
        digest: String::new(),
        cgroup_path: format!("/{name}"),
        pid: 0,
        netns: 0,
        addresses: Vec::new(),
        host_network: false,
        started: Timestamp(0),
    }
}

pub(crate) fn deny(id: u64, peer: &str, expires: u64) -> Measure {
    Measure {
        id: MeasureId(id),
        cluster: "local".into(),
        target: Target::Workload(workload()),
        action: Action::Deny(peer.parse().unwrap()),
        decider: Decider::Automatic { alert: AlertId(1), rung: 0 },
        reason: "test".into(),
        created: Timestamp(0),
        expires: Timestamp(expires),
    }
}

pub(crate) fn alert(id: u64, revision: u32) -> Alert {
    Alert {
        id: AlertId(id),
        revision,
        class: AlertClass::Deviation,
        workload: workload(),
        container: Some(container("web-1", 1).key),
        container_name: "web-1".into(),
        first: Timestamp(1),
        last: Timestamp(2),
        evidence: EventId::default(),
        exceedances: 1,
        closed: false,
        title: "connected to a peer it never met".into(),
        score: Score(9.0),
        threshold: Threshold { score: Score(7.0), extrapolated: false, interval: None, blocks: 10 },
        provisional: false,
        contributions: Vec::new(),
        nearest_normal: String::new(),
        process: None,
        loss_ratio: 0.0,
        baseline_version: 1,
        model_version: "live".into(),
        techniques: Vec::new(),
        mode: Mode::Detect,
        proposal: None,
        response: Response::None,
        review: Review::Open,
    }
}
