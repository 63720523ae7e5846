//! The alert budget: how many alerts a person will look at when nothing is wrong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Alerts per day that are acceptable when nothing is wrong. Thresholds follow from it.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AlertBudget {
    per_day: f64,
}

/// Why a text is not a budget.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is not an alert budget: write a positive number per unit, as in 5/day, 1/week or 2/hour"
)]
pub struct BudgetError(String);

impl AlertBudget {
    /// A budget of so many alerts a day; `None` unless positive and finite.
    pub fn per_day(alerts: f64) -> Option<Self> {
        (alerts.is_finite() && alerts > 0.0).then_some(Self { per_day: alerts })
    }

    /// Alerts per day.
    pub fn alerts_per_day(self) -> f64 {
        self.per_day
    }
}

impl Default for AlertBudget {
    /// Five alerts a day for the whole node: about what one person reads with care beside other work.
    fn default() -> Self {
        Self { per_day: 5.0 }
    }
}

impl fmt::Display for AlertBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/day", self.per_day)
    }
}

impl FromStr for AlertBudget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let refuse = || BudgetError(crate::text::printable(text, 40));
        let (number, unit) = text.split_once('/').ok_or_else(refuse)?;
        let number: f64 = number.trim().parse().map_err(|_| refuse())?;
        let days = match unit.trim() {
            "hour" => 1.0 / 24.0,
            "day" => 1.0,
            "week" => 7.0,
            _ => return Err(refuse()),
        };
        Self::per_day(number / days).ok_or_else(refuse)
    }
}

impl From<AlertBudget> for String {
    fn from(budget: AlertBudget) -> Self {
        budget.to_string()
    }
}

impl TryFrom<String> for AlertBudget {
    type Error = BudgetError;

    fn try_from(text: String) -> Result<Self, BudgetError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rates_per_hour_day_and_week() {
        for (text, per_day) in [("5/day", 5.0), ("1/week", 1.0 / 7.0), ("2/hour", 48.0)] {
            assert!(
                (text.parse::<AlertBudget>().unwrap().alerts_per_day() - per_day).abs() < 1e-12
            );
        }
        for text in ["", "5", "0/day", "-1/day", "inf/day", "5/month"] {
            assert!(text.parse::<AlertBudget>().is_err(), "{text}");
        }
    }
}
