//! What replicas have in common: the name under which behaviour is learned.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Where a workload's name comes from, in order of precedence (DESIGN.md, "workload").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnerKind {
    /// A Kubernetes owner (Deployment, StatefulSet, …).
    Kubernetes,
    /// A compose or swarm service.
    Service,
    /// A systemd or quadlet unit.
    Unit,
    /// The label `bulkhead.workload`.
    Label,
    /// Image repository and entrypoint.
    Image,
}

impl OwnerKind {
    /// The word for this kind in a workload's name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Service => "service",
            Self::Unit => "unit",
            Self::Label => "label",
            Self::Image => "image",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Kubernetes, Self::Service, Self::Unit, Self::Label, Self::Image]
            .into_iter()
            .find(|k| k.word() == word)
    }
}

/// The full name of a workload; a pod's or container's own name and the image digest are never part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct WorkloadName {
    /// Cluster, `local` on a single machine.
    pub cluster: String,
    /// Namespace, compose project or host.
    pub scope: String,
    /// Where the owner's name comes from.
    pub kind: OwnerKind,
    /// Owner's name.
    pub owner: String,
    /// Container's name within the owner; empty when the owner has only one.
    pub container: String,
}

/// Stable 64-bit identity of a workload: the first eight bytes of SHA-256 of its full name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkloadId(pub u64);

impl WorkloadName {
    /// The identity that kernel maps and partitions use.
    pub fn id(&self) -> WorkloadId {
        WorkloadId(hash64(self.to_string().as_bytes()))
    }

    /// The short form for a table: owner and container, as people call it.
    pub fn short(&self) -> String {
        if self.container.is_empty() {
            self.owner.clone()
        } else {
            format!("{}/{}", self.owner, self.container)
        }
    }
}

/// The first eight bytes of SHA-256, big endian: the project's one way from a text to a 64-bit id.
pub fn hash64(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 digest has 32 bytes"))
}

impl fmt::Display for WorkloadName {
    /// `cluster/scope/kind/owner/container`, with `/` and `%` inside a part escaped as `%2F` and `%25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}/{}",
            escape(&self.cluster),
            escape(&self.scope),
            self.kind.word(),
            escape(&self.owner),
            escape(&self.container)
        )
    }
}

fn escape(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

fn unescape(part: &str) -> String {
    part.replace("%2F", "/").replace("%25", "%")
}

/// A text that is not a workload's full name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "not a workload name: expected cluster/scope/kind/owner/container with kind of kubernetes, service, unit, label or image"
)]
pub struct WorkloadNameError;

impl FromStr for WorkloadName {
    type Err = WorkloadNameError;

    fn from_str(text: &str) -> Result<Self, WorkloadNameError> {
        let parts: Vec<&str> = text.split('/').collect();
        let [cluster, scope, kind, owner, container] = parts[..] else {
            return Err(WorkloadNameError);
        };
        Ok(Self {
            cluster: unescape(cluster),
            scope: unescape(scope),
            kind: OwnerKind::from_word(kind).ok_or(WorkloadNameError)?,
            owner: unescape(owner),
            container: unescape(container),
        })
    }
}

impl From<WorkloadName> for String {
    fn from(name: WorkloadName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for WorkloadName {
    type Error = WorkloadNameError;

    fn try_from(text: String) -> Result<Self, WorkloadNameError> {
        text.parse()
    }
}

/// What the loop does with a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The baseline grows; nothing is applied. What is never learned by repetition alerts even here.
    #[default]
    Learn,
    /// Alerts name the measure they would have led to.
    Detect,
    /// The planner's measures are applied.
    Enforce,
}

impl Mode {
    /// The word for this mode on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Learn => "learn",
            Self::Detect => "detect",
            Self::Enforce => "enforce",
        }
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        [Self::Learn, Self::Detect, Self::Enforce]
            .into_iter()
            .find(|m| m.word() == text)
            .ok_or(ModeError)
    }
}

/// A text that is not a mode.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a mode: use learn, detect or enforce")]
pub struct ModeError;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(owner: &str) -> WorkloadName {
        WorkloadName {
            cluster: "local".into(),
            scope: "shop".into(),
            kind: OwnerKind::Image,
            owner: owner.into(),
            container: String::new(),
        }
    }

    #[test]
    fn a_name_with_slashes_and_percents_reads_back() {
        for owner in ["web", "localhost/shop/app", "a%2Fb", "100%"] {
            let name = name(owner);
            assert_eq!(name.to_string().parse::<WorkloadName>().unwrap(), name);
        }
    }

    #[test]
    fn different_names_have_different_ids() {
        assert_ne!(name("a/b").id(), name("a%2Fb").id());
    }

    #[test]
    fn refuses_a_text_with_another_shape() {
        for text in ["", "web", "a/b/c", "local/x/pod/web/", "a/b/image/c/d/e"] {
            assert_eq!(text.parse::<WorkloadName>(), Err(WorkloadNameError), "{text}");
        }
    }
}
