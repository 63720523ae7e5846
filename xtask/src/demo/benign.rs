//! What a healthy application also does, none of it seen in learning: nothing of it may raise an alert.
//!
//! Restarts, reloads, a log rotation, commands through the engine and a tenfold burst, spread over the time that is
//! asked for. Every alert that comes is told with its explanation, and breaks the run.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bulkhead_tests::{
    command::eventually,
    engine::Container,
    error::HarnessError,
    service::Service,
    shop::{Shop, Visits},
};
use serde_json::Value;

use super::{
    alert::{explanation, ids},
    attend::Attended,
    closing::Closing,
    timeline::{self, Timeline},
};

/// How many requests a second the visitors make, as they were learned: `RATE` in `deploy/demo/app/visitors.py`.
const RATE: u32 = 20;

/// How many times the load is that a burst brings.
const BURST: u32 = 10;

/// The least part of the load asked for that has to be made, for the burst to count as one: this machine may be slow.
const BURST_PART: f64 = 0.6;

/// How long a burst may last; a short run has a shorter one.
const BURST_MAX: Duration = Duration::from_secs(45);

/// What happens, in its order, with some quiet after each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    ReplicaRestarts,
    ReloadByExec,
    ReloadBySignal,
    LogRotates,
    LogIsPacked,
    CommandsByExec,
    Burst,
    WebRestarts,
    StoreOfVisitsRestarts,
}

const ACTS: [Act; 9] = [
    Act::ReplicaRestarts,
    Act::ReloadByExec,
    Act::ReloadBySignal,
    Act::LogRotates,
    Act::LogIsPacked,
    Act::CommandsByExec,
    Act::Burst,
    Act::WebRestarts,
    Act::StoreOfVisitsRestarts,
];

impl Act {
    /// What a person reads.
    const fn told(self) -> &'static str {
        match self {
            Self::ReplicaRestarts => "a replica restarts",
            Self::ReloadByExec => "nginx -s reload through the engine",
            Self::ReloadBySignal => "nginx reloads on SIGHUP",
            Self::LogRotates => "nginx's log is moved away and opened again",
            Self::LogIsPacked => "the old log is packed with gzip through the engine",
            Self::CommandsByExec => {
                "ls, cat and sh -c date through the engine, in three containers"
            }
            Self::Burst => "ten times the load",
            Self::WebRestarts => "nginx restarts",
            Self::StoreOfVisitsRestarts => "Redis restarts",
        }
    }

    /// Does it, and waits until its effect shows: an act that did not happen proves nothing.
    fn play(self, shop: &mut Shop, attended: &Attended, burst: Duration) -> anyhow::Result<()> {
        match self {
            Self::ReplicaRestarts => {
                restarted(&mut shop.replicas[0])?;
                shop.settle()?;
            }
            Self::ReloadByExec => {
                reloads(shop, |web| {
                    web.exec(&["nginx", "-c", "/app/nginx.conf", "-s", "reload"]).map(drop)
                })?;
            }
            Self::ReloadBySignal => reloads(shop, |web| web.signal("HUP"))?,
            Self::LogRotates => {
                let rotate = "mv /var/log/nginx/access.log /var/log/nginx/access.log.1 \
                              && kill -USR1 $(cat /run/nginx.pid)";
                shop.web.exec(&["sh", "-c", rotate])?;
                shows("the log is written anew", || log(&shop.web, "").is_ok_and(|n| n > 0))?;
                shows("the old log is kept", || log(&shop.web, ".1").is_ok())?;
            }
            Self::LogIsPacked => {
                shop.web.exec(&["gzip", "/var/log/nginx/access.log.1"])?;
                shows("the log is packed", || log(&shop.web, ".1.gz").is_ok_and(|n| n > 0))?;
            }
            Self::CommandsByExec => {
                shop.replicas[1].exec(&["ls", "-l", "/"])?;
                shop.redis.exec(&["cat", "/etc/hostname"])?;
                shop.store.exec(&["sh", "-c", "date"])?;
            }
            Self::Burst => {
                shop.set_rate(RATE * BURST)?;
                let waited = attended.pause(burst);
                shop.set_rate(RATE)?;
                waited?;
            }
            Self::WebRestarts => restarted(&mut shop.web)?,
            Self::StoreOfVisitsRestarts => restarted(&mut shop.redis)?,
        }
        Ok(())
    }
}

/// Restarts a container, which then has another process.
fn restarted(container: &mut Container) -> anyhow::Result<()> {
    let before = container.pid;
    container.restart()?;
    ensure!(container.pid != before, "{} has the process it had", container.name);
    Ok(())
}

/// Makes nginx reload: a configuration that it takes has new workers.
fn reloads(
    shop: &Shop,
    how: impl FnOnce(&Container) -> Result<(), HarnessError>,
) -> anyhow::Result<()> {
    let before = workers(&shop.web);
    how(&shop.web)?;
    shows("nginx has new workers", || workers(&shop.web).iter().any(|pid| !before.contains(pid)))
}

/// The processes that a container's first one started.
fn workers(container: &Container) -> Vec<u32> {
    let path = format!("/proc/{0}/task/{0}/children", container.pid);
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// How large nginx's log is, seen from outside, so that looking is no act of the container.
fn log(web: &Container, suffix: &str) -> std::io::Result<u64> {
    let path = format!("/proc/{}/root/var/log/nginx/access.log{suffix}", web.pid);
    fs::metadata(path).map(|file| file.len())
}

fn shows(what: &str, effect: impl FnMut() -> bool) -> anyhow::Result<()> {
    ensure!(eventually(Duration::from_secs(10), effect), "it has no effect: not that {what}");
    Ok(())
}

/// Reads the time of a run.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').ok_or("write it as 90s or 10m")?, 1),
    };
    let number: u64 = number.parse().map_err(|_| "write it as 90s or 10m".to_owned())?;
    let time = Duration::from_secs(number * unit);
    let least = BURST_MAX * 2;
    if time < least {
        return Err(format!("at least {} s, or a burst does not fit", least.as_secs()));
    }
    Ok(time)
}

/// Plays every act over an application that is known, and expects no alert.
pub(crate) fn play(
    timeline: &Timeline,
    attended: &Attended,
    closing: &mut Closing,
    shop: &mut Shop,
    service: &mut Service,
    time: Duration,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut told = BTreeSet::new();
    let pause = time / (ACTS.len() as u32 + 1);
    for (number, act) in (1..).zip(ACTS) {
        let due = began + pause * number;
        attended.pause(due.saturating_duration_since(Instant::now()))?;
        tell_new(timeline, service, &mut told)?;
        timeline.tell("benign", act.told());
        let before = shop.visits()?;
        let played = act.play(shop, attended, BURST_MAX.min(pause * 3 / 4));
        let detail = match (&played, act) {
            (Err(error), _) => format!("{error:#}"),
            (Ok(()), Act::Burst) => {
                let factor = factor(&before, &shop.visits()?);
                closing.row(
                    "the burst is one",
                    factor >= f64::from(BURST) * BURST_PART,
                    &format!("{factor:.1} times the load before it"),
                );
                "done".to_owned()
            }
            (Ok(()), _) => "done".to_owned(),
        };
        closing.row(act.told(), played.is_ok(), &detail);
    }
    attended.pause((began + time).saturating_duration_since(Instant::now()))?;
    tell_new(timeline, service, &mut told)?;

    let alerts = service.ask(&["alerts", "list"])?;
    let alerts = alerts.as_array().context("a list of alerts")?;
    let titles: Vec<_> = alerts.iter().filter_map(|alert| alert["title"].as_str()).collect();
    closing.row(
        "no alert",
        alerts.is_empty(),
        &if alerts.is_empty() {
            format!("0 in {} s", began.elapsed().as_secs())
        } else {
            format!("{}: {}", alerts.len(), titles.join("; "))
        },
    );
    let workloads = service.ask(&["workloads"])?;
    let modes = workloads.as_array().context("a list of workloads")?;
    closing.row(
        "every workload is still in enforce",
        modes.iter().all(|workload| workload["mode"] == "enforce"),
        &format!("{} workloads", modes.len()),
    );
    let (ok, failed) = shop.visits()?.iter().fold((0, 0), |(ok, no), v| (ok + v.ok, no + v.failed));
    closing.row(
        "visitors were served throughout",
        ok > failed * 20,
        &format!("{ok} requests answered, {failed} not"),
    );
    Ok(())
}

/// Tells every alert that was not told before, with its explanation.
fn tell_new(
    timeline: &Timeline,
    service: &Service,
    told: &mut BTreeSet<String>,
) -> anyhow::Result<()> {
    let alerts = service.ask(&["alerts", "list"])?;
    for alert in alerts.as_array().into_iter().flatten() {
        if !told.contains(alert["id"].as_str().unwrap_or_default()) {
            timeline.tell("ALERT", alert["title"].as_str().unwrap_or_default());
            for line in scored(alert).into_iter().chain(explanation(alert)) {
                timeline::more(&line);
            }
        }
    }
    told.extend(ids(&alerts));
    Ok(())
}

/// Whose alert it is, and by how much it is over its threshold.
fn scored(alert: &Value) -> Option<String> {
    let container = alert["container_name"].as_str()?;
    Some(format!("{container}: score {} over {}", alert["score"], alert["threshold"]))
}

/// How many times the load became: the seconds after those of `before`, over the last ten of them.
fn factor(before: &[Visits], after: &[Visits]) -> f64 {
    let rate = |visits: &[Visits]| {
        visits.iter().map(|v| v.ok).sum::<u64>() as f64 / visits.len().max(1) as f64
    };
    let quiet = rate(&before[before.len().saturating_sub(10)..]);
    rate(after.get(before.len()..).unwrap_or_default()) / quiet.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_minutes_or_seconds_and_long_enough() {
        assert_eq!(time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert!(time("10").unwrap_err().contains("90s or 10m"));
        assert!(time("30s").unwrap_err().contains("at least"));
    }

    #[test]
    fn a_burst_is_measured_against_the_seconds_before_it() {
        let second = |ok| Visits { unix_s: 0, ok, failed: 0 };
        let before = vec![second(20); 12];
        let after: Vec<_> = before.iter().copied().chain([second(180), second(220)]).collect();
        assert!((factor(&before, &after) - 10.0).abs() < 1e-9);
        assert!(factor(&before, &before) < 1e-9, "no second came after");
    }
}
