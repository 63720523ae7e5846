//! What agent, controller and their maps take of the memory while fifty containers run and talk.
//!
//! Processes by their proportional set size without the maps in it, maps by what the kernel charges for each (`memlock` of their descriptors),
//! every map once. The formula is in `docs/operate/memory.md`.

use std::{
    collections::BTreeMap,
    fs,
    net::UdpSocket,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bulkhead_tests::{
    image::Image,
    netns::Netns,
    outside::Outside,
    requirement::Need,
    runc::Runc,
    scratch,
    service::{Place, Service},
};
use serde_json::{Value, json};

use super::{Bound, Figure};
use crate::outcome::Refusal;

const CONTAINERS: usize = 50;

/// How long they run before anything is read: a dozen windows, and two snapshots of what was learned.
const SETTLE: Duration = Duration::from_secs(75);

const MIB: f64 = 1024.0 * 1024.0;

/// What each container does: a call and a question every other second, and a few files.
const TRAFFIC: &str = "exec >/dev/null 2>&1 </dev/null
while :; do nc -w 1 PEER 9; ping -c 1 -W 1 PEER; ls /bin; sleep 2; done";

/// One map, as a descriptor of it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Map {
    kind: u64,
    entries: u64,
    bytes: u64,
}

pub(super) fn run(program: &Path) -> anyhow::Result<(Value, Vec<Figure>)> {
    let needs = [Need::Root, Need::Bpf, Need::Cgroup2, Need::Netns, Need::Runc];
    if let Some(cause) = needs.into_iter().find_map(Need::lacking) {
        bail!(Refusal::Machine(cause));
    }
    let scratch = scratch::directory("memory")?;
    let home = Arc::new(Netns::new("home")?);
    let outside = Outside::open(Some(&home))?;
    let peer = outside.peer(1);
    // Bound and never read: what arrives there is not refused, and nobody answers.
    let _peer = outside.netns().enter(move || UdpSocket::bind((peer, 9)))??;
    let directory = scratch.path().join("runc");
    fs::create_dir(&directory)?;
    let mut runc = Runc::start(&directory, &Image::busybox()?)?;
    let mut place = Place::beside(scratch.path(), runc.cgroup_parent())?;
    program.clone_into(&mut place.program);
    let configuration = format!(
        "[controller]\nuser = \"64117:64117\"\n[collector]\ndocker = []\npodman = []\npodman-roots = []\nrunc-roots = [{:?}]\n",
        runc.state().display().to_string()
    );
    let mut service = Service::start(&place, &[&configuration])?;
    service.wait(Duration::from_secs(60))?;
    let script = TRAFFIC.replace("PEER", &peer.to_string());
    for _ in 0..CONTAINERS {
        runc.run(Some(&home), &["/bin/sh", "-c", &script])?;
    }
    println!("bench: {CONTAINERS} containers run; memory is read in {} s", SETTLE.as_secs());
    settle(&service)?;
    let found = read(&service)?;
    let total = found.processes.values().sum::<f64>() + found.maps_mib;
    for (name, mib) in &found.processes {
        println!("bench: {name} {mib:.1} MiB (PSS)");
    }
    println!("bench: maps {:.1} MiB in {} maps", found.maps_mib, found.maps.len());
    let maps: Vec<_> = found
        .maps
        .iter()
        .map(|map| json!({ "type": map.kind, "max_entries": map.entries, "bytes": map.bytes }))
        .collect();
    let measured = json!({
        "containers": CONTAINERS,
        "pss_mib": found.processes,
        "maps_mib": found.maps_mib,
        "maps": maps,
    });
    let name = "MiB, agent, controller, supervisor and maps with fifty containers";
    Ok((measured, vec![Figure { name, value: total, bound: Bound::AtMost(100.0) }]))
}

/// Waits until every container has its name, and a while longer.
fn settle(service: &Service) -> anyhow::Result<()> {
    let since = Instant::now();
    let mut named = 0;
    while since.elapsed() < SETTLE || named < CONTAINERS as u64 {
        if since.elapsed() > 2 * SETTLE {
            bail!("only {named} of {CONTAINERS} containers have a name: {}", service.last_words());
        }
        thread::sleep(Duration::from_secs(2));
        let workloads = service.ask(&["workloads"])?;
        let all = workloads.as_array().into_iter().flatten();
        named = all.filter_map(|workload| workload["containers"].as_u64()).sum();
    }
    Ok(())
}

struct Found {
    processes: BTreeMap<String, f64>,
    maps: Vec<Map>,
    maps_mib: f64,
}

fn read(service: &Service) -> anyhow::Result<Found> {
    let mut processes = BTreeMap::new();
    let mut maps = BTreeMap::new();
    for pid in service.pids() {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
        let pss = pss_kib(&text).context("no proportional size is told")?;
        processes.insert(role(pid)?, pss as f64 * 1024.0 / MIB);
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
            // A descriptor may close meanwhile.
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            maps.extend(map(&text));
        }
    }
    if processes.len() != 3 {
        bail!("three processes were expected: {:?}", processes.keys());
    }
    let maps: Vec<_> = maps.into_values().collect();
    if maps.is_empty() {
        bail!("no process holds a map");
    }
    let maps_mib = maps.iter().map(|map| map.bytes).sum::<u64>() as f64 / MIB;
    Ok(Found { processes, maps, maps_mib })
}

/// What a process of the product is, by its arguments.
fn role(pid: u32) -> anyhow::Result<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    let mut words = line.split('\0').skip_while(|word| *word != "--process").skip(1);
    Ok(words.next().unwrap_or("supervisor").to_owned())
}

/// The proportional size of a process without the maps that it has mapped: those are counted as maps.
fn pss_kib(smaps: &str) -> Option<u64> {
    let (mut sum, mut of_a_map) = (None, false);
    for line in smaps.lines() {
        if let Some(pss) = line.strip_prefix("Pss:") {
            let kib: u64 = pss.split_whitespace().next()?.parse().ok()?;
            *sum.get_or_insert(0) += if of_a_map { 0 } else { kib };
        } else if line.split(' ').next()?.contains('-') {
            of_a_map = line.ends_with("bpf-map");
        }
    }
    sum
}

/// A map and its id, if this is a descriptor of one.
fn map(fdinfo: &str) -> Option<(u64, Map)> {
    let field = |name: &str| -> Option<u64> {
        let line = fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse().ok()
    };
    let map =
        Map { kind: field("map_type")?, entries: field("max_entries")?, bytes: field("memlock")? };
    Some((field("map_id")?, map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_size_leaves_out_what_is_counted_as_a_map() {
        let text = "55d0-55e0 r-xp 0000 08:01 7          /usr/bin/bulkhead\nSize:  64 kB\nPss:  42 kB\nPss_Dirty: 7 kB\n\
                    7f00-7f80 r--s 0000 00:0e 8          anon_inode:bpf-map\nSize:  8196 kB\nPss:  8196 kB\n\
                    7f90-7fa0 rw-p 0000 00:00 0          [heap]\nPss:  100 kB\n";
        assert_eq!(pss_kib(text), Some(142));
        assert_eq!(pss_kib(""), None);
    }

    #[test]
    fn a_map_is_told_from_another_descriptor() {
        let text = "pos:\t0\nmap_type:\t1\nkey_size:\t8\nmax_entries:\t2048\nmemlock:\t180224\nmap_id:\t7\n";
        assert_eq!(map(text), Some((7, Map { kind: 1, entries: 2048, bytes: 180_224 })));
        assert_eq!(map("pos:\t0\nprog_type:\t17\nmemlock:\t4096\nprog_id:\t9\n"), None);
    }
}
