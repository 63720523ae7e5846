//! What an operator wants.

use std::time::Duration;

use bulkhead_domain::AlertId;
use bulkhead_domain::budget::AlertBudget;
use bulkhead_domain::intent::{Intent, Wish};

use super::behaviour::ActWire;
use super::{Unreadable, known, millis, mode, mode_number, need};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct IntentWire {
    #[prost(string, tag = "1")]
    pub(crate) who: String,
    #[prost(string, tag = "2")]
    pub(crate) why: String,
    #[prost(oneof = "WishWire", tags = "10, 11, 12, 13, 14, 15, 16")]
    pub(crate) wish: Option<WishWire>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum WishWire {
    #[prost(fixed64, tag = "10")]
    AcceptAlert(u64),
    #[prost(fixed64, tag = "11")]
    RetractAlert(u64),
    #[prost(message, tag = "12")]
    AcceptAct(ActWire),
    #[prost(message, tag = "13")]
    Mute(MuteWire),
    #[prost(message, tag = "14")]
    SetMode(SetModeWire),
    #[prost(double, tag = "15")]
    SetBudgetPerDay(f64),
    #[prost(bool, tag = "16")]
    Reset(bool),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MuteWire {
    #[prost(fixed64, tag = "1")]
    pub(crate) alert: u64,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) duration_ms: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SetModeWire {
    #[prost(uint32, tag = "1")]
    pub(crate) mode: u32,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) learn_for_ms: Option<u64>,
    #[prost(bool, tag = "3")]
    pub(crate) until_mature: bool,
}

impl From<&Intent> for IntentWire {
    fn from(intent: &Intent) -> Self {
        let wish = match &intent.wish {
            Wish::AcceptAlert(id) => WishWire::AcceptAlert(id.0),
            Wish::RetractAlert(id) => WishWire::RetractAlert(id.0),
            Wish::AcceptAct(act) => WishWire::AcceptAct(act.into()),
            Wish::Mute { alert, duration } => {
                WishWire::Mute(MuteWire { alert: alert.0, duration_ms: duration.map(millis) })
            }
            Wish::SetMode { mode, learn_for, until_mature } => WishWire::SetMode(SetModeWire {
                mode: mode_number(*mode),
                learn_for_ms: learn_for.map(millis),
                until_mature: *until_mature,
            }),
            Wish::SetBudget(budget) => WishWire::SetBudgetPerDay(budget.alerts_per_day()),
            Wish::Reset => WishWire::Reset(true),
        };
        Self { who: intent.who.clone(), why: intent.why.clone(), wish: Some(wish) }
    }
}

impl TryFrom<IntentWire> for Intent {
    type Error = Unreadable;

    fn try_from(wire: IntentWire) -> Result<Self, Unreadable> {
        let wish = match need("wish", wire.wish)? {
            WishWire::AcceptAlert(id) => Wish::AcceptAlert(AlertId(id)),
            WishWire::RetractAlert(id) => Wish::RetractAlert(AlertId(id)),
            WishWire::AcceptAct(act) => Wish::AcceptAct(act.try_into()?),
            WishWire::Mute(mute) => Wish::Mute {
                alert: AlertId(mute.alert),
                duration: mute.duration_ms.map(Duration::from_millis),
            },
            WishWire::SetMode(set) => Wish::SetMode {
                mode: mode(set.mode)?,
                learn_for: set.learn_for_ms.map(Duration::from_millis),
                until_mature: set.until_mature,
            },
            WishWire::SetBudgetPerDay(alerts) => {
                Wish::SetBudget(known("budget", alerts, AlertBudget::per_day(alerts))?)
            }
            WishWire::Reset(_) => Wish::Reset,
        };
        Ok(Self { wish, who: wire.who, why: wire.why })
    }
}
