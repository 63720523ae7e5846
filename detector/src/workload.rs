//! All that is known of one workload: what is written down in a snapshot, whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use bulkhead_domain::alert::Alert;
use bulkhead_domain::baseline::Provenance;
use bulkhead_domain::behaviour::{Act, ForbiddenAct};
use bulkhead_domain::budget::AlertBudget;
use bulkhead_domain::net::Peer;
use bulkhead_domain::{Container, ContainerKey, EventId, Mode, Timestamp, WorkloadName};
use bulkhead_models::ensemble::Ensemble;
use bulkhead_models::fresh::Fresh;
use bulkhead_models::novelty::Novelty;
use bulkhead_models::sequence::{Locality, Sequence};
use bulkhead_models::volume::{Subject, Volume};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::incident::Incident;
use crate::vouch::Vouched;

/// Alerts kept per workload: with their contributions some 200 KiB at most.
pub(crate) const ALERTS_MAX: usize = 64;

/// Containers that ended and are still remembered, for their numbers and names.
const ENDED_MAX: usize = 64;

/// Port of name servers (RFC 1035, 4.2).
const DNS_PORT: u16 = 53;

/// How long an address must have been told to be remembered.
const SETTLED: Duration = Duration::from_secs(5);

/// Addresses remembered per container.
const ADDRESSES_MAX: usize = 8;

/// Refused acts told apart per container.
const REFUSED_MAX: usize = 256;

/// State of one container, through its restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerState {
    pub key: ContainerKey,
    pub facts: Option<Container>,
    /// Addresses it had before, latest last: peers go on trying the old one after a restart.
    pub addresses: Vec<IpAddr>,
    /// When its present ones were told.
    pub addressed_at: Timestamp,
    /// Number among the workload's replicas.
    pub replica: u32,
    pub running: bool,
    pub started: Timestamp,
    /// Windows seen.
    pub windows: u64,
    pub vouched: Vouched,
    pub locality: Locality,
    /// New behaviours of the present block.
    pub fresh: Fresh,
    pub fresh_block: u64,
    /// When the latest unexcused new behaviour came.
    pub fresh_at: Option<Timestamp>,
    /// When a guard last refused something.
    pub refused_at: Option<Timestamp>,
    /// Refused acts that were counted, and when they were last tried.
    pub refused: BTreeMap<Act, Timestamp>,
    pub incident: Option<Incident>,
    pub blinded: Option<Incident>,
    /// When an incident of it last had evidence: what is learned near it waits for review.
    pub suspect_until: Timestamp,
}

impl ContainerState {
    /// Keeps the addresses that it had, when the new facts tell others. What was told for a moment only, while the container
    /// was still being set up in its runtime's namespace, is not kept: it may be the node's.
    pub(crate) fn remember(&mut self, new: &Container, at: Timestamp) {
        let Some(old) = &self.facts else {
            self.addressed_at = at;
            return;
        };
        if old.addresses == new.addresses {
            return;
        }
        if !old.host_network && at.since(self.addressed_at) >= SETTLED {
            self.addresses.retain(|a| !old.addresses.contains(a));
            self.addresses.extend(&old.addresses);
            let beyond = self.addresses.len().saturating_sub(ADDRESSES_MAX);
            self.addresses.drain(..beyond);
        }
        self.addressed_at = at;
    }

    /// Whether a refused attempt was counted already: the first says something, its retries do not, as long as no more than
    /// `gap` lies between them.
    pub(crate) fn is_retry(&mut self, act: &Act, at: Timestamp, gap: Duration) -> bool {
        if !matches!(act, Act::Connect { refused: true, .. }) {
            return false;
        }
        self.refused.retain(|_, last| at.since(*last) <= gap);
        if let Some(last) = self.refused.get_mut(act) {
            *last = at;
            return true;
        }
        if self.refused.len() < REFUSED_MAX {
            self.refused.insert(act.clone(), at);
        }
        false
    }

    /// The container's own name, for people.
    pub(crate) fn name(&self) -> String {
        match &self.facts {
            Some(facts) if !facts.name.is_empty() => facts.name.trim_start_matches('/').to_owned(),
            _ => self.key.short().to_owned(),
        }
    }
}

/// What an acceptance of an alert would take in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Acceptable {
    pub acts: Vec<Act>,
    pub excesses: Vec<(Subject, f64)>,
    pub buckets: Vec<u16>,
    pub repository: Option<String>,
}

/// An alert with what accepting it would mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub alert: Alert,
    pub acceptable: Acceptable,
}

/// State of one workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkloadState {
    pub name: WorkloadName,
    pub mode: Mode,
    /// The mode that follows learning.
    pub next: Mode,
    pub learn_until: Option<Timestamp>,
    pub until_mature: bool,
    /// When the present learning began.
    pub begun: Timestamp,
    /// When scoring began; counts alerts a day.
    pub scored_since: Option<Timestamp>,
    pub last: Timestamp,
    /// Highest (epoch, sequence) by producer.
    pub marks: BTreeMap<u64, (u64, u64)>,
    /// Records absorbed.
    pub version: u64,
    pub duplicates: u64,
    /// Windows of another feature set, refused.
    pub refused_windows: u64,
    pub repositories: BTreeSet<String>,
    pub containers: BTreeMap<String, ContainerState>,
    pub replicas: u32,
    pub novelty: Novelty,
    pub volume: Volume,
    pub sequence: Sequence,
    pub ensemble: Option<Ensemble>,
    pub model_version: String,
    pub budget: Option<AlertBudget>,
    pub alerts: VecDeque<Kept>,
    /// Alerts that counted against the budget.
    pub counted: u64,
    /// Leading evidence that is silenced, and until when.
    pub muted: BTreeMap<String, Option<Timestamp>>,
    pub troubled_until: Timestamp,
    /// Block in which maturity was last looked at.
    pub judged_block: u64,
    pub written_at: Timestamp,
}

impl WorkloadState {
    /// A workload that nothing is known of.
    pub(crate) fn new(name: WorkloadName, config: &Config, at: Timestamp) -> Self {
        Self {
            name,
            mode: Mode::Learn,
            next: config.learning.then,
            learn_until: config.learning.at_most.map(|d| at.plus(d)),
            until_mature: config.learning.until_mature,
            begun: at,
            scored_since: None,
            last: at,
            marks: BTreeMap::new(),
            version: 0,
            duplicates: 0,
            refused_windows: 0,
            repositories: BTreeSet::new(),
            containers: BTreeMap::new(),
            replicas: 0,
            novelty: Novelty::new(config.kind_cap),
            volume: Volume::default(),
            sequence: Sequence::default(),
            ensemble: None,
            model_version: "none".into(),
            budget: None,
            alerts: VecDeque::new(),
            counted: 0,
            muted: BTreeMap::new(),
            troubled_until: Timestamp::default(),
            judged_block: 0,
            written_at: at,
        }
    }

    /// Whether it is a workload at all, and not only a node that reports about itself.
    pub(crate) fn is_workload(&self) -> bool {
        !self.containers.is_empty() || self.novelty.cells() > 0
    }

    /// Notes the record's id; `false` when its producer has published it before.
    pub(crate) fn mark(&mut self, id: EventId) -> bool {
        let position = (id.epoch, id.sequence);
        match self.marks.get_mut(&id.producer) {
            Some(mark) if *mark >= position => false,
            Some(mark) => {
                *mark = position;
                true
            }
            None => {
                // A producer is a node's role: thousands would be an attack on memory, and the oldest epoch goes.
                if self.marks.len() >= 4096
                    && let Some(oldest) =
                        self.marks.iter().min_by_key(|(_, m)| **m).map(|(p, _)| *p)
                {
                    self.marks.remove(&oldest);
                }
                self.marks.insert(id.producer, position);
                true
            }
        }
    }

    /// Whether the container was seen before, in whichever cgroup.
    pub(crate) fn knows(&self, key: &ContainerKey) -> bool {
        self.containers.contains_key(&format!("{} {}", key.node, key.engine_id))
    }

    /// The container's state, made when it is new.
    pub(crate) fn container(&mut self, key: &ContainerKey, at: Timestamp) -> &mut ContainerState {
        let id = format!("{} {}", key.node, key.engine_id);
        if !self.containers.contains_key(&id) {
            self.forget_ended();
            self.containers.insert(
                id.clone(),
                ContainerState {
                    key: key.clone(),
                    facts: None,
                    addresses: Vec::new(),
                    addressed_at: Timestamp::default(),
                    replica: self.replicas,
                    running: true,
                    started: Timestamp::default(),
                    windows: 0,
                    vouched: Vouched::default(),
                    locality: Locality::default(),
                    fresh: Fresh::default(),
                    fresh_block: 0,
                    fresh_at: None,
                    refused_at: None,
                    refused: BTreeMap::new(),
                    incident: None,
                    blinded: None,
                    suspect_until: Timestamp::default(),
                },
            );
            self.replicas += 1;
            self.last = self.last.max(at);
        }
        self.containers.get_mut(&id).expect("it was inserted above")
    }

    fn forget_ended(&mut self) {
        let ended = |c: &ContainerState| !c.running && c.incident.is_none();
        while self.containers.values().filter(|c| ended(c)).count() >= ENDED_MAX {
            let oldest =
                self.containers.iter().filter(|(_, c)| ended(c)).min_by_key(|(_, c)| c.replica);
            let Some(id) = oldest.map(|(id, _)| id.clone()) else { break };
            self.containers.remove(&id);
        }
    }

    /// Containers that run, one at least: rates are per running container.
    pub(crate) fn running(&self) -> u64 {
        (self.containers.values().filter(|c| c.running).count() as u64).max(1)
    }

    /// Keeps the latest revision of an alert.
    pub(crate) fn keep(&mut self, alert: &Alert, acceptable: Acceptable) {
        if let Some(kept) = self.alerts.iter_mut().find(|k| k.alert.id == alert.id) {
            kept.alert = alert.clone();
            kept.acceptable = acceptable;
            return;
        }
        if self.alerts.len() >= ALERTS_MAX {
            self.alerts.pop_front();
        }
        self.alerts.push_back(Kept { alert: alert.clone(), acceptable });
    }

    /// Name servers that it is known to ask.
    pub(crate) fn resolvers(&self) -> impl Iterator<Item = Peer> + '_ {
        self.novelty.entries().filter(|e| !e.review).filter_map(|e| match e.act {
            Act::Connect { peer, .. } if peer.port == DNS_PORT => Some(peer),
            _ => None,
        })
    }

    /// Interpreters on sockets that a person accepted here.
    pub(crate) fn shells_accepted(&self) -> impl Iterator<Item = String> + '_ {
        self.novelty.entries().filter_map(|e| match (&e.act, &e.provenance) {
            (
                Act::Forbidden { act: ForbiddenAct::ShellOnSocket, object },
                Provenance::Accepted { .. },
            ) => Some(object.clone()),
            _ => None,
        })
    }
}
