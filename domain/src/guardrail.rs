//! What may never be blocked, and how much may be blocked at once.

use std::time::Duration;

use crate::net::PeerMatch;

/// Bounds on automatic measures.
#[derive(Clone, Debug, PartialEq)]
pub struct Guardrails {
    /// Peers that automatic measures may not deny, such as a resolver.
    pub protected: Vec<PeerMatch>,
    /// Workloads (full or short names) that are never measured automatically.
    pub protect: Vec<String>,
    /// New automatic measures a minute, at most.
    pub measures_per_minute_max: u32,
    /// Share of a workload's replicas under quarantine at once; at least one is always allowed.
    pub replicas_share_max: f64,
    /// TTL of an automatic measure, by how often the same one came before.
    pub ttl_ladder: Vec<Duration>,
    /// TTL of a manual measure when none is given.
    pub manual_ttl: Duration,
    /// Evidence older than this may alert, and never acts.
    pub evidence_age_max: Duration,
}

impl Default for Guardrails {
    /// The design's defaults: 10 a minute, a third of the replicas, 10 m, 1 h, 1 d, 7 d; 4 h for manual ones.
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            protected: Vec::new(),
            protect: Vec::new(),
            measures_per_minute_max: 10,
            replicas_share_max: 1.0 / 3.0,
            ttl_ladder: [600, HOUR, 24 * HOUR, 168 * HOUR].map(Duration::from_secs).to_vec(),
            manual_ttl: Duration::from_secs(4 * HOUR),
            evidence_age_max: Duration::from_secs(60),
        }
    }
}
