//! What the starts happen in: namespaces with documentation addresses, a packet filter that counts, and the product.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use bulkhead_tests::{
    command::{eventually, output},
    netns::Netns,
    outside::Outside,
    scratch,
    service::{Place, Service},
};
use tempfile::TempDir;

use super::{
    Kind,
    runtime::{Runtime, WORKLOAD},
};

/// How long anything but a start may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The port that peers listen on.
const PORT: u16 = 9;

/// Who may not be called, who may, and whom the container that is quarantined calls: numbers of peers outside.
const DENIED: u8 = 1;
const FREE: u8 = 2;
const RESTLESS: u8 = 3;

/// The product's share of the configuration.
const CONTROLLER: &str = "[controller]\nuser = \"64117:64117\"\n";

/// Everything, in the order in which it has to go.
pub(super) struct World {
    service: Service,
    pub(super) runtime: Runtime,
    outside: Outside,
    _home: Arc<Netns>,
    _scratch: TempDir,
}

/// Packets that arrived so far, by peer.
pub(super) struct Counts {
    pub(super) denied: u64,
    pub(super) free: u64,
    pub(super) restless: u64,
}

impl World {
    pub(super) fn make(kind: Kind, program: &Path) -> anyhow::Result<Self> {
        let scratch = scratch::directory("starts")?;
        let home = Arc::new(Netns::new("home")?);
        let outside = Outside::open(Some(&home))?;
        for number in [DENIED, FREE, RESTLESS] {
            let address = outside.peer(number).to_string();
            output(outside.netns().command("iptables").args([
                "-t",
                "raw",
                "-A",
                "PREROUTING",
                "-d",
                &address,
            ]))?;
            answer(outside.netns(), outside.peer(number))?;
        }
        let mut runtime = Runtime::start(kind, scratch.path(), &home)?;
        let mut place = Place::beside(scratch.path(), runtime.cgroup_parent())?;
        program.clone_into(&mut place.program);
        let mut service = Service::start(&place, &[CONTROLLER, &runtime.collector()?])?;
        service.wait(PATIENCE)?;
        Ok(Self { service, runtime, outside, _home: home, _scratch: scratch })
    }

    /// Calls every peer once from a container that is under no measure, and leaves one that gives the workload its name.
    pub(super) fn reach_all(&self) -> anyhow::Result<()> {
        self.runtime.keep(&scratch::container_id(), "exec sleep 1000000")?;
        self.waits_for("the workload to be known", || {
            let workloads = self.service.ask(&["workloads"])?;
            let all = workloads.as_array().into_iter().flatten();
            Ok(all.filter_map(|workload| workload["containers"].as_u64()).sum::<u64>() > 0)
        })?;
        let finished = self.runtime.run_to_end(&self.call_denied_then_free())?;
        if !finished.status.success() {
            bail!("a container that is under no measure cannot reach a peer: {}", finished.stderr);
        }
        // A connection, a ping and a question are at least three.
        let reached = self.counts()?.denied;
        if reached < 3 {
            bail!(
                "under no measure {reached} packets reached the peer; it cannot be told from a refusal"
            );
        }
        Ok(())
    }

    /// Calls the denied peer at once and around its naming, by TCP, ICMP and UDP, then the free one: its answer is the end.
    pub(super) fn call_denied_then_free(&self) -> String {
        let (denied, free) = (self.outside.peer(DENIED), self.outside.peer(FREE));
        format!(
            "exec >/dev/null 2>&1 </dev/null
call() {{
  nc -w 1 {denied} {PORT}
  ping -c 1 -W 1 {denied}
  nslookup a.example {denied} & q=$!
}}
call; call; usleep 200000; call; kill $q
exec nc -w 10 {free} {PORT}"
        )
    }

    /// Calls its peer for ever.
    pub(super) fn restless(&self) -> String {
        let peer = self.outside.peer(RESTLESS);
        format!(
            "exec >/dev/null 2>&1 </dev/null
while :; do nc -w 1 {peer} {PORT}; ping -c 1 -W 1 {peer}; usleep 20000; done"
        )
    }

    pub(super) fn counts(&self) -> anyhow::Result<Counts> {
        let list = ["-t", "raw", "-L", "PREROUTING", "-v", "-x", "-n"];
        let text = output(self.outside.netns().command("iptables").args(list))?;
        let of = |number| {
            let address = self.outside.peer(number);
            packets(&text, address).with_context(|| format!("nothing counts for {address}"))
        };
        Ok(Counts { denied: of(DENIED)?, free: of(FREE)?, restless: of(RESTLESS)? })
    }

    /// Denies the workload its peer, waits until the kernel does so, and returns the measure.
    pub(super) fn deny(&self) -> anyhow::Result<String> {
        let peer = self.outside.peer(DENIED).to_string();
        self.measure(&["deny", "add", "--workload", WORKLOAD, &peer, "--for", "1d"])
    }

    /// Quarantines a container by its name, waits until the kernel does so, and returns the measure.
    pub(super) fn quarantine(&self, name: &str) -> anyhow::Result<String> {
        let name = self.runtime.name(name);
        self.measure(&["quarantine", "add", "--container", name, "--for", "1d"])
    }

    pub(super) fn release(&self, id: &str) -> anyhow::Result<()> {
        self.service.ask(&["quarantine", "release", id])?;
        self.waits_for("the quarantine to end", || Ok(!self.in_force(id)?))
    }

    pub(super) fn in_force(&self, id: &str) -> anyhow::Result<bool> {
        Ok(self.measures()?.iter().any(|measure| measure == id))
    }

    pub(super) fn waits_for(
        &self,
        what: &str,
        mut ask: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut failed = None;
        let came = eventually(PATIENCE, || match ask() {
            Ok(answer) => answer,
            Err(error) => {
                failed = Some(error);
                false
            }
        });
        if came {
            return Ok(());
        }
        let words = format!("waited in vain for {what}: {}", self.service.last_words());
        Err(match failed {
            Some(cause) => cause.context(words),
            None => anyhow::anyhow!(words),
        })
    }

    fn measure(&self, words: &[&str]) -> anyhow::Result<String> {
        let before = self.measures()?;
        let mut new = None;
        // The container may have been named by its runtime and not yet by the controller.
        self.waits_for("the measure to be accepted", || {
            self.service.ask(words).map(|_| true).map_err(Into::into)
        })?;
        self.waits_for("the measure to be in force", || {
            new = self.measures()?.into_iter().find(|id| !before.contains(id));
            Ok(new.is_some())
        })?;
        new.context("a measure that is in force has an id")
    }

    /// Ids of the measures that the kernel holds.
    fn measures(&self) -> anyhow::Result<Vec<String>> {
        let status = self.service.ask(&["status"])?;
        let measures = status["guards"]["measures"].as_array().cloned().unwrap_or_default();
        Ok(measures
            .iter()
            .filter_map(|measure| measure["id"].as_str().map(str::to_owned))
            .collect())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let kept = crate::workspace::root().join("target/logs");
        // The log explains a run that failed; without it there is nothing to tell.
        let _ = fs::create_dir_all(&kept);
        let _ = fs::copy(self.service.log(), kept.join("bench-starts-bulkhead.log"));
    }
}

/// Accepts connections to a peer, and ends them.
fn answer(netns: &Netns, peer: Ipv4Addr) -> anyhow::Result<()> {
    let listener = netns.enter(move || TcpListener::bind((peer, PORT)))??;
    // It ends with this process: a thread that waits for connections holds nothing else.
    thread::spawn(move || listener.incoming().for_each(drop));
    Ok(())
}

/// What the packet filter counted for a destination, from a listing with exact numbers.
fn packets(listing: &str, destination: Ipv4Addr) -> Option<u64> {
    let destination = destination.to_string();
    let line = listing.lines().find(|line| line.split_whitespace().any(|w| w == destination))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_from_what_the_filter_lists() {
        let listing = "Chain PREROUTING (policy ACCEPT 9 packets, 540 bytes)\n    pkts      bytes target     prot opt in \
                       out     source               destination\n      12      720            0    --  *      *       \
                       0.0.0.0/0            203.0.113.10\n       3      180            0    --  *      *       \
                       0.0.0.0/0            203.0.113.1\n";
        assert_eq!(packets(listing, Ipv4Addr::new(203, 0, 113, 1)), Some(3));
        assert_eq!(packets(listing, Ipv4Addr::new(203, 0, 113, 10)), Some(12));
        assert_eq!(packets(listing, Ipv4Addr::new(203, 0, 113, 2)), None);
    }
}
