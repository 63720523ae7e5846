//! From what an engine says to the workload's name, by the precedence of the design: Kubernetes owner, compose or swarm
//! service, systemd or quadlet unit, the label `bulkhead.workload`, else image repository and entrypoint.
//!
//! Whoever may start containers chooses labels, so a name says what somebody *claims* to run; the image's repository is
//! kept beside it, and another repository under a known name is the detector's to judge.

use bulkhead_domain::WorkloadName;
use bulkhead_domain::workload::OwnerKind;

use super::description::Description;

/// Where this node's workloads live when nothing narrower is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Cluster, `local` on a single machine.
    pub cluster: String,
    /// Node name: the scope of what belongs to no project.
    pub node: String,
}

/// The workload that a container belongs to.
pub fn name(place: &Place, of: &Description) -> WorkloadName {
    kubernetes(of)
        .or_else(|| compose(of))
        .or_else(|| swarm(of))
        .or_else(|| unit(place, of))
        .or_else(|| label(place, of))
        .unwrap_or_else(|| image(place, of))
        .within(&place.cluster)
}

/// A name whose cluster is still open.
struct Parts {
    scope: String,
    kind: OwnerKind,
    owner: String,
    container: String,
}

impl Parts {
    fn within(self, cluster: &str) -> WorkloadName {
        WorkloadName {
            cluster: cluster.into(),
            scope: self.scope,
            kind: self.kind,
            owner: self.owner,
            container: self.container,
        }
    }
}

fn kubernetes(of: &Description) -> Option<Parts> {
    let pod = of.labels.get("io.kubernetes.pod.name")?;
    let scope = of.labels.get("io.kubernetes.pod.namespace")?;
    let sandbox = of.labels.get("io.cri-containerd.kind").is_some_and(|kind| kind == "sandbox")
        || of.labels.get("io.kubernetes.docker.type").is_some_and(|kind| kind == "podsandbox");
    let container = match of.labels.get("io.kubernetes.container.name") {
        Some(container) if !sandbox => container.clone(),
        _ => "pod-sandbox".into(),
    };
    Some(Parts {
        scope: scope.clone(),
        kind: OwnerKind::Kubernetes,
        owner: pod_owner(pod).into(),
        container,
    })
}

/// The owner in a pod's name: without the random suffix, a `ReplicaSet`'s hash, or a StatefulSet's ordinal.
///
/// Runtimes pass on no owner references. Kubernetes draws suffixes from 27 letters and digits without vowels
/// (`k8s.io/apimachinery/pkg/util/rand`), five for a pod and up to ten for a `ReplicaSet`'s hash, so names that people
/// choose seldom end like one.
fn pod_owner(pod: &str) -> &str {
    let generated = |part: &str| part.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b));
    let Some((owner, last)) = pod.rsplit_once('-') else { return pod };
    if !last.is_empty() && last.len() <= 4 && last.bytes().all(|b| b.is_ascii_digit()) {
        return owner;
    }
    if last.len() != 5 || !generated(last) {
        return pod;
    }
    match owner.rsplit_once('-') {
        Some((deployment, hash)) if (6..=10).contains(&hash.len()) && generated(hash) => deployment,
        _ => owner,
    }
}

fn compose(of: &Description) -> Option<Parts> {
    let service = of.labels.get("com.docker.compose.service")?;
    let project = of
        .labels
        .get("com.docker.compose.project")
        .or_else(|| of.labels.get("io.podman.compose.project"))?;
    Some(Parts {
        scope: project.clone(),
        kind: OwnerKind::Service,
        owner: service.clone(),
        container: String::new(),
    })
}

fn swarm(of: &Description) -> Option<Parts> {
    let service = of.labels.get("com.docker.swarm.service.name")?;
    let stack = of.labels.get("com.docker.stack.namespace");
    let (scope, owner) = match stack {
        // A stack's services are named `stack_service`.
        Some(stack) => {
            let owner = service.strip_prefix(stack.as_str()).and_then(|s| s.strip_prefix('_'));
            (stack.clone(), owner.unwrap_or(service).to_owned())
        }
        None => ("swarm".into(), service.clone()),
    };
    Some(Parts { scope, kind: OwnerKind::Service, owner, container: String::new() })
}

fn unit(place: &Place, of: &Description) -> Option<Parts> {
    let unit = of.unit.as_ref().or_else(|| of.labels.get("PODMAN_SYSTEMD_UNIT"))?;
    Some(Parts {
        scope: place.node.clone(),
        kind: OwnerKind::Unit,
        owner: without_instance(unit),
        container: String::new(),
    })
}

/// A template's instances are replicas of one unit: `web@1.service` and `web@2.service` are `web@.service`.
fn without_instance(unit: &str) -> String {
    match (unit.split_once('@'), unit.rsplit_once('.')) {
        (Some((template, _)), Some((_, suffix))) => format!("{template}@.{suffix}"),
        _ => unit.into(),
    }
}

fn label(place: &Place, of: &Description) -> Option<Parts> {
    Some(Parts {
        scope: place.node.clone(),
        kind: OwnerKind::Label,
        owner: of.labels.get("bulkhead.workload")?.clone(),
        container: String::new(),
    })
}

fn image(place: &Place, of: &Description) -> Parts {
    let (owner, container) = if of.image.is_empty() {
        // No engine: the name that the cgroup has is all there is.
        (of.name.clone(), String::new())
    } else {
        (of.image.clone(), entrypoint(&of.command))
    };
    Parts { scope: place.node.clone(), kind: OwnerKind::Image, owner, container }
}

/// What tells the roles of one image apart: the program, and the script it runs when that is its first argument.
///
/// Options, URLs and assignments are left out: they vary between replicas, and may be secrets.
fn entrypoint(command: &[String]) -> String {
    let base = |word: &String| word.rsplit('/').next().unwrap_or(word).to_owned();
    let Some(program) = command.first() else { return String::new() };
    match command.get(1) {
        Some(word)
            if !word.starts_with('-')
                && !word.contains([' ', '=', ':', '\\'])
                && word.len() <= 64 =>
        {
            format!("{} {}", base(program), base(word))
        }
        _ => base(program),
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_domain::container::Engine;

    use super::*;

    fn place() -> Place {
        Place { cluster: "local".into(), node: "harbour".into() }
    }

    fn named(labels: &[(&str, &str)], image: &str, command: &[&str]) -> String {
        let of = Description {
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            image: image.into(),
            command: command.iter().map(|w| (*w).into()).collect(),
            ..Description::bare(Engine::Docker, "0123456789ab")
        };
        name(&place(), &of).to_string()
    }

    #[test]
    fn the_narrowest_owner_wins_over_the_others() {
        let kubernetes = [
            ("io.kubernetes.pod.name", "web-7d9f8b6c5d-x2x4z"),
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.container.name", "app"),
        ];
        let compose =
            [("com.docker.compose.project", "shop"), ("com.docker.compose.service", "web")];
        let unit = [("PODMAN_SYSTEMD_UNIT", "web.service")];
        let label = [("bulkhead.workload", "web")];
        let all = [&kubernetes[..], &compose, &unit, &label].concat();
        assert_eq!(named(&all, "app", &[]), "local/shop/kubernetes/web/app");
        assert_eq!(named(&all[3..], "app", &[]), "local/shop/service/web/");
        assert_eq!(named(&all[5..], "app", &[]), "local/harbour/unit/web.service/");
        assert_eq!(named(&all[6..], "app", &[]), "local/harbour/label/web/");
        assert_eq!(named(&[], "app", &["/bin/app"]), "local/harbour/image/app/app");
    }

    #[test]
    fn pods_of_one_owner_share_its_name() {
        for (pod, owner) in [
            ("web-7d9f8b6c5d-x2x4z", "web"),
            ("web-7d9f8b6c5d-bbbbb", "web"),
            ("node-exporter-x2x4z", "node-exporter"),
            ("db-0", "db"),
            ("db-12", "db"),
            ("standalone", "standalone"),
            ("my-handmade-pod", "my-handmade-pod"),
        ] {
            assert_eq!(pod_owner(pod), owner, "{pod}");
        }
    }

    #[test]
    fn a_pod_sandbox_is_a_container_of_its_own() {
        let labels = [
            ("io.kubernetes.pod.name", "db-0"),
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.cri-containerd.kind", "sandbox"),
        ];
        assert_eq!(named(&labels, "pause", &[]), "local/shop/kubernetes/db/pod-sandbox");
    }

    #[test]
    fn a_stack_is_the_scope_of_its_services() {
        let labels =
            [("com.docker.swarm.service.name", "shop_web"), ("com.docker.stack.namespace", "shop")];
        assert_eq!(named(&labels, "app", &[]), "local/shop/service/web/");
        assert_eq!(named(&labels[..1], "app", &[]), "local/swarm/service/shop_web/");
    }

    #[test]
    fn instances_of_a_template_are_one_workload() {
        let of = |unit| named(&[("PODMAN_SYSTEMD_UNIT", unit)], "", &[]);
        assert_eq!(of("web@1.service"), of("web@2.service"));
        assert_eq!(of("web@1.service"), "local/harbour/unit/web@.service/");
    }

    #[test]
    fn roles_of_one_image_are_told_apart_by_what_they_run() {
        let of = |command: &[&str]| named(&[], "localhost/shop/app", command);
        assert_eq!(
            of(&["/usr/bin/python3", "/srv/web.py"]),
            "local/harbour/image/localhost%2Fshop%2Fapp/python3 web.py"
        );
        assert_ne!(of(&["python3", "/srv/web.py"]), of(&["python3", "/srv/worker.py"]));
        assert_eq!(
            of(&["curl", "https://token@198.51.100.7/"]),
            of(&["curl", "-v"]),
            "no secrets in names"
        );
        assert_eq!(of(&["sh", "-c"]), "local/harbour/image/localhost%2Fshop%2Fapp/sh");
    }

    #[test]
    fn without_an_image_the_cgroup_names_it() {
        assert_eq!(named(&[], "", &[]), "local/harbour/image/0123456789ab/");
    }
}
