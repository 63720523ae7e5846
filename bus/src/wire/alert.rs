//! Alerts, with their evidence in ranked shares.

use bulkhead_domain::alert::{Alert, AlertClass, Contribution, Response, Review};
use bulkhead_domain::score::{Score, Threshold, View};
use bulkhead_domain::{AlertId, MeasureId, Timestamp};

use super::behaviour::ActWire;
use super::container::ContainerKeyWire;
use super::measure::ProposalWire;
use super::net::PeerWire;
use super::observation::EventIdWire;
use super::process::ProcessWire;
use super::{Unreadable, known, mode, mode_number, need, workload};

/// The type of an alert.
pub(crate) const TYPE: &str = "bulkhead.alert";

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContributionWire {
    /// 1 novelty, 2 sequence, 3 volume.
    #[prost(uint32, tag = "1")]
    pub(crate) view: u32,
    #[prost(string, tag = "2")]
    pub(crate) subject: String,
    #[prost(string, tag = "3")]
    pub(crate) observed: String,
    #[prost(string, tag = "4")]
    pub(crate) expected: String,
    #[prost(double, tag = "5")]
    pub(crate) share: f64,
    #[prost(message, optional, tag = "6")]
    pub(crate) act: Option<ActWire>,
    #[prost(message, optional, tag = "7")]
    pub(crate) peer: Option<PeerWire>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct ThresholdWire {
    #[prost(double, tag = "1")]
    pub(crate) score: f64,
    #[prost(bool, tag = "2")]
    pub(crate) extrapolated: bool,
    #[prost(double, optional, tag = "3")]
    pub(crate) low: Option<f64>,
    #[prost(double, optional, tag = "4")]
    pub(crate) high: Option<f64>,
    #[prost(uint64, tag = "5")]
    pub(crate) blocks: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TookWire {
    #[prost(fixed64, repeated, tag = "1")]
    pub(crate) measures: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HeldBackWire {
    #[prost(message, optional, tag = "1")]
    pub(crate) proposal: Option<ProposalWire>,
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
}

/// What was done; absent is nothing.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum ResponseWire {
    #[prost(message, tag = "40")]
    Would(ProposalWire),
    #[prost(message, tag = "41")]
    Took(TookWire),
    #[prost(message, tag = "42")]
    HeldBack(HeldBackWire),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AcceptedWire {
    #[prost(string, tag = "1")]
    pub(crate) who: String,
    #[prost(string, tag = "2")]
    pub(crate) why: String,
}

/// What a person has said; absent is nothing yet.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum ReviewWire {
    #[prost(message, tag = "50")]
    Accepted(AcceptedWire),
    #[prost(string, tag = "51")]
    Muted(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AlertWire {
    #[prost(fixed64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) revision: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) class: u32,
    #[prost(string, tag = "4")]
    pub(crate) workload: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) container: Option<ContainerKeyWire>,
    #[prost(string, tag = "6")]
    pub(crate) container_name: String,
    #[prost(fixed64, tag = "7")]
    pub(crate) first_ns: u64,
    #[prost(fixed64, tag = "8")]
    pub(crate) last_ns: u64,
    #[prost(message, optional, tag = "9")]
    pub(crate) evidence: Option<EventIdWire>,
    #[prost(uint64, tag = "10")]
    pub(crate) exceedances: u64,
    #[prost(bool, tag = "11")]
    pub(crate) closed: bool,
    #[prost(string, tag = "12")]
    pub(crate) title: String,
    #[prost(double, tag = "13")]
    pub(crate) score: f64,
    #[prost(message, optional, tag = "14")]
    pub(crate) threshold: Option<ThresholdWire>,
    #[prost(bool, tag = "15")]
    pub(crate) provisional: bool,
    #[prost(message, repeated, tag = "16")]
    pub(crate) contributions: Vec<ContributionWire>,
    #[prost(string, tag = "17")]
    pub(crate) nearest_normal: String,
    #[prost(message, optional, tag = "18")]
    pub(crate) process: Option<ProcessWire>,
    #[prost(double, tag = "19")]
    pub(crate) loss_ratio: f64,
    #[prost(uint64, tag = "20")]
    pub(crate) baseline_version: u64,
    #[prost(string, tag = "21")]
    pub(crate) model_version: String,
    #[prost(string, repeated, tag = "22")]
    pub(crate) techniques: Vec<String>,
    #[prost(uint32, tag = "23")]
    pub(crate) mode: u32,
    #[prost(message, optional, tag = "24")]
    pub(crate) proposal: Option<ProposalWire>,
    #[prost(oneof = "ResponseWire", tags = "40, 41, 42")]
    pub(crate) response: Option<ResponseWire>,
    #[prost(oneof = "ReviewWire", tags = "50, 51")]
    pub(crate) review: Option<ReviewWire>,
}

const CLASSES: [(AlertClass, u32); 5] = [
    (AlertClass::Deviation, 1),
    (AlertClass::Forbidden, 2),
    (AlertClass::Blinded, 3),
    (AlertClass::Health, 4),
    (AlertClass::Identity, 5),
];

const VIEWS: [(View, u32); 3] = [(View::Novelty, 1), (View::Sequence, 2), (View::Volume, 3)];

fn number<T: Copy + PartialEq>(table: &[(T, u32)], value: T) -> u32 {
    table.iter().find(|(v, _)| *v == value).map(|(_, n)| *n).expect("the table holds every value")
}

fn value<T: Copy>(field: &'static str, table: &[(T, u32)], number: u32) -> Result<T, Unreadable> {
    known(field, number, table.iter().find(|(_, n)| *n == number).map(|(v, _)| *v))
}

impl From<&Contribution> for ContributionWire {
    fn from(part: &Contribution) -> Self {
        Self {
            view: number(&VIEWS, part.view),
            subject: part.subject.clone(),
            observed: part.observed.clone(),
            expected: part.expected.clone(),
            share: part.share,
            act: part.act.as_ref().map(Into::into),
            peer: part.peer.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<ContributionWire> for Contribution {
    type Error = Unreadable;

    fn try_from(wire: ContributionWire) -> Result<Self, Unreadable> {
        Ok(Self {
            view: value("view", &VIEWS, wire.view)?,
            subject: wire.subject,
            observed: wire.observed,
            expected: wire.expected,
            share: wire.share,
            act: wire.act.map(TryInto::try_into).transpose()?,
            peer: wire.peer.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<Threshold> for ThresholdWire {
    fn from(threshold: Threshold) -> Self {
        Self {
            score: threshold.score.0,
            extrapolated: threshold.extrapolated,
            low: threshold.interval.map(|(low, _)| low),
            high: threshold.interval.map(|(_, high)| high),
            blocks: threshold.blocks,
        }
    }
}

impl From<ThresholdWire> for Threshold {
    fn from(wire: ThresholdWire) -> Self {
        Self {
            score: Score(wire.score),
            extrapolated: wire.extrapolated,
            interval: wire.low.zip(wire.high),
            blocks: wire.blocks,
        }
    }
}

fn response_wire(response: &Response) -> Option<ResponseWire> {
    match response {
        Response::None => None,
        Response::Would(proposal) => Some(ResponseWire::Would(proposal.into())),
        Response::Took(ids) => {
            Some(ResponseWire::Took(TookWire { measures: ids.iter().map(|id| id.0).collect() }))
        }
        Response::HeldBack { proposal, reason } => Some(ResponseWire::HeldBack(HeldBackWire {
            proposal: Some(proposal.into()),
            reason: reason.clone(),
        })),
    }
}

fn response(wire: Option<ResponseWire>) -> Result<Response, Unreadable> {
    Ok(match wire {
        None => Response::None,
        Some(ResponseWire::Would(proposal)) => Response::Would(proposal.try_into()?),
        Some(ResponseWire::Took(took)) => {
            Response::Took(took.measures.into_iter().map(MeasureId).collect())
        }
        Some(ResponseWire::HeldBack(held)) => Response::HeldBack {
            proposal: need("proposal", held.proposal)?.try_into()?,
            reason: held.reason,
        },
    })
}

fn review_wire(review: &Review) -> Option<ReviewWire> {
    match review {
        Review::Open => None,
        Review::Accepted { who, why } => {
            Some(ReviewWire::Accepted(AcceptedWire { who: who.clone(), why: why.clone() }))
        }
        Review::Muted { who } => Some(ReviewWire::Muted(who.clone())),
    }
}

fn review(wire: Option<ReviewWire>) -> Review {
    match wire {
        None => Review::Open,
        Some(ReviewWire::Accepted(accepted)) => {
            Review::Accepted { who: accepted.who, why: accepted.why }
        }
        Some(ReviewWire::Muted(who)) => Review::Muted { who },
    }
}

impl From<&Alert> for AlertWire {
    fn from(alert: &Alert) -> Self {
        Self {
            id: alert.id.0,
            revision: alert.revision,
            class: number(&CLASSES, alert.class),
            workload: alert.workload.to_string(),
            container: alert.container.as_ref().map(Into::into),
            container_name: alert.container_name.clone(),
            first_ns: alert.first.0,
            last_ns: alert.last.0,
            evidence: Some(alert.evidence.into()),
            exceedances: alert.exceedances,
            closed: alert.closed,
            title: alert.title.clone(),
            score: alert.score.0,
            threshold: Some(alert.threshold.into()),
            provisional: alert.provisional,
            contributions: alert.contributions.iter().map(Into::into).collect(),
            nearest_normal: alert.nearest_normal.clone(),
            process: alert.process.as_ref().map(Into::into),
            loss_ratio: alert.loss_ratio,
            baseline_version: alert.baseline_version,
            model_version: alert.model_version.clone(),
            techniques: alert.techniques.clone(),
            mode: mode_number(alert.mode),
            proposal: alert.proposal.as_ref().map(Into::into),
            response: response_wire(&alert.response),
            review: review_wire(&alert.review),
        }
    }
}

impl TryFrom<AlertWire> for Alert {
    type Error = Unreadable;

    fn try_from(wire: AlertWire) -> Result<Self, Unreadable> {
        Ok(Self {
            id: AlertId(wire.id),
            revision: wire.revision,
            class: value("class", &CLASSES, wire.class)?,
            workload: workload(&wire.workload)?,
            container: wire.container.map(Into::into),
            container_name: wire.container_name,
            first: Timestamp(wire.first_ns),
            last: Timestamp(wire.last_ns),
            evidence: need("evidence", wire.evidence)?.into(),
            exceedances: wire.exceedances,
            closed: wire.closed,
            title: wire.title,
            score: Score(wire.score),
            threshold: need("threshold", wire.threshold)?.into(),
            provisional: wire.provisional,
            contributions: wire
                .contributions
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            nearest_normal: wire.nearest_normal,
            process: wire.process.map(TryInto::try_into).transpose()?,
            loss_ratio: wire.loss_ratio,
            baseline_version: wire.baseline_version,
            model_version: wire.model_version,
            techniques: wire.techniques,
            mode: mode(wire.mode)?,
            proposal: wire.proposal.map(TryInto::try_into).transpose()?,
            response: response(wire.response)?,
            review: review(wire.review),
        })
    }
}
