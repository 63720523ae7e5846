//! One incident of one container: exceedances of either stream until enough of its windows pass without one.
//!
//! The alert is the incident's record, one to one. It is rebuilt from the whole incident at each exceedance, and published
//! when a person would learn something from it: at its beginning, when its class or the fitting measure changes, when the
//! exceedances have doubled, and when it closes.

use std::collections::BTreeSet;

use bulkhead_domain::alert::{Alert, AlertClass, Contribution, Response, Review};
use bulkhead_domain::behaviour::{Act, BehaviourKind};
use bulkhead_domain::process::Process;
use bulkhead_domain::score::{Score, Threshold, View};
use bulkhead_domain::text::printable;
use bulkhead_domain::{AlertId, ContainerKey, EventId, Mode, Timestamp, WorkloadName};
use bulkhead_models::detector::Part;
use bulkhead_models::explain::{Brought, contributions};
use bulkhead_models::fresh::{Fresh, SWEEP};
use bulkhead_models::novelty::Novelty;
use bulkhead_models::{Detector, Inventory};
use serde::{Deserialize, Serialize};

use crate::proposal::{Facts, proposal};
use crate::workload::Acceptable;

/// Evidence, in nats, of what is never learned by repetition: not a probability, but above all that is one.
const FORBIDDEN_SURPRISE: f64 = 250.0;

/// Acts, excesses and buckets that an acceptance takes in at most.
const ACCEPTABLE_MAX: usize = 256;

/// What went over a threshold, once.
#[derive(Clone, Debug)]
pub(crate) struct Exceedance {
    pub class: AlertClass,
    pub score: Score,
    pub threshold: Threshold,
    pub provisional: bool,
    /// A part that no model weighs: a forbidden act, another image.
    pub certain: Option<Part>,
    /// New behaviours.
    pub acts: Vec<Act>,
    /// What the views of a window brought.
    pub window: Vec<Brought>,
    pub process: Option<Process>,
    pub at: Timestamp,
    pub evidence: EventId,
    pub loss_ratio: f64,
    pub nearest: String,
    pub acceptable: Acceptable,
}

/// Of whom an incident is.
pub(crate) struct Whose<'a> {
    pub workload: &'a WorkloadName,
    pub container: &'a ContainerKey,
    pub name: String,
    pub mode: Mode,
    pub version: u64,
    pub model: &'a str,
    pub novelty: &'a Novelty,
    pub inventory: &'a Inventory,
}

/// An incident under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Incident {
    pub alert: Alert,
    pub acceptable: Acceptable,
    /// Windows since the last exceedance.
    pub quiet: u32,
    /// Something exceeded since the last window closed.
    pub exceeded: bool,
    fresh: Fresh,
    certain: Vec<Part>,
    window: Vec<Brought>,
    window_score: f64,
    told_at: u64,
}

impl Incident {
    /// Begins with this exceedance.
    pub(crate) fn begin(whose: &Whose<'_>, first: &Exceedance) -> Self {
        let alert = Alert {
            id: AlertId::of(whose.workload, first.evidence),
            revision: 0,
            class: first.class,
            workload: whose.workload.clone(),
            container: Some(whose.container.clone()),
            container_name: whose.name.clone(),
            first: first.at,
            last: first.at,
            evidence: first.evidence,
            exceedances: 0,
            closed: false,
            title: String::new(),
            score: first.score,
            threshold: first.threshold,
            provisional: first.provisional,
            contributions: Vec::new(),
            nearest_normal: first.nearest.clone(),
            process: first.process.clone(),
            loss_ratio: first.loss_ratio,
            baseline_version: whose.version,
            model_version: whose.model.to_owned(),
            techniques: Vec::new(),
            mode: whose.mode,
            proposal: None,
            response: Response::None,
            review: Review::Open,
        };
        let mut incident = Self {
            alert,
            acceptable: Acceptable::default(),
            quiet: 0,
            exceeded: false,
            fresh: Fresh::default(),
            certain: Vec::new(),
            window: Vec::new(),
            window_score: 0.0,
            told_at: 1,
        };
        incident.take(whose, first);
        incident
    }

    /// Adds an exceedance; `true` when a new revision is worth publishing.
    pub(crate) fn grow(&mut self, whose: &Whose<'_>, exceedance: &Exceedance) -> bool {
        let (class, fitting) = (self.alert.class, self.alert.proposal.clone());
        self.take(whose, exceedance);
        let worth = class != self.alert.class
            || fitting != self.alert.proposal
            || self.alert.exceedances.is_power_of_two();
        if worth {
            self.revise();
        }
        worth
    }

    /// At the end of a window: `true` when so much came since the last revision that a person should know.
    pub(crate) fn catch_up(&mut self) -> bool {
        let due = self.alert.exceedances * 4 >= self.told_at * 5;
        if due {
            self.revise();
        }
        due
    }

    fn revise(&mut self) {
        self.alert.revision += 1;
        self.told_at = self.alert.exceedances;
    }

    /// Ends it.
    pub(crate) fn close(&mut self) {
        self.alert.closed = true;
        self.alert.revision += 1;
    }

    fn take(&mut self, whose: &Whose<'_>, exceedance: &Exceedance) {
        self.quiet = 0;
        self.exceeded = true;
        let alert = &mut self.alert;
        alert.exceedances += 1;
        alert.last = alert.last.max(exceedance.at);
        alert.loss_ratio = alert.loss_ratio.max(exceedance.loss_ratio);
        if rank(exceedance.class) > rank(alert.class) {
            alert.class = exceedance.class;
            alert.process = exceedance.process.clone().or(alert.process.take());
        }
        alert.process = alert.process.take().or_else(|| exceedance.process.clone());
        if exceedance.score > alert.score {
            alert.score = exceedance.score;
            alert.threshold = exceedance.threshold;
            alert.provisional = exceedance.provisional;
        }
        if alert.nearest_normal.is_empty() {
            alert.nearest_normal.clone_from(&exceedance.nearest);
        }
        for act in &exceedance.acts {
            self.fresh.add(act);
        }
        if let Some(part) = &exceedance.certain
            && self.certain.len() < 16
            && !self.certain.iter().any(|c| c.subject == part.subject)
        {
            self.certain.push(part.clone());
        }
        // The strangest window tells most; but one about another peer (the same workload's other address, say) asks for a
        // measure of its own.
        let elsewhere = peer_of(&exceedance.window) != peer_of(&self.window);
        if !exceedance.window.is_empty() && (exceedance.score.0 >= self.window_score || elsewhere) {
            self.window_score = exceedance.score.0;
            self.window.clone_from(&exceedance.window);
        }
        self.acceptable.take(&exceedance.acceptable);
        self.retell(whose);
    }

    /// Rebuilds what a person reads.
    fn retell(&mut self, whose: &Whose<'_>) {
        let mut brought = self.window.clone();
        let novelty = whose.novelty.score(&self.fresh).unwrap_or_default();
        let mut parts = self.certain.clone();
        let surprise =
            if parts.is_empty() { novelty.score } else { FORBIDDEN_SURPRISE.max(novelty.score) };
        parts.extend(novelty.parts);
        brought.push(Brought { view: View::Novelty, surprise, parts });
        let alert = &mut self.alert;
        alert.contributions = contributions(&brought);
        alert.proposal = proposal(&Facts {
            workload: whose.workload,
            container: whose.container,
            forbidden: alert.class == AlertClass::Forbidden,
            fresh: &self.fresh,
            contributions: &alert.contributions,
            inventory: whose.inventory,
        });
        alert.mode = whose.mode;
        alert.response = match (&alert.proposal, whose.mode) {
            (Some(proposal), Mode::Detect) => Response::Would(proposal.clone()),
            _ => Response::None,
        };
        alert.title = title(alert, &self.fresh);
        alert.techniques = techniques(alert, &self.fresh);
    }
}

impl Acceptable {
    fn take(&mut self, more: &Self) {
        for act in &more.acts {
            if self.acts.len() < ACCEPTABLE_MAX && !self.acts.contains(act) {
                self.acts.push(act.clone());
            }
        }
        for (subject, value) in &more.excesses {
            if let Some((_, v)) = self.excesses.iter_mut().find(|(s, _)| s == subject) {
                *v = v.max(*value);
            } else if self.excesses.len() < ACCEPTABLE_MAX {
                self.excesses.push((subject.clone(), *value));
            }
        }
        for bucket in &more.buckets {
            if self.buckets.len() < 4 * ACCEPTABLE_MAX && !self.buckets.contains(bucket) {
                self.buckets.push(*bucket);
            }
        }
        if more.repository.is_some() {
            self.repository.clone_from(&more.repository);
        }
    }
}

/// The peer that a window's strongest part is about.
fn peer_of(window: &[Brought]) -> Option<bulkhead_domain::net::Peer> {
    window.iter().find_map(|brought| brought.parts.first()?.peer)
}

fn rank(class: AlertClass) -> u8 {
    match class {
        AlertClass::Health | AlertClass::Blinded => 0,
        AlertClass::Deviation => 1,
        AlertClass::Identity => 2,
        AlertClass::Forbidden => 3,
    }
}

/// The act of the largest part, where it is an act.
fn top(alert: &Alert) -> Option<&Contribution> {
    alert.contributions.first()
}

fn title(alert: &Alert, fresh: &Fresh) -> String {
    let name = printable(&alert.container_name, 60);
    let many = |kind| fresh.kind(kind).filter(|few| few.count() >= SWEEP);
    if alert.class == AlertClass::Identity {
        return format!("{name} runs another image than its workload did");
    }
    let Some(top) = top(alert) else { return format!("{name} deviates from its baseline") };
    if alert.class == AlertClass::Forbidden {
        return format!("{name} did what is never learned: {}", top.subject);
    }
    if let Some(few) = many(BehaviourKind::Connect) {
        return format!(
            "{name} swept {} new ports or peers on {} addresses",
            few.count(),
            few.addresses()
        );
    }
    if let Some(few) = many(BehaviourKind::Dns) {
        return format!(
            "{name} asked for {}: a DNS tunnel, or a generated domain",
            few.subject(BehaviourKind::Dns).trim_start_matches("dns: ")
        );
    }
    match &top.act {
        Some(act) => format!("{name}: {act} was never seen before"),
        None => format!("{name}: {} of {}, expected {}", top.subject, top.observed, top.expected),
    }
}

/// ATT&CK techniques that the evidence belongs to.
fn techniques(alert: &Alert, fresh: &Fresh) -> Vec<String> {
    let mut found = BTreeSet::new();
    for contribution in &alert.contributions {
        match &contribution.act {
            Some(Act::Forbidden { act, .. }) => {
                found.insert(act.technique());
            }
            Some(Act::Exec { .. }) => {
                found.insert("T1059");
            }
            Some(Act::Listen { .. }) => {
                found.insert("T1571");
            }
            Some(Act::Connect { .. })
                if fresh.kind(BehaviourKind::Connect).is_some_and(|f| f.count() >= SWEEP) =>
            {
                found.insert("T1046");
            }
            Some(Act::Connect { .. }) => {
                found.insert("T1071");
            }
            Some(Act::Dns { .. })
                if fresh.kind(BehaviourKind::Dns).is_some_and(|f| f.count() >= SWEEP) =>
            {
                found.insert("T1071.004");
            }
            None if contribution.view == View::Volume
                && contribution.subject.starts_with("bytes sent") =>
            {
                found.insert("T1048");
            }
            None if contribution.view == View::Volume
                && contribution.subject.contains("dns name") =>
            {
                found.insert("T1071.004");
            }
            None if contribution.view == View::Volume
                && contribution.subject.starts_with("distinct peer") =>
            {
                found.insert("T1046");
            }
            _ => {}
        }
    }
    found.into_iter().map(str::to_owned).collect()
}
