//! What the person typed. What it means is decided in `command/` and `config`.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_domain::Mode;
use bulkhead_domain::duration;
use bulkhead_domain::measure::MeasureId;
use bulkhead_domain::net::{Peer, PeerMatch};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Bulkhead learns what each container workload normally does, flags what deviates, and contains it in the kernel.
///
/// Start it with `bulkhead run` (as root), watch learning with `bulkhead workloads`, read what it found with `bulkhead
/// alerts list`. `bulkhead doctor` says what this machine offers; `bulkhead status` shows the measures in force, and
/// `bulkhead disarm` ends them, even with every daemon dead.
#[derive(Debug, Parser)]
#[command(
    name = "bulkhead",
    version,
    max_term_width = 100,
    after_help = "\
Exit status: 0 done, 1 something was found or refused, 2 wrong usage or configuration, 3 the service cannot be reached.
Configuration: /etc/bulkhead/config.toml, then config.d/*.toml beside it, then BULKHEAD_* in the environment, then flags."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Show tables for people, or JSON for programs.
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
    /// Read this configuration instead of /etc/bulkhead/config.toml (its config.d/ is beside it).
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "BULKHEAD_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// Keep state here instead of /var/lib/bulkhead.
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Serve and find sockets here instead of /run/bulkhead.
    #[arg(long, global = true, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Pin guards and leases here instead of /sys/fs/bpf/bulkhead.
    #[arg(long, global = true, value_name = "DIR")]
    pub pin_dir: Option<PathBuf>,
    /// Watch and guard this subtree instead of the whole cgroup v2 hierarchy.
    #[arg(long, global = true, value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
}

/// How answers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and sentences.
    #[default]
    Table,
    /// JSON: one document, or one line each for `alerts tail`.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service: an agent (root) and a controller (own user, no capabilities), restarted when they die.
    Run(Run),
    /// Say what this kernel and these engines offer, what degrades, and what stays open, by name.
    Doctor,
    /// Show the measures in force and their end, from the pins: works with every daemon dead.
    Status,
    /// End one measure, or all, in the kernel: works with every daemon dead.
    Disarm(Disarm),
    /// Show workloads: mode, maturity, ETA, alerts a day, containers.
    Workloads {
        /// Only this workload (short or full name), in detail.
        workload: Option<String>,
    },
    /// Learn a workload, anew or further; nothing is blocked automatically while it learns.
    Learn(Learn),
    /// Choose what is done about a workload's deviations: learn, detect or enforce.
    Mode {
        /// Short or full name.
        workload: String,
        /// learn: the baseline grows; detect: alerts say what would be done; enforce: it is done.
        mode: Mode,
        /// Reason, for the audit log.
        #[arg(long, default_value = "", hide_default_value = true)]
        why: String,
    },
    /// Look at what a workload has been seen to do, and what of it waits for review.
    #[command(subcommand)]
    Baseline(Baseline),
    /// Review alerts: what happened, what was expected, what was done about it.
    #[command(subcommand)]
    Alerts(Alerts),
    /// Deny peers to a container or a workload, by hand and for a time.
    #[command(subcommand)]
    Deny(Deny),
    /// Cut a container's network and keep its processes for inspection.
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Say whether a packet between a container and a peer passes, which step decides, and which measure.
    Why {
        /// Container's name, or the beginning of its id.
        container: String,
        /// Peer: ADDRESS, ADDRESS:PORT or [IPV6]:PORT, with /udp behind a port (tcp otherwise).
        #[arg(value_parser = peer)]
        peer: Peer,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// `bulkhead run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Play only these roles.
    #[arg(long, value_delimiter = ',', value_name = "ROLE,…")]
    pub roles: Vec<Role>,
    /// Be this one of the two processes (used by the supervisor).
    #[arg(long, hide = true)]
    pub process: Option<Process>,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Names containers, observes them, publishes (agent).
    Collector,
    /// Applies measures in the kernel (agent).
    Enforcer,
    /// Learns and scores (controller).
    Detector,
    /// Turns alerts into measures (controller).
    Planner,
    /// Serves this command line (controller).
    Api,
}

impl Role {
    /// The process that plays this role.
    pub fn process(self) -> Process {
        match self {
            Self::Collector | Self::Enforcer => Process::Agent,
            Self::Detector | Self::Planner | Self::Api => Process::Controller,
        }
    }
}

/// The two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Process {
    /// Collector and enforcer: root, few capabilities.
    Agent,
    /// Detector, planner, API and the log: own user, no capability.
    Controller,
}

/// `bulkhead disarm`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Disarm {
    /// Measure, as `bulkhead status` shows it.
    pub id: Option<MeasureId>,
    /// Every measure of this node; the guards stay.
    #[arg(long)]
    pub all: bool,
}

/// `bulkhead learn`.
#[derive(Debug, Args)]
pub struct Learn {
    /// Short or full name.
    pub workload: String,
    /// Go on to the next mode after this long, mature or not.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, conflicts_with = "until_mature")]
    pub learn_for: Option<Duration>,
    /// Go on to the next mode at maturity.
    #[arg(long)]
    pub until_mature: bool,
    /// Forget what was learned before; accepted alerts too.
    #[arg(long)]
    pub reset: bool,
    /// Reason, for the audit log.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub why: String,
}

/// `bulkhead baseline …`.
#[derive(Debug, Subcommand)]
pub enum Baseline {
    /// List baselines: entries, version, what waits for review.
    List,
    /// Show one: behaviours with counts, maturity by kind, thresholds.
    Show {
        /// Short or full name.
        workload: String,
        /// Only what waits for review.
        #[arg(long)]
        review: bool,
    },
    /// Compare one with another workload's, or with a file that `export` wrote; exits 1 when they differ.
    Diff {
        /// Short or full name.
        workload: String,
        /// The other workload.
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        other: Option<String>,
        /// The exported baseline.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Write one as JSON to standard output.
    Export {
        /// Short or full name.
        workload: String,
    },
    /// Say where entries come from: first record, container count, executable, who accepted them.
    Blame {
        /// Short or full name.
        workload: String,
        /// Only entries with this text in them.
        act: Option<String>,
    },
    /// Take one act into the baseline: an entry that waits for review, or one not seen yet.
    Accept {
        /// Short or full name.
        workload: String,
        /// The act, as `show` writes it: `exec /usr/bin/id`, `connect 198.51.100.7:443/tcp`, `dns example.org`.
        #[arg(value_parser = crate::act::parse)]
        act: bulkhead_domain::behaviour::Act,
        /// Reason, for the audit log.
        #[arg(long, default_value = "", hide_default_value = true)]
        why: String,
    },
}

/// `bulkhead alerts …`.
#[derive(Debug, Subcommand)]
pub enum Alerts {
    /// List alerts, newest first.
    List {
        /// Only this workload's (short or full name).
        #[arg(long)]
        workload: Option<String>,
        /// Only incidents that are open and that nobody has reviewed.
        #[arg(long)]
        open: bool,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one with its ranked evidence, process, nearest normal, and what was done.
    Show {
        /// Its id, or the beginning of it.
        id: String,
    },
    /// Follow alerts as they appear and change.
    Tail,
    /// Take what it was about into the baseline.
    Accept(Review),
    /// Take an acceptance back.
    Retract(Review),
    /// No alert about the same for a while.
    Mute {
        /// Which alert and why.
        #[command(flatten)]
        review: Review,
        /// For how long; until unmuted otherwise.
        #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
        mute_for: Option<Duration>,
    },
    /// End a mute.
    Unmute(Review),
}

/// Which alert, and why.
#[derive(Debug, Args)]
pub struct Review {
    /// Its id, or the beginning of it.
    pub id: String,
    /// Reason, for the audit log.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub why: String,
}

/// `bulkhead deny …`.
#[derive(Debug, Subcommand)]
pub enum Deny {
    /// List denies in force.
    List,
    /// Deny a peer; established connections to it stop too.
    Add {
        /// To whom.
        #[command(flatten)]
        target: Target,
        /// Peer: ADDRESS, CIDR, ADDRESS:PORT, [IPV6]:PORT, with /tcp or /udp behind a port.
        peer: PeerMatch,
        /// How long, and why.
        #[command(flatten)]
        terms: Terms,
    },
    /// End one before its time.
    Remove(Release),
}

/// `bulkhead quarantine …`.
#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// List quarantines in force.
    List,
    /// Cut the network of a container, or of every replica of a workload.
    Add {
        /// Whose.
        #[command(flatten)]
        target: Target,
        /// How long, and why.
        #[command(flatten)]
        terms: Terms,
    },
    /// End one before its time.
    Release(Release),
}

/// A container or a workload.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// One container, by name or the beginning of its id, through its restarts.
    #[arg(long, value_name = "NAME|ID")]
    pub container: Option<String>,
    /// Every replica of a workload, those started later included.
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,
}

/// How long a measure lasts, and why.
#[derive(Debug, Args)]
pub struct Terms {
    /// Until when: the kernel ends it then, whoever is alive. Default: guardrails.manual-ttl, 4h.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    pub ttl: Option<Duration>,
    /// Reason, for the audit log.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub why: String,
}

/// Which measure to end, and why.
#[derive(Debug, Args)]
pub struct Release {
    /// Measure, as `list` and `bulkhead status` show it.
    pub id: MeasureId,
    /// Reason, for the audit log.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub why: String,
}

/// Reads a single peer: an address, a port when there is one, tcp unless said otherwise.
fn peer(text: &str) -> Result<Peer, String> {
    let parsed: PeerMatch =
        text.parse().map_err(|e: bulkhead_domain::net::NetError| e.to_string())?;
    if !parsed.prefix.is_host() {
        return Err(format!("`{text}` is a prefix: ask about one address of it"));
    }
    Ok(Peer {
        address: parsed.prefix.address(),
        port: parsed.port.unwrap_or(0),
        protocol: parsed.protocol.unwrap_or(bulkhead_domain::net::Protocol::TCP),
    })
}
