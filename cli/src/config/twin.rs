//! What a person writes in TOML: every key optional, unknown keys refused.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_domain::budget::AlertBudget;
use bulkhead_domain::net::PeerMatch;
use bulkhead_domain::{Mode, duration};
use serde::{Deserialize, Deserializer, de};

/// A value written as text and read by its own parser, whose message says what to write.
macro_rules! text {
    ($name:ident, $inner:ty, $parse:expr) => {
        #[doc = concat!("A `", stringify!($inner), "` as text.")]
        #[derive(Clone, Debug)]
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $parse(&text).map(Self).map_err(de::Error::custom)
            }
        }
    };
}

text!(DurationText, Duration, duration::parse);
text!(PeerText, PeerMatch, str::parse::<PeerMatch>);
text!(BudgetText, AlertBudget, str::parse::<AlertBudget>);

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) cluster: Option<String>,
    pub(super) node: Option<String>,
    pub(super) paths: Paths,
    pub(super) collector: Collector,
    pub(super) detection: Detection,
    pub(super) guardrails: Guardrails,
    pub(super) enforcement: Enforcement,
    pub(super) controller: Controller,
    pub(super) api: Api,
    pub(super) bus: Bus,
}

/// Names of the sections, for `BULKHEAD_<SECTION>_<KEY>`.
pub(super) const SECTIONS: [&str; 8] =
    ["paths", "collector", "detection", "guardrails", "enforcement", "controller", "api", "bus"];

/// `[paths]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Paths {
    pub(super) state: Option<PathBuf>,
    pub(super) run: Option<PathBuf>,
    pub(super) pins: Option<PathBuf>,
    pub(super) cgroup_root: Option<PathBuf>,
}

/// `[collector]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Collector {
    pub(super) step: Option<DurationText>,
    pub(super) docker: Option<Vec<PathBuf>>,
    pub(super) podman: Option<Vec<PathBuf>>,
    pub(super) podman_roots: Option<Vec<PathBuf>>,
    pub(super) runc_roots: Option<Vec<PathBuf>>,
    pub(super) cgroup_parents: Option<Vec<String>>,
    pub(super) units: Option<Vec<String>>,
    pub(super) containers_max: Option<u32>,
}

/// `[detection]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Detection {
    pub(super) budget: Option<BudgetText>,
    pub(super) behaviours_share: Option<f64>,
    pub(super) block: Option<DurationText>,
    pub(super) novelty_per_day: Option<f64>,
    pub(super) kind_cap: Option<u32>,
    pub(super) blocks_min: Option<u64>,
    pub(super) after_learning: Option<Mode>,
    pub(super) until_mature: Option<bool>,
    pub(super) learn_for: Option<DurationText>,
    pub(super) learn_at_least: Option<DurationText>,
    pub(super) loss_ratio_max: Option<f64>,
    pub(super) quiet_windows: Option<u32>,
    pub(super) start_up: Option<DurationText>,
    pub(super) aftermath: Option<DurationText>,
    pub(super) snapshot_every: Option<DurationText>,
    pub(super) seed: Option<u64>,
}

/// `[guardrails]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Guardrails {
    pub(super) protected: Option<Vec<PeerText>>,
    pub(super) protect: Option<Vec<String>>,
    pub(super) measures_per_minute_max: Option<u32>,
    pub(super) replicas_share_max: Option<f64>,
    pub(super) ttl_ladder: Option<Vec<DurationText>>,
    pub(super) manual_ttl: Option<DurationText>,
    pub(super) evidence_age_max: Option<DurationText>,
}

/// `[enforcement]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Enforcement {
    pub(super) node_critical: Option<Vec<PeerText>>,
    pub(super) quarantine_allow: Option<Vec<PeerText>>,
    pub(super) measures_max: Option<u32>,
}

/// `[controller]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Controller {
    pub(super) user: Option<String>,
}

/// `[api]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Api {
    pub(super) read_group: Option<String>,
    pub(super) write_group: Option<String>,
}

/// `[bus]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Bus {
    pub(super) retention: Option<DurationText>,
    pub(super) retention_mib: Option<u32>,
}
