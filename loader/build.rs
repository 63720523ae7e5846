//! Finds the kernel programs' objects, which `cargo xtask ebpf` builds apart from the workspace, for `objects` to embed.

use std::{env, path::PathBuf};

fn main() {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
        || {
            PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
                .join("../target")
        },
        PathBuf::from,
    );
    for object in ["observe", "guard"] {
        let path = target.join("bpf").join(format!("{object}.o"));
        println!("cargo::rerun-if-changed={}", path.display());
        if !path.is_file() {
            println!(
                "cargo::error=the kernel programs are not built: {} is missing; run `cargo xtask ebpf`",
                path.display()
            );
        }
        println!("cargo::rustc-env=BULKHEAD_{}={}", object.to_uppercase(), path.display());
    }
}
