//! The file systems through which the kernel's programs are pinned and attached.

use std::{fs, path::Path, process::Command};

use bulkhead_tests::command::output;

/// Mounts them where they are missing; says so, because it changes the machine until the next boot.
pub(crate) fn prepare() -> anyhow::Result<()> {
    for (kind, point) in [("bpf", "/sys/fs/bpf"), ("tracefs", "/sys/kernel/tracing")] {
        if !Path::new(point).is_dir()
            || is_mounted(&fs::read_to_string("/proc/self/mounts")?, kind, point)
        {
            continue;
        }
        output(Command::new("mount").args(["-t", kind, kind, point]))?;
        println!("    mounted {kind} on {point}, until the next boot");
    }
    Ok(())
}

fn is_mounted(mounts: &str, kind: &str, point: &str) -> bool {
    mounts.lines().any(|line| {
        let words: Vec<_> = line.split(' ').collect();
        words.get(1) == Some(&point) && words.get(2) == Some(&kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_system_on_the_same_place_does_not_count() {
        let mounts = "tmpfs /sys/fs/bpf tmpfs rw 0 0\nnone /sys/kernel/tracing tracefs rw 0 0\n";
        assert!(!is_mounted(mounts, "bpf", "/sys/fs/bpf"));
        assert!(is_mounted(mounts, "tracefs", "/sys/kernel/tracing"));
    }
}
