//! Builds the product for commands that run it: the kernel programs, then the binary that embeds them.

use crate::{ebpf, step, workspace};

/// Builds what `cargo xtask demo` runs, in the profile that the tests use.
pub(crate) fn product() -> anyhow::Result<()> {
    kernel_programs()?;
    println!("    … the bulkhead binary; the first build takes a few minutes");
    step::quietly(
        "build",
        workspace::cargo().args([
            "build",
            "--locked",
            "--workspace",
            "--bins",
            "--exclude",
            "xtask",
        ]),
    )
}

/// Builds the programs that run in the kernel.
pub(crate) fn kernel_programs() -> anyhow::Result<()> {
    ebpf::run(&ebpf::Arguments {})
}

/// Whether they were built, however long ago.
pub(crate) fn kernel_programs_are_there() -> bool {
    ["observe.o", "guard.o"]
        .iter()
        .all(|object| workspace::root().join("target/bpf").join(object).is_file())
}
