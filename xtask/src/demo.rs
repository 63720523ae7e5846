//! The whole loop on a real application: it learns, is attacked from inside, is protected, and nothing stays behind.
//!
//! Everything is real: containers under Podman, the product's own binary and its two processes, attacks that run in the
//! application. The demo only starts, watches and tells; what is flagged and done is the product's. With `--benign` nobody
//! attacks: what a healthy application also does comes instead, and nothing may be flagged.

mod alert;
pub(crate) mod attend;
mod benign;
mod closing;
mod learn;
mod leftovers;
mod scene;
mod settings;
mod siege;
mod timeline;

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, bail};
use bulkhead_tests::{image::Image, requirement::Need, service::Service};

use self::{
    attend::Attended, closing::Closing, scene::Scene, settings::Settings, timeline::Timeline,
};
use crate::{
    setup::{self, Group},
    workspace,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Agree to the installation of what is missing beforehand.
    #[arg(long)]
    yes: bool,
    /// Attack nobody: for this long after learning, do what a healthy application also does, and expect no alert.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "10m", value_parser = benign::time)]
    benign: Option<Duration>,
    /// Run under the eyes of another process, and end with it.
    #[arg(long, hide = true)]
    attended: bool,
}

/// What the demo cannot do without.
pub(crate) const NEEDS: [Need; 3] = [Need::Root, Need::Bpf, Need::Cgroup2];

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::require("the demo", &NEEDS)?;
    if !arguments.attended {
        setup::prepare(&[Group::Ebpf, Group::Containers], arguments.yes)?;
        make_ready()?;
        return attend::run();
    }
    let piece = arguments.benign.map_or(Piece::Siege, Piece::Benign);
    let closing = play(&Attended::begin(), piece)?;
    print!("{}", closing.table());
    if let Some(broken) = closing.broken() {
        bail!("demo: {broken}");
    }
    println!("demo: {}", piece.held());
    Ok(())
}

/// Builds the product and, meanwhile, the application's image: one waits for the processor, the other for packages.
fn make_ready() -> anyhow::Result<()> {
    thread::scope(|scope| {
        if !Image::debian_is_ready() {
            println!("    … the application's image from Debian packages, once; about a minute");
        }
        let image = scope.spawn(Image::debian);
        let built = crate::build::product();
        let made = image.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        built?;
        made.map(drop).context("cannot make the application's image")
    })
}

/// What is played once the application is known.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece {
    /// Attacks from inside, and the death of the daemons.
    Siege,
    /// Nothing but what is benign, for this long.
    Benign(Duration),
}

impl Piece {
    /// What held when it ended well.
    fn held(self) -> String {
        match self {
            Self::Siege => format!(
                "it learned, {} attacks were flagged and stopped, and nothing stayed behind",
                siege::ATTACKS.len()
            ),
            Self::Benign(time) => format!(
                "it learned, {} s of what is benign and was never seen raised no alert, and nothing stayed behind",
                time.as_secs()
            ),
        }
    }
}

/// Plays the demo from the first container to the last, and takes everything back.
pub(crate) fn play(attended: &Attended, piece: Piece) -> anyhow::Result<Closing> {
    let timeline = Timeline::start();
    let mut closing = Closing::default();
    let played = acts(&timeline, attended, &mut closing, piece);
    timeline.tell("end", "everything was taken down");
    let left = leftovers::left()?;
    closing.row(
        "nothing stays behind",
        left.is_empty(),
        &if left.is_empty() {
            "no container, namespace, interface, cgroup, map or pin".to_owned()
        } else {
            left.join(", ")
        },
    );
    if let Err(error) = played {
        closing.row("the demo ran to its end", false, &format!("{error:#}"));
    }
    Ok(closing)
}

/// Sets the scene, and plays every act on it.
fn acts(
    timeline: &Timeline,
    attended: &Attended,
    closing: &mut Closing,
    piece: Piece,
) -> anyhow::Result<()> {
    let settings = Settings::read()?;
    for key in [
        "detection.budget",
        "detection.block",
        "detection.novelty-per-day",
        "guardrails.ttl-ladder",
        "collector.step",
        "detection.quiet-windows",
    ] {
        closing.setting(key, &settings.shown(key));
    }
    let mut scene = Scene::set(timeline)?;
    let checked_in = Settings::text()?;
    let mut service = Service::start(&scene.place, &[&checked_in, &scene.of_this_run])?;
    let played = on(timeline, attended, closing, piece, settings, &mut scene, &mut service);
    // The scene's own directory goes with it; the log is what explains a demo that failed.
    let kept = workspace::root().join("target/logs");
    fs::create_dir_all(&kept)?;
    fs::copy(service.log(), kept.join("demo-bulkhead.log"))
        .context("cannot keep the log of bulkhead")?;
    played
}

fn on(
    timeline: &Timeline,
    attended: &Attended,
    closing: &mut Closing,
    piece: Piece,
    settings: Settings,
    scene: &mut Scene,
    service: &mut Service,
) -> anyhow::Result<()> {
    service.wait(Duration::from_secs(30))?;
    timeline.tell(
        "bulkhead",
        "an agent observes the containers, a controller without capabilities learns",
    );
    let mut shop = scene.open_shop(timeline)?;
    learn::learn(timeline, attended, closing, service)?;
    match piece {
        Piece::Siege => siege::play(timeline, attended, closing, settings, scene, &shop, service),
        Piece::Benign(time) => benign::play(timeline, attended, closing, &mut shop, service, time),
    }
}
