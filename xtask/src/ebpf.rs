//! Builds the programs that run in the kernel into `target/bpf/`: `observe.o`, `guard.o`, and `empty.o` for benchmarks.
//!
//! Their target has no standard library ready made in a stable toolchain. Two compilers can do it: rustup's nightly with
//! the component `rust-src`, which builds `core` on the way, or Debian's `rustc-web` with `libstd-rust-web-dev-bpf`,
//! which brings it. The linker, `bpf-linker`, finds LLVM's library in the pinned toolchain.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use bulkhead_tests::command::{find, output};

use crate::{outcome::Refusal, step, workspace};

/// Nothing to choose: what there is to know, the machine tells.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// The target of the programs: BPF in this machine's byte order.
pub(crate) const fn target() -> &'static str {
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
}

/// The objects, named as the binaries of `ebpf/`.
const OBJECTS: [&str; 3] = ["observe", "guard", "empty"];

/// Bytecode by a compiler that has a core library for it.
enum Compiler {
    /// rustup's nightly, with the sources of `core`.
    Nightly,
    /// Debian's, with `core` ready made.
    Debian,
}

impl Compiler {
    /// The one that this machine has.
    fn find() -> anyhow::Result<Self> {
        if has_nightly_sources() {
            return Ok(Self::Nightly);
        }
        let debian =
            ["/usr/bin/rustc", "/usr/bin/cargo", &format!("/usr/lib/rustlib/{}", target())];
        if debian.iter().all(|path| Path::new(path).exists()) {
            return Ok(Self::Debian);
        }
        bail!(Refusal::Machine(
            "no compiler has a core library for BPF: run `cargo xtask setup ebpf`, or \
             `rustup toolchain install nightly --component rust-src`"
                .into()
        ))
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Nightly => "rustup's nightly with rust-src",
            Self::Debian => "Debian's rustc-web",
        }
    }

    /// The cargo that builds with it.
    fn cargo(&self) -> Command {
        match self {
            Self::Nightly => {
                let mut cargo = Command::new("rustup");
                cargo.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
                cargo
            }
            Self::Debian => {
                let mut cargo = Command::new("/usr/bin/cargo");
                // `aya-ebpf` turns on a language feature that a stable compiler has under this name alone.
                cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc").arg("build");
                cargo
            }
        }
    }
}

/// Builds both objects; what has not changed is not built again.
pub(crate) fn run(_: &Arguments) -> anyhow::Result<()> {
    let compiler = Compiler::find()?;
    let out = workspace::root().join("target");
    let objects = out.join("bpf");
    fs::create_dir_all(&objects)
        .with_context(|| format!("cannot make the folder {}", objects.display()))?;
    let linker = linker(&objects)?;
    println!("ebpf: building with {}", compiler.name());
    let mut cargo = compiler.cargo();
    forget_outer_cargo(&mut cargo);
    cargo
        .current_dir(workspace::root().join("ebpf"))
        .args(["--release", "--locked", "--target", target(), "--target-dir"])
        .arg(out.join("ebpf"))
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            [
                format!("-Clinker={}", linker.display()),
                "-Clink-arg=--btf".into(),
                "-Cdebuginfo=2".into(),
                // Atomic operations that answer the old value: kernel 5.12, as task storage in `sys_enter`.
                "-Ctarget-cpu=v3".into(),
                format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
            ]
            .join("\x1f"),
        );
    step::quietly("ebpf-build", &mut cargo)?;
    for object in OBJECTS {
        let built = out.join("ebpf").join(target()).join("release").join(object);
        let place = objects.join(format!("{object}.o"));
        place_if_changed(&built, &place)?;
    }
    println!("ebpf: {} and {} are in target/bpf", OBJECTS[0], OBJECTS[1]);
    Ok(())
}

/// A linker that finds LLVM in the pinned toolchain, whichever compiler calls it.
fn linker(folder: &Path) -> anyhow::Result<PathBuf> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let linker = find("bpf-linker")
        .or_else(|| Some(cargo_home?.join("bin/bpf-linker")).filter(|path| path.is_file()))
        .ok_or_else(|| {
            Refusal::Machine("bpf-linker is missing: run `cargo xtask setup ebpf`".into())
        })?;
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot =
        output(Command::new(rustc).current_dir(workspace::root()).args(["--print", "sysroot"]))?;
    let text = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}/lib' exec '{}' \"$@\"\n",
        sysroot.trim(),
        linker.display()
    );
    let wrapper = folder.join("linker");
    if fs::read_to_string(&wrapper).ok().as_deref() != Some(text.as_str()) {
        fs::write(&wrapper, text).with_context(|| format!("cannot write {}", wrapper.display()))?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    }
    Ok(wrapper)
}

/// What the cargo around this one set for its own compiler, and what would make another build of the same.
fn forget_outer_cargo(cargo: &mut Command) {
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO_")
            && !matches!(&*name, "CARGO_HOME" | "CARGO_NET_OFFLINE")
            && !name.starts_with("CARGO_REGISTRIES")
            && !name.starts_with("CARGO_HTTP")
        {
            cargo.env_remove(&key);
        }
    }
    for name in ["CARGO", "RUSTFLAGS", "RUSTC_WRAPPER", "RUSTUP_TOOLCHAIN", "RUSTDOC"] {
        cargo.env_remove(name);
    }
    if !cargo.get_envs().any(|(key, value)| key == "RUSTC" && value.is_some()) {
        cargo.env_remove("RUSTC");
    }
}

/// Copies an object only when its bytes differ, so that what embeds it is not built again for nothing.
fn place_if_changed(built: &Path, place: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    if fs::read(place).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    fs::write(place, bytes).with_context(|| format!("cannot write {}", place.display()))
}

/// Whether rustup has a nightly compiler with the sources of its core library.
pub(crate) fn has_nightly_sources() -> bool {
    let mut rustup = Command::new("rustup");
    output(rustup.args(["run", "nightly", "rustc", "--print", "sysroot"])).is_ok_and(|sysroot| {
        Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_did_not_change_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (built, place) = (folder.path().join("built"), folder.path().join("place"));
        fs::write(&built, "one").unwrap();
        place_if_changed(&built, &place).unwrap();
        let first = fs::metadata(&place).unwrap().modified().unwrap();
        place_if_changed(&built, &place).unwrap();
        assert_eq!(fs::metadata(&place).unwrap().modified().unwrap(), first);
        fs::write(&built, "two").unwrap();
        place_if_changed(&built, &place).unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "two");
    }
}
