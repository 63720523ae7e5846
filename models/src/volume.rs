//! The volume-and-shape view: how much of what, held against the highest that was normal.
//!
//! Security asks for *more* than normal: less traffic is an outage, or the work of a measure, and is not scored. A burst of
//! demand is more of everything, so what is compared is of two sorts. *Shapes* do not grow with demand: bytes per
//! connection of each peer, different ports and names, their length and entropy. They get no allowance. *Levels* do grow:
//! bytes, calls, forks, questions. They get a factor of [`BURST`], or three times by how much the demand of inbound peers
//! grew where that is more. A persistent connection carries a burst without opening another; there, the balance of bytes
//! out and in may explain up to the same factor. An answer to a peer, or from one, grows with its question, and the
//! acknowledgements of an upload are no answer: both must also outgrow what was sent the other way. Bytes are scored where they are sent (and where they are asked for): what
//! a peer sends in is that peer's behaviour.
//!
//! Each quantity is its logarithm (lengths and entropy stay linear) and scores its excess over the highest normal value in
//! units of its scale (`ceiling.rs`). The score is the Euclidean norm of the excesses; parts are weighed by their squares.

use std::collections::{BTreeMap, BTreeSet};

use bulkhead_domain::AlertId;
use bulkhead_domain::feature::{self, FeatureId};
use bulkhead_domain::net::Peer;
use bulkhead_domain::score::View;
use serde::{Deserialize, Serialize};

use crate::calibration::HeldOut;
use crate::ceiling::Ceiling;
use crate::detector::{Detector, Evidence, Part};
use crate::fold::{FOLDS, Origin, Thinning, fold};
use crate::key::Key;
use crate::quantity::quantity;
use crate::shape::{Flow, FlowKey, Shape};

/// Growth of a level that is a burst of demand and not a deviation, in the absence of better evidence.
pub const BURST: f64 = 20.0;

/// Samples kept: with 40 numbers each, some 150 KiB.
const SAMPLES_MAX: usize = 512;

/// Different quantities kept: features, and four for each flow.
const SUBJECTS_MAX: usize = 1024;

/// What one quantity is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    /// A feature of the container.
    Feature(FeatureId),
    /// Bytes sent per connection of a flow.
    Sent(FlowKey),
    /// Bytes received per connection of a flow that the container opened.
    Received(FlowKey),
    /// Bytes sent over bytes received.
    Balance(FlowKey),
    /// Bytes received over bytes sent.
    Answer(FlowKey),
    /// Bytes sent in the window.
    Level(FlowKey),
    /// What inbound peers asked for: 0 connections, 1 bytes.
    Demand(u8),
}

/// How a feature is compared.
#[derive(Clone, Copy)]
struct Compare {
    id: FeatureId,
    /// Added before the logarithm: below it, differences mean nothing. Zero compares linearly.
    smooth: f64,
    /// Smallest scale.
    floor: f64,
    /// Grows with demand.
    level: bool,
    /// Belongs to processes rather than to traffic.
    process: bool,
    /// What refused attempts and their retries raise.
    retries: bool,
}

const fn row(
    id: FeatureId,
    smooth: f64,
    floor: f64,
    level: bool,
    process: bool,
    retries: bool,
) -> Compare {
    Compare { id, smooth, floor, level, process, retries }
}

/// Questions from which on the mean length and entropy of names say something.
const QUESTIONS_MIN: f64 = 5.0;

/// Whether a window is learned from or scored: few questions may widen what is normal, but accuse nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Learn,
    Score,
}

// A scale of 0.7 is a factor of two. Received bytes, packets and accepted connections are what peers do, and absent.
const FEATURES: [Compare; 19] = [
    row(feature::SYSCALLS, 500.0, 0.7, true, true, true),
    row(feature::SYSCALL_KINDS, 20.0, 0.4, false, true, true),
    row(feature::SYSCALLS_FOREIGN, 1.0, 0.7, false, true, false),
    row(feature::NGRAMS, 200.0, 0.7, false, true, true),
    row(feature::EXECS, 5.0, 0.7, true, true, false),
    row(feature::FORKS, 5.0, 0.7, true, true, false),
    row(feature::EXITS, 5.0, 0.7, true, true, false),
    row(feature::CONNECTS, 5.0, 0.7, true, false, true),
    row(feature::CONNECTS_FAILED, 5.0, 0.7, true, false, true),
    row(feature::CONNECT_ADDRESSES, 4.0, 0.7, false, false, true),
    row(feature::CONNECT_PORTS, 4.0, 0.7, false, false, false),
    row(feature::UDP_SENDS, 20.0, 0.7, true, false, true),
    row(feature::BYTES_OUT, 16_384.0, 0.7, true, false, false),
    row(feature::BYTES_OUT_INITIATED, 16_384.0, 0.7, true, false, false),
    row(feature::DNS_QUESTIONS, 5.0, 0.7, true, false, true),
    row(feature::DNS_FAILURES, 5.0, 0.7, true, false, true),
    row(feature::DNS_NAMES, 4.0, 0.7, false, false, false),
    row(feature::DNS_NAME_BYTES, 0.0, 8.0, false, false, false),
    row(feature::DNS_ENTROPY, 0.0, 0.6, false, false, false),
];

/// What cannot be judged in a window, by evidence from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Processes: a start-up, or a process that the engine vouches for, is at work.
    pub process: bool,
    /// Retries: a guard refuses something of this container, or of one that it calls.
    pub retries: bool,
}

/// One window to learn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lesson {
    /// Where it comes from.
    pub origin: Origin,
    /// What was seen.
    pub shape: Shape,
}

/// One window to score.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// What was seen.
    pub shape: &'a Shape,
    /// What of it cannot be judged.
    pub doubt: Doubt,
}

/// One quantity that went over its ceiling.
#[derive(Clone, Debug, PartialEq)]
pub struct Excess {
    /// Of what.
    pub subject: Subject,
    /// Value in the space of comparison.
    pub value: f64,
    /// Steps over the ceiling.
    pub steps: f64,
    /// Its peer.
    pub peer: Option<Peer>,
}

/// Ceilings of every quantity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Ceilings {
    by_subject: BTreeMap<Subject, Ceiling>,
    persistent: BTreeSet<FlowKey>,
}

/// The model of one workload's windows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    lessons: Vec<Lesson>,
    thinning: Thinning,
    ceilings: Ceilings,
    accepted: BTreeMap<Subject, (f64, Option<AlertId>)>,
}

impl Volume {
    /// Windows kept to learn from.
    pub fn windows(&self) -> u64 {
        self.lessons.len() as u64
    }

    /// Different blocks of time among them.
    pub fn blocks(&self) -> u64 {
        self.lessons.iter().map(|l| l.origin.block).collect::<BTreeSet<_>>().len() as u64
    }

    /// Halves what is kept, by whole blocks: for when a record must become smaller.
    pub fn halve(&mut self) {
        let max = self.lessons.len() / 2;
        self.thinning.apply(&mut self.lessons, max, |l| l.origin.block);
    }

    /// Fits the ceilings to what was learned.
    pub fn fit(&mut self) {
        self.ceilings = Ceilings::of(self.lessons.iter().map(|l| &l.shape));
    }

    /// Scores of every lesson by ceilings that its fold had no part in; empty while there is only one fold.
    pub fn held_out(&self) -> Vec<HeldOut> {
        let mut scores = Vec::with_capacity(self.lessons.len());
        for f in 0..FOLDS as u8 {
            let others = self.lessons.iter().filter(|l| fold(l.origin.block) != f);
            if others.clone().next().is_none() {
                continue;
            }
            let ceilings = Ceilings::of(others.map(|l| &l.shape));
            for lesson in self.lessons.iter().filter(|l| fold(l.origin.block) == f) {
                let excesses = ceilings.excesses(&lesson.shape, Doubt::default(), &BTreeMap::new());
                let Origin { replica, index, block } = lesson.origin;
                scores.push(HeldOut { score: norm(&excesses), replica, index, block });
            }
        }
        scores
    }

    /// What of a sample goes over its ceiling, largest first.
    pub fn excesses(&self, sample: &Sample<'_>) -> Vec<Excess> {
        self.ceilings.excesses(sample.shape, sample.doubt, &self.accepted)
    }

    /// Takes values in as normal, by a person's word.
    pub fn accept(&mut self, excesses: &[(Subject, f64)], alert: Option<AlertId>) {
        for (subject, value) in excesses {
            if self.accepted.len() < SUBJECTS_MAX {
                let slot = self.accepted.entry(subject.clone()).or_insert((*value, alert));
                if *value > slot.0 {
                    *slot = (*value, alert);
                }
            }
        }
    }

    /// Takes back what was accepted because of an alert.
    pub fn retract(&mut self, alert: AlertId) {
        self.accepted.retain(|_, (_, a)| *a != Some(alert));
    }

    /// ln of the factor by which the window's demand or calls outgrew all that is normal; zero when they did not.
    pub fn growth(&self, shape: &Shape) -> f64 {
        let calls = Subject::Feature(feature::SYSCALLS);
        let calls = self
            .ceilings
            .by_subject
            .get(&calls)
            .zip(compare(feature::SYSCALLS))
            .map_or(0.0, |(ceiling, c)| {
                log(shape.feature(feature::SYSCALLS), c.smooth) - ceiling.highest
            });
        self.ceilings.demand_growth(shape).max(calls)
    }

    /// The highest normal value of a quantity, in words.
    pub fn nearest(&self, subject: &Subject) -> String {
        match self.ceilings.by_subject.get(subject) {
            Some(ceiling) => format!(
                "the highest of {} windows: {}",
                ceiling.samples,
                in_words(subject, ceiling.highest)
            ),
            None => String::new(),
        }
    }

    fn part(&self, excess: &Excess) -> Part {
        let expected = match self
            .ceilings
            .by_subject
            .get(&excess.subject)
            .or_else(|| self.ceilings.pooled(&excess.subject))
        {
            Some(c) => format!(
                "up to {}, usually {}",
                in_words(&excess.subject, c.highest),
                in_words(&excess.subject, c.median)
            ),
            None => "none".into(),
        };
        Part {
            subject: name(&excess.subject, excess.peer),
            observed: in_words(&excess.subject, excess.value),
            expected,
            weight: excess.steps * excess.steps,
            act: None,
            peer: excess.peer,
        }
    }
}

impl Detector for Volume {
    type Lesson<'a> = Lesson;
    type Sample<'a> = Sample<'a>;
    const VIEW: View = View::Volume;

    fn learn(&mut self, lesson: &Lesson) {
        if self.thinning.keeps(lesson.origin.block) {
            self.lessons.push(lesson.clone());
            self.thinning.apply(&mut self.lessons, SAMPLES_MAX, |l| l.origin.block);
        }
    }

    fn score(&self, sample: &Sample<'_>) -> Option<Evidence> {
        if self.ceilings.by_subject.is_empty() {
            return None;
        }
        let excesses = self.excesses(sample);
        Some(Evidence {
            score: norm(&excesses),
            parts: excesses.iter().map(|e| self.part(e)).collect(),
        })
    }
}

fn norm(excesses: &[Excess]) -> f64 {
    excesses.iter().map(|e| e.steps * e.steps).sum::<f64>().sqrt()
}

impl Ceilings {
    fn of<'a>(shapes: impl Iterator<Item = &'a Shape>) -> Self {
        let mut samples: BTreeMap<Subject, Vec<f64>> = BTreeMap::new();
        let mut kept_open: BTreeMap<FlowKey, (u32, u32)> = BTreeMap::new();
        for shape in shapes {
            for (subject, value) in measures(shape, Use::Learn) {
                if samples.len() < SUBJECTS_MAX || samples.contains_key(&subject) {
                    samples.entry(subject).or_default().push(value);
                }
            }
            for flow in &shape.flows {
                let (open, all) = kept_open.entry(flow.key.clone()).or_default();
                *open += u32::from(flow.connections < 0.5);
                *all += 1;
            }
        }
        let by_subject = samples
            .into_iter()
            .filter_map(|(subject, mut values)| {
                Ceiling::of(&mut values, floor(&subject)).map(|c| (subject, c))
            })
            .collect();
        let persistent = kept_open
            .into_iter()
            .filter(|(_, (open, all))| open * 5 > *all)
            .map(|(key, _)| key)
            .collect();
        Self { by_subject, persistent }
    }

    /// The ceiling over all flows of the same direction, for a flow that has none of its own.
    fn pooled(&self, subject: &Subject) -> Option<&Ceiling> {
        let any = |key: &FlowKey| match key {
            FlowKey::Out(_) | FlowKey::AnyOut => FlowKey::AnyOut,
            FlowKey::In(..) | FlowKey::AnyIn => FlowKey::AnyIn,
        };
        match subject {
            Subject::Sent(key) => self.by_subject.get(&Subject::Sent(any(key))),
            Subject::Received(key) => self.by_subject.get(&Subject::Received(any(key))),
            Subject::Level(key) => self.by_subject.get(&Subject::Level(any(key))),
            _ => None,
        }
    }

    fn excesses(
        &self,
        shape: &Shape,
        doubt: Doubt,
        accepted: &BTreeMap<Subject, (f64, Option<AlertId>)>,
    ) -> Vec<Excess> {
        let burst = self.burst(shape);
        let mut found = Vec::new();
        for (subject, value) in measures(shape, Use::Score) {
            if matches!(subject, Subject::Demand(_) | Subject::Balance(_) | Subject::Answer(_))
                || is_pooled(&subject)
                || doubt.covers(&subject)
            {
                continue;
            }
            let Some(ceiling) = self.by_subject.get(&subject).or_else(|| self.pooled(&subject))
            else {
                continue;
            };
            let over = value
                - accepted.get(&subject).map_or(ceiling.highest, |(a, _)| ceiling.highest.max(*a));
            let over = match &subject {
                Subject::Feature(id) if compare(*id).is_some_and(|c| c.level) => over - burst,
                Subject::Level(_) => over - burst,
                Subject::Sent(key @ FlowKey::Out(_)) if self.persistent.contains(key) => {
                    over.min((over - burst).max(self.balance_excess(shape, &subject)))
                }
                // An answer grows with its question, and so do the acknowledgements of an upload.
                Subject::Sent(FlowKey::In(..)) | Subject::Received(_) => {
                    over.min(self.balance_excess(shape, &subject))
                }
                _ => over,
            };
            if over > 0.0 {
                found.push(Excess {
                    peer: peer_of(shape, &subject),
                    subject,
                    value,
                    steps: over / ceiling.scale,
                });
            }
        }
        found.sort_by(|a, b| b.steps.total_cmp(&a.steps).then_with(|| a.subject.cmp(&b.subject)));
        found
    }

    /// ln of the growth that levels are allowed in this window.
    fn burst(&self, shape: &Shape) -> f64 {
        BURST.ln().max(self.demand_growth(shape) + 3.0_f64.ln())
    }

    /// ln of the factor by which what peers ask for outgrew its ceiling, never below zero.
    fn demand_growth(&self, shape: &Shape) -> f64 {
        let demand = shape.demand();
        [0_u8, 1]
            .iter()
            .filter_map(|i| {
                let ceiling = self.by_subject.get(&Subject::Demand(*i))?;
                Some(log(demand[usize::from(*i)], demand_smooth(*i)) - ceiling.highest)
            })
            .fold(0.0, f64::max)
    }

    /// By how much the balance of a flow's bytes goes over its ceiling, in the direction that the subject is about.
    fn balance_excess(&self, shape: &Shape, subject: &Subject) -> f64 {
        let (key, of, sign) = match subject {
            Subject::Sent(key) => (key, Subject::Balance(key.clone()), 1.0),
            Subject::Received(key) => (key, Subject::Answer(key.clone()), -1.0),
            _ => return f64::INFINITY,
        };
        let Some(ceiling) = self.by_subject.get(&of) else { return f64::INFINITY };
        let flows = shape.flows.iter().filter(|f| f.key == *key);
        flows.map(|f| sign * balance(f)).fold(f64::NEG_INFINITY, f64::max) - ceiling.highest
    }
}

impl Doubt {
    fn covers(self, subject: &Subject) -> bool {
        let Subject::Feature(id) = subject else { return false };
        compare(*id).is_some_and(|c| (self.process && c.process) || (self.retries && c.retries))
    }
}

fn compare(id: FeatureId) -> Option<&'static Compare> {
    FEATURES.iter().find(|c| c.id == id)
}

fn log(value: f64, smooth: f64) -> f64 {
    (value + smooth).ln()
}

fn demand_smooth(index: u8) -> f64 {
    if index == 0 { 5.0 } else { FLOW_SMOOTH }
}

/// Bytes below which sizes of flows are not told apart: about one packet.
const FLOW_SMOOTH: f64 = 1500.0;

fn balance(flow: &Flow) -> f64 {
    log(flow.bytes_out, FLOW_SMOOTH) - log(flow.bytes_in, FLOW_SMOOTH)
}

/// Every quantity of a window, in the space that it is compared in.
fn measures(shape: &Shape, purpose: Use) -> Vec<(Subject, f64)> {
    let mut out = Vec::with_capacity(FEATURES.len() + 8 * shape.flows.len() + 2);
    let questions = shape.feature(feature::DNS_QUESTIONS);
    for c in &FEATURES {
        let value = shape.feature(c.id);
        if c.smooth > 0.0 {
            out.push((Subject::Feature(c.id), log(value, c.smooth)));
        } else if questions >= QUESTIONS_MIN || (purpose == Use::Learn && questions > 0.0) {
            out.push((Subject::Feature(c.id), value));
        }
    }
    for flow in &shape.flows {
        let per_connection = |bytes: f64| log(bytes / flow.connections.max(1.0), FLOW_SMOOTH);
        let any =
            if matches!(flow.key, FlowKey::In(..)) { FlowKey::AnyIn } else { FlowKey::AnyOut };
        for key in [flow.key.clone(), any] {
            out.push((Subject::Sent(key.clone()), per_connection(flow.bytes_out)));
            if !matches!(key, FlowKey::In(..) | FlowKey::AnyIn) {
                out.push((Subject::Received(key.clone()), per_connection(flow.bytes_in)));
                out.push((Subject::Level(key.clone()), log(flow.bytes_out, 16_384.0)));
            }
            out.push((Subject::Balance(key.clone()), balance(flow)));
            out.push((Subject::Answer(key), -balance(flow)));
        }
    }
    let demand = shape.demand();
    out.push((Subject::Demand(0), log(demand[0], demand_smooth(0))));
    out.push((Subject::Demand(1), log(demand[1], demand_smooth(1))));
    out
}

fn is_pooled(subject: &Subject) -> bool {
    matches!(
        subject,
        Subject::Sent(FlowKey::AnyOut | FlowKey::AnyIn)
            | Subject::Received(FlowKey::AnyOut | FlowKey::AnyIn)
            | Subject::Level(FlowKey::AnyOut | FlowKey::AnyIn)
    )
}

fn peer_of(shape: &Shape, subject: &Subject) -> Option<Peer> {
    let key = match subject {
        Subject::Sent(key)
        | Subject::Received(key)
        | Subject::Balance(key)
        | Subject::Level(key) => key,
        Subject::Feature(id) if *id == feature::BYTES_OUT_INITIATED => {
            let out = shape.flows.iter().filter(|f| matches!(f.key, FlowKey::Out(_)));
            return out.max_by(|a, b| a.bytes_out.total_cmp(&b.bytes_out)).map(|f| f.peer);
        }
        _ => return None,
    };
    shape
        .flows
        .iter()
        .filter(|f| f.key == *key)
        .max_by(|a, b| a.bytes_out.total_cmp(&b.bytes_out))
        .map(|f| f.peer)
}

/// The smallest scale of a quantity.
fn floor(subject: &Subject) -> f64 {
    match subject {
        Subject::Feature(id) => compare(*id).map_or(0.7, |c| c.floor),
        // What a workload fetches varies more than what it sends: a factor of four.
        Subject::Received(_) => 1.4,
        _ => 0.7,
    }
}

fn name(subject: &Subject, peer: Option<Peer>) -> String {
    let to = |key: &FlowKey| match (key, peer) {
        (FlowKey::Out(Key::ConnectWorkload(workload, port, _)), Some(peer)) => {
            format!("{} port {port} ({})", short(workload), peer.address)
        }
        (FlowKey::In(port, protocol), _) => format!("callers of port {port}/{protocol}"),
        (_, Some(peer)) => peer.to_string(),
        (_, None) => "a peer".into(),
    };
    match subject {
        Subject::Feature(id) => feature::feature(*id)
            .map_or_else(|| format!("feature {}", id.0), |f| f.name.replace('_', " ")),
        Subject::Sent(key) => format!("bytes sent per connection to {}", to(key)),
        Subject::Received(key) => format!("bytes received per connection from {}", to(key)),
        Subject::Balance(key) => format!("bytes sent over bytes received with {}", to(key)),
        Subject::Answer(key) => format!("bytes received over bytes sent with {}", to(key)),
        Subject::Level(key) => format!("bytes sent to {}", to(key)),
        Subject::Demand(_) => "demand of inbound peers".into(),
    }
}

/// The owner's part of a workload's full name.
fn short(workload: &str) -> String {
    workload
        .parse::<bulkhead_domain::WorkloadName>()
        .map_or_else(|_| workload.to_owned(), |name| name.short())
}

fn in_words(subject: &Subject, value: f64) -> String {
    match subject {
        Subject::Feature(id) => {
            let smooth = compare(*id).map_or(0.0, |c| c.smooth);
            let value = if smooth > 0.0 { (value.exp() - smooth).max(0.0) } else { value };
            quantity(value, feature::feature(*id).map_or("", |f| f.unit))
        }
        Subject::Balance(_) | Subject::Answer(_) => format!("{:.1} to 1", value.exp()),
        Subject::Level(_) => quantity((value.exp() - 16_384.0).max(0.0), "bytes"),
        Subject::Sent(_) | Subject::Received(_) => {
            quantity((value.exp() - FLOW_SMOOTH).max(0.0), "bytes")
        }
        Subject::Demand(i) => quantity(
            (value.exp() - demand_smooth(*i)).max(0.0),
            if *i == 0 { "connections" } else { "bytes" },
        ),
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_domain::net::Protocol;

    use super::*;

    fn peer(port: u16) -> Peer {
        Peer { address: [10, 0, 0, 9].into(), port, protocol: Protocol::TCP }
    }

    fn out(port: u16, bytes_out: f64, bytes_in: f64, connections: f64) -> Flow {
        let peer = peer(port);
        let key = FlowKey::Out(Key::ConnectAddress(peer.address, port, peer.protocol));
        Flow { key, peer, bytes_out, bytes_in, connections }
    }

    fn inbound(bytes_out: f64, bytes_in: f64, connections: f64) -> Flow {
        Flow {
            key: FlowKey::In(8080, Protocol::TCP),
            peer: peer(0),
            bytes_out,
            bytes_in,
            connections,
        }
    }

    /// An application: asked by clients, asks a cache on one connection, puts objects into a store.
    fn app(load: f64, objects: f64) -> Shape {
        let features = vec![
            (feature::SYSCALLS, 9000.0 * load),
            (feature::SYSCALL_KINDS, 40.0),
            (feature::NGRAMS, 300.0),
            (feature::CONNECTS, 3.0 * load),
            (feature::CONNECT_PORTS, 2.0),
            (feature::BYTES_OUT, 400_000.0 * load),
            (feature::DNS_QUESTIONS, 2.0 * load),
            (feature::DNS_NAMES, 2.0),
            (feature::DNS_NAME_BYTES, 9.0),
        ];
        let flows = vec![
            inbound(300_000.0 * load, 60_000.0 * load, 150.0 * load),
            out(6379, 50_000.0 * load, 70_000.0 * load, 0.0),
            out(9000, 20_000.0 * objects, 900.0 * objects, objects),
        ];
        Shape { features, flows }
    }

    fn learned() -> Volume {
        let mut volume = Volume::default();
        for index in 0..36 {
            let load = 1.0 + 0.3 * f64::from((index * 7 % 5) as u8) / 5.0;
            let shape = app(load, f64::from((index % 3) as u8));
            volume.learn(&Lesson { origin: Origin { replica: 0, index, block: index / 2 }, shape });
        }
        volume.fit();
        volume
    }

    fn score(volume: &Volume, shape: &Shape) -> f64 {
        volume.score(&Sample { shape, doubt: Doubt::default() }).unwrap().score
    }

    #[test]
    fn before_a_fit_it_abstains() {
        assert!(
            Volume::default()
                .score(&Sample { shape: &app(1.0, 1.0), doubt: Doubt::default() })
                .is_none()
        );
    }

    #[test]
    fn a_tenfold_burst_of_demand_is_normal() {
        let volume = learned();
        assert!(score(&volume, &app(13.0, 4.0)) < 0.5, "{}", score(&volume, &app(13.0, 4.0)));
    }

    #[test]
    fn demand_from_outside_explains_what_no_burst_would() {
        let volume = learned();
        assert!(score(&volume, &app(100.0, 5.0)) < 1.0);
        let mut alone = app(100.0, 5.0);
        alone.flows[0] = inbound(300_000.0, 60_000.0, 150.0);
        assert!(score(&volume, &alone) > 1.0);
    }

    #[test]
    fn silence_is_normal() {
        assert!(score(&learned(), &Shape::default()).abs() < f64::EPSILON);
    }

    #[test]
    fn fifty_megabytes_to_a_known_store_stand_out_as_bytes_per_connection() {
        let volume = learned();
        let mut shape = app(1.0, 1.0);
        shape.flows[2] = out(9000, 52e6, 1.4e6, 1.0);
        let evidence = volume.score(&Sample { shape: &shape, doubt: Doubt::default() }).unwrap();
        assert!(evidence.score > 6.0, "{}", evidence.score);
        assert!(
            evidence.parts[0].subject.starts_with("bytes sent per connection to 10.0.0.9:9000"),
            "{evidence:#?}"
        );
        assert_eq!(evidence.parts[0].observed, "49.6 MiB");
    }

    #[test]
    fn an_upload_over_a_kept_connection_stands_out_too() {
        let volume = learned();
        let mut shape = app(1.0, 1.0);
        shape.flows[1] = out(6379, 52e6, 1.4e6, 0.0);
        assert!(score(&volume, &shape) > 4.0, "{}", score(&volume, &shape));
    }

    #[test]
    fn a_scan_and_a_tunnel_change_shapes_that_no_burst_changes() {
        let volume = learned();
        let mut scan = app(1.0, 1.0);
        scan.features.retain(|(id, _)| *id != feature::CONNECT_PORTS);
        scan.features.push((feature::CONNECT_PORTS, 200.0));
        assert!(score(&volume, &scan) > 4.0);
        let mut tunnel = app(1.0, 1.0);
        tunnel.features.retain(|(id, _)| {
            ![feature::DNS_NAMES, feature::DNS_NAME_BYTES, feature::DNS_QUESTIONS].contains(id)
        });
        tunnel.features.extend([
            (feature::DNS_NAMES, 80.0),
            (feature::DNS_NAME_BYTES, 60.0),
            (feature::DNS_QUESTIONS, 80.0),
        ]);
        assert!(score(&volume, &tunnel) > 5.0);
    }

    #[test]
    fn a_start_up_is_not_judged_by_its_processes_but_by_its_traffic() {
        let volume = learned();
        let mut shape = app(1.0, 1.0);
        shape.features.push((feature::EXECS, 4000.0));
        let doubt = Doubt { process: true, retries: false };
        let judged = |doubt| volume.score(&Sample { shape: &shape, doubt }).unwrap().score;
        assert!(judged(Doubt::default()) > 1.0);
        assert!(judged(doubt) < 0.5);
        shape.flows[2] = out(9000, 52e6, 1.4e6, 1.0);
        assert!(volume.score(&Sample { shape: &shape, doubt }).unwrap().score > 6.0);
    }

    #[test]
    fn what_was_accepted_is_normal_until_it_is_taken_back() {
        let mut volume = learned();
        let mut shape = app(1.0, 1.0);
        shape.flows[2] = out(9000, 52e6, 1.4e6, 1.0);
        let sample = Sample { shape: &shape, doubt: Doubt::default() };
        let values: Vec<_> =
            volume.excesses(&sample).into_iter().map(|e| (e.subject, e.value)).collect();
        volume.accept(&values, Some(AlertId(1)));
        assert!(score(&volume, &shape).abs() < f64::EPSILON);
        volume.retract(AlertId(1));
        assert!(score(&volume, &shape) > 6.0);
    }

    #[test]
    fn held_out_scores_come_from_models_without_their_block() {
        let mut volume = Volume::default();
        for index in 0..20 {
            let objects = if index / 2 == 3 { 5000.0 } else { 1.0 };
            let mut shape = app(1.0, 1.0);
            shape.flows[2] = out(9000, 20_000.0 * objects, 900.0, 1.0);
            volume.learn(&Lesson { origin: Origin { replica: 0, index, block: index / 2 }, shape });
        }
        volume.fit();
        let held_out = volume.held_out();
        assert_eq!(held_out.len(), 20);
        assert!(held_out.iter().filter(|h| h.block == 3).all(|h| h.score > 5.0));
        assert!(held_out.iter().filter(|h| h.block != 3).all(|h| h.score < 1.0));
    }
}
