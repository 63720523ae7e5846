//! The stages of a test run, in the order in which they tell the most soonest.

use std::process::Command;

use bulkhead_tests::requirement::Need;

use super::{
    build::{self, Built, Kind},
    libtest,
    report::Verdict,
};
use crate::{
    demo::{self, Piece, attend::Attended},
    outcome::Refusal,
    step, tidy, workspace,
};

/// A stage of a test run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Stage {
    /// Formatting.
    Fmt,
    /// The walls between rooms and the house rules.
    Tidy,
    /// The programs that run in the kernel.
    Ebpf,
    /// Lints, warnings refused.
    Clippy,
    /// Every program, every test, once.
    Build,
    /// Tests that run as any user.
    Unit,
    /// Examples in the documentation.
    Doc,
    /// Programs in this machine's kernel.
    Kernel,
    /// The whole on real containers.
    Containers,
    /// The demo.
    Demo,
}

/// Every stage, in order.
pub(crate) const ALL: [Stage; 10] = [
    Stage::Fmt,
    Stage::Tidy,
    Stage::Ebpf,
    Stage::Clippy,
    Stage::Build,
    Stage::Unit,
    Stage::Doc,
    Stage::Kernel,
    Stage::Containers,
    Stage::Demo,
];

impl Stage {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Tidy => "tidy",
            Self::Ebpf => "ebpf",
            Self::Clippy => "clippy",
            Self::Build => "build",
            Self::Unit => "unit",
            Self::Doc => "doc",
            Self::Kernel => "kernel",
            Self::Containers => "containers",
            Self::Demo => "demo",
        }
    }

    pub(crate) const fn purpose(self) -> &'static str {
        match self {
            Self::Fmt => "the code is formatted",
            Self::Tidy => "the walls between the rooms and the house rules hold",
            Self::Ebpf => "the programs that run in the kernel build",
            Self::Clippy => "the lints have nothing to say",
            Self::Build => "every program and every test builds",
            Self::Unit => "tests that run as any user",
            Self::Doc => "the examples in the documentation run",
            Self::Kernel => "programs in this machine's kernel",
            Self::Containers => "the whole, on real containers",
            Self::Demo => "an application learns, is attacked, and is protected",
        }
    }

    /// Runs the stage. `built` carries the test programs from the build to the stages that run them.
    pub(crate) fn run(self, built: &mut Option<Result<Built, String>>) -> Verdict {
        match self {
            Self::Fmt => held(fmt()),
            Self::Tidy => tidy::check().map_or_else(
                |error| Verdict::failed(format!("{error:#}")),
                |broken| {
                    if broken.is_empty() { Verdict::one() } else { Verdict::all_failed(broken) }
                },
            ),
            Self::Ebpf => match crate::build::kernel_programs() {
                Err(error) if error.is::<Refusal>() => Verdict::LeftOut(format!("{error:#}")),
                result => held(result),
            },
            Self::Clippy => held(clippy()),
            Self::Build => match build_once(built) {
                Ok(_) => Verdict::one(),
                Err(error) => Verdict::failed(error.clone()),
            },
            Self::Doc => doc(),
            Self::Unit => programs(built, Kind::Unit),
            Self::Kernel => programs(built, Kind::Kernel),
            Self::Containers => programs(built, Kind::Containers),
            Self::Demo => demo(built.as_ref().is_some_and(Result::is_ok), Piece::Siege),
        }
    }
}

fn held(result: anyhow::Result<()>) -> Verdict {
    result.map_or_else(|error| Verdict::failed(format!("{error:#}")), |()| Verdict::one())
}

fn fmt() -> anyhow::Result<()> {
    step::quietly("fmt", workspace::cargo().args(["fmt", "--all", "--check"]))?;
    let kernel = workspace::root().join("ebpf/Cargo.toml");
    if kernel.is_file() {
        let mut cargo = workspace::cargo();
        step::quietly("fmt-ebpf", cargo.args(["fmt", "--check", "--manifest-path"]).arg(kernel))?;
    }
    Ok(())
}

fn clippy() -> anyhow::Result<()> {
    let mut cargo = workspace::cargo();
    cargo
        .args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet"])
        .args(build::left_out()?);
    step::quietly("clippy", cargo.args(["--", "-D", "warnings"]))
}

fn doc() -> Verdict {
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--workspace", "--doc", "--locked"]);
    match build::left_out() {
        Ok(options) => libtest::run("doc", cargo.args(options)),
        Err(error) => Verdict::failed(format!("{error:#}")),
    }
}

fn demo(built: bool, piece: Piece) -> Verdict {
    let lacking =
        demo::NEEDS.into_iter().chain([Need::Podman, Need::Images]).find_map(Need::lacking);
    if let Some(cause) = lacking {
        return Verdict::LeftOut(cause);
    }
    if !built && let Err(error) = crate::build::product() {
        return Verdict::failed(format!("{error:#}"));
    }
    match demo::play(&Attended::alone(), piece) {
        Ok(closing) => {
            print!("{}", closing.table());
            closing.verdict()
        }
        Err(error) => Verdict::failed(format!("{error:#}")),
    }
}

/// Builds everything the first time it is asked for, and remembers how that ended.
fn build_once(built: &mut Option<Result<Built, String>>) -> &Result<Built, String> {
    built.get_or_insert_with(|| build::everything().map_err(|error| format!("{error:#}")))
}

/// Runs the test programs of a kind, one after the other.
fn programs(built: &mut Option<Result<Built, String>>, kind: Kind) -> Verdict {
    let built = match build_once(built) {
        Ok(built) => built,
        Err(error) => return Verdict::LeftOut(format!("nothing was built: {error}")),
    };
    let mut verdict = Verdict::none();
    for program in built.programs.iter().filter(|program| program.kind == kind) {
        let mut command = Command::new(&program.path);
        command
            .current_dir(&program.folder)
            .env("CARGO_MANIFEST_DIR", &program.folder)
            .arg("--show-output");
        if kind != Kind::Unit {
            // They share one kernel, and some measure exactly what went through it.
            command.arg("--test-threads=1");
        }
        println!("    {}", program.name);
        verdict = verdict.and(libtest::run(&program.name.replace('/', "-"), &mut command));
    }
    verdict
}
