//! The acts of the siege: four attacks, and the death of the daemons.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use bulkhead_tests::{
    intruder::{self, Attack},
    service::Service,
    shop::{Shop, Visits},
};
use serde_json::Value;

use super::{
    alert::{explanation, ids},
    attend::Attended,
    closing::Closing,
    scene::Scene,
    settings::Settings,
    timeline::{self, Timeline},
};

/// The attacks in their order, and the replica that each goes through: by turns, so that a container has its quiet.
pub(crate) const ATTACKS: [(Attack, usize); 4] = [
    (Attack::BulkExfiltration, 0),
    (Attack::PortScan, 1),
    (Attack::DnsTunnel, 0),
    (Attack::ReverseShell, 1),
];

/// How long an attack may go on before it is flagged.
const FLAGGED_MAX: Duration = Duration::from_secs(45);

/// How long a measure may take to show from inside.
const FELT_MAX: Duration = Duration::from_secs(15);

/// How late a lease may end: a second, and the pause between two attempts of the shell.
const LATE_MS_MAX: u128 = 1_300;

/// Plays every act over an application that is known. What happened is in the closing table; an error is what kept the
/// next act from being played.
pub(crate) fn play(
    timeline: &Timeline,
    attended: &Attended,
    closing: &mut Closing,
    settings: Settings,
    scene: &Scene,
    shop: &Shop,
    service: &mut Service,
) -> anyhow::Result<()> {
    let mut acts = Acts { timeline, attended, closing, settings, scene, shop, service };
    acts.attacks()?;
    acts.daemons_die()?;
    acts.served();
    Ok(())
}

struct Acts<'a> {
    timeline: &'a Timeline,
    attended: &'a Attended,
    closing: &'a mut Closing,
    settings: Settings,
    scene: &'a Scene,
    shop: &'a Shop,
    service: &'a mut Service,
}

impl Acts<'_> {
    /// Attacks, one after the other, each with its alert, its measure and its end.
    fn attacks(&mut self) -> anyhow::Result<()> {
        for (attack, replica) in ATTACKS {
            self.quiet(replica)?;
            self.attack(attack, replica)?;
        }
        Ok(())
    }

    /// Waits until no measure is in force, and until the replica's incident before is over.
    fn quiet(&self, replica: usize) -> anyhow::Result<()> {
        let limit = self.settings.quiet() + Duration::from_secs(90);
        let ended = self.attended.until(limit, || Ok(self.measures()?.is_empty().then_some(())))?;
        ended.context("a measure of the attack before is still in force")?;
        let name = self.shop.replicas[replica].name.as_str();
        let over = self.attended.until(limit, || {
            let alerts = self.service.ask(&["alerts", "list"])?;
            let mut open = alerts
                .as_array()
                .into_iter()
                .flatten()
                .filter(|alert| alert["container_name"] == name && alert["closed"] == false);
            Ok(open.next().is_none().then_some(()))
        })?;
        over.with_context(|| format!("the incident before in {name} does not end"))
    }

    fn attack(&mut self, attack: Attack, replica: usize) -> anyhow::Result<()> {
        let name = attack.name();
        let container = &self.shop.replicas[replica];
        let known = ids(&self.service.ask(&["alerts", "list"])?);
        self.timeline.tell("attack", &format!("{name} from {}", container.name));
        let began = Instant::now();
        self.shop.inject(replica, &attack.code(self.scene.intruder, &self.siblings()))?;

        let mut alert = Value::Null;
        let (timeline, service) = (self.timeline, &*self.service);
        let flagged = self.attended.until(FLAGGED_MAX, || {
            let alerts = service.ask(&["alerts", "list"])?;
            let new = alerts.as_array().into_iter().flatten().find(|alert| {
                alert["container_name"] == container.name.as_str()
                    && !known.contains(alert["id"].as_str().unwrap_or_default())
            });
            let Some(new) = new else { return Ok(None) };
            if alert.is_null() {
                timeline.tell("alert", new["title"].as_str().unwrap_or_default());
                for line in explanation(new) {
                    timeline::more(&line);
                }
            }
            alert = new.clone();
            Ok((!measures_taken(new).is_empty()).then(|| began.elapsed().as_secs_f64()))
        })?;
        let what = format!("{name} is flagged and acted on");
        let Some(after) = flagged else {
            let why = if alert.is_null() {
                "no alert".to_owned()
            } else {
                format!("an alert without a measure: {}", alert["response"])
            };
            self.closing.row(&what, false, &why);
            return Ok(());
        };
        let taken = measures_taken(&alert);
        let measures = self.measures()?;
        let measure = measures
            .iter()
            .find(|measure| taken.iter().any(|id| measure["measure"]["id"] == id.as_str()));
        let action = measure.map_or("a measure that has ended already".to_owned(), described);
        self.timeline.tell("measure", &format!("{action}, {after:.1} s after the attack began"));
        let first = &alert["contributions"][0];
        let explained = first["share"].as_f64().is_some_and(|share| share > 0.0);
        let subject = first["subject"].as_str().unwrap_or("nothing");
        self.closing.row(&what, explained, &format!("{after:.1} s; {action}; mostly {subject}"));
        self.felt(attack, replica)
    }

    /// Whether the attack gets refused from inside, and the application is served all the same.
    fn felt(&mut self, attack: Attack, replica: usize) -> anyhow::Result<()> {
        let container = &self.shop.replicas[replica];
        let refused = self.attended.until(FELT_MAX, || {
            let told = intruder::attempts(attack, &container.logs()?);
            Ok(told.last().filter(|last| !last.ok).cloned())
        })?;
        let visits = self.shop.visits()?;
        let now = recent(&visits);
        let served = now.ok > 0 && now.ok > now.failed * 10;
        let detail = refused
            .as_ref()
            .map_or("it still gets through".to_owned(), |last| format!("it gets {}", last.cause));
        self.timeline.tell(
            "inside",
            &format!(
                "{detail}; visitors: {} answered, {} not, in the last 5 s",
                now.ok, now.failed
            ),
        );
        self.closing.row(
            &format!("{} is stopped, the shop serves", attack.name()),
            refused.is_some() && served,
            &format!("{detail}; {} requests answered, {} not", now.ok, now.failed),
        );
        Ok(())
    }

    /// Kills every process of the product while a lease is in force: it holds, and ends on time.
    fn daemons_die(&mut self) -> anyhow::Result<()> {
        const WHAT: &str = "with the daemons dead, the lease holds and ends on time";
        let expires = self
            .measures()?
            .iter()
            .filter_map(|measure| measure["measure"]["expires"].as_u64())
            .max();
        let Some(expires) = expires else {
            self.closing.row(WHAT, false, "no measure was in force");
            return Ok(());
        };
        let arrived_before = self.scene.listener.arrivals().len();
        let killed = self.service.kill()?;
        let left = Duration::from_nanos(expires).saturating_sub(since_epoch(SystemTime::now()));
        self.timeline.tell(
            "SIGKILL",
            &format!(
                "{killed} processes of bulkhead are dead; the lease has {} s to go",
                left.as_secs()
            ),
        );
        let status = self.service.ask(&["status"]);
        let shown = status.as_ref().is_ok_and(|status| status.to_string().contains("m-"));
        self.closing.row(
            "status shows the measure with the daemons dead",
            shown,
            &match &status {
                Ok(_) => "from the pins".to_owned(),
                Err(error) => format!("{error:#}"),
            },
        );

        let listener = &self.scene.listener;
        let back = self.attended.until(left + Duration::from_secs(10), || {
            Ok(listener.arrivals().get(arrived_before).copied())
        })?;
        let Some(back) = back else {
            self.closing.row(WHAT, false, "nothing got through within 10 s of its end");
            return Ok(());
        };
        let late = since_epoch(back).as_millis().cast_signed()
            - u128::from(expires / 1_000_000).cast_signed();
        let on_time = late >= 0 && late.unsigned_abs() <= LATE_MS_MAX;
        self.timeline
            .tell("lease", &format!("it ended by itself; the shell came back {late} ms after"));
        self.closing.row(WHAT, on_time, &format!("first connection {late} ms after its end"));
        Ok(())
    }

    /// How the visitors fared from the first second to the last.
    fn served(&mut self) {
        let all = self.shop.visits().unwrap_or_default();
        let (ok, failed) = all
            .iter()
            .fold((0, 0), |(ok, failed), visits| (ok + visits.ok, failed + visits.failed));
        let seconds = all.iter().filter(|visits| visits.failed > 0).count();
        self.closing.row(
            "visitors were served throughout",
            ok > failed * 100,
            &format!("{ok} requests answered, {failed} not, those within {seconds} s"),
        );
    }

    /// Whom a scan looks at.
    fn siblings(&self) -> Vec<Ipv4Addr> {
        [&self.shop.redis, &self.shop.store]
            .into_iter()
            .filter_map(|container| container.ip)
            .collect()
    }

    /// The measures in force.
    fn measures(&self) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        for kind in ["deny", "quarantine"] {
            let listed = self.service.ask(&[kind, "list"])?;
            all.extend(listed.as_array().cloned().unwrap_or_default());
        }
        Ok(all)
    }
}

/// The measures that an alert led to.
fn measures_taken(alert: &Value) -> Vec<String> {
    let taken = alert["response"]["took"].as_array().into_iter().flatten();
    taken.filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

/// What a measure does, to whom, and for how long.
fn described(measure: &Value) -> String {
    let inner = &measure["measure"];
    let action = match &inner["action"] {
        Value::String(word) => word.clone(),
        action => format!("deny {}", peer(&action["deny"])),
    };
    let whom: Vec<_> =
        measure["containers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let span = inner["expires"]
        .as_u64()
        .unwrap_or(0)
        .saturating_sub(inner["created"].as_u64().unwrap_or(0));
    format!("{action} for {} s on {}", Duration::from_nanos(span).as_secs(), whom.join(", "))
}

/// A peer as a person writes it: prefix, port and protocol where they matter.
fn peer(peer: &Value) -> String {
    let mut text = peer["prefix"].as_str().unwrap_or("?").to_owned();
    if let Some(port) = peer["port"].as_u64() {
        text =
            if text.contains(':') { format!("[{text}]:{port}") } else { format!("{text}:{port}") };
    }
    if let Some(protocol) = peer["protocol"].as_str() {
        text.push('/');
        text.push_str(protocol);
    }
    text
}

/// How the visitors fared in the last five seconds.
fn recent(visits: &[Visits]) -> Visits {
    let last = &visits[visits.len().saturating_sub(5)..];
    Visits {
        unix_s: last.last().map_or(0, |visits| visits.unix_s),
        ok: last.iter().map(|visits| visits.ok).sum(),
        failed: last.iter().map(|visits| visits.failed).sum(),
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_measure_is_described_by_what_it_does_to_whom() {
        let measure = |action: Value| {
            described(&json!({ "containers": ["shop-2"],
                "measure": { "action": action, "created": 0, "expires": 30_000_000_000_u64 } }))
        };
        assert_eq!(measure(json!("quarantine")), "quarantine for 30 s on shop-2");
        let deny = json!({ "deny": { "prefix": "203.0.113.2", "port": 443, "protocol": "tcp" } });
        assert_eq!(measure(deny), "deny 203.0.113.2:443/tcp for 30 s on shop-2");
        let deny = json!({ "deny": { "prefix": "2001:db8::/32", "port": null, "protocol": null } });
        assert_eq!(measure(deny), "deny 2001:db8::/32 for 30 s on shop-2");
    }

    #[test]
    fn only_an_alert_that_led_to_a_measure_counts_as_acted_on() {
        assert!(measures_taken(&json!({ "response": "none" })).is_empty());
        assert_eq!(measures_taken(&json!({ "response": { "took": ["m-1"] } })), ["m-1"]);
    }

    #[test]
    fn every_replica_rests_while_the_other_is_attacked() {
        for pair in ATTACKS.windows(2) {
            assert_ne!(
                pair[0].1, pair[1].1,
                "{:?} follows {:?} on the same replica",
                pair[1].0, pair[0].0
            );
        }
    }
}
