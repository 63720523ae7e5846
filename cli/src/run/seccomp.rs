//! System calls that the agent never makes, refused by the kernel for its lifetime.
//!
//! A list of what is refused, not of what is allowed: an allowlist of a process that loads BPF and enters namespaces would
//! have to allow the dangerous ones anyway, and would break with the next libc. What is refused here is what turns a
//! hijacked agent into the host: other programs, other processes' memory, modules, other kernels.

use std::collections::BTreeMap;

use anyhow::Context as _;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// What the agent never does.
const REFUSED: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_quotactl,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_setuid,
    libc::SYS_setresuid,
    libc::SYS_open_by_handle_at,
];

/// Refuses them from now on, in this thread and all that it starts.
pub fn confine_agent() -> anyhow::Result<()> {
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        std::env::consts::ARCH.try_into().context("no seccomp filter for this architecture")?,
    )
    .context("cannot make the agent's seccomp filter")?;
    let program: BpfProgram =
        filter.try_into().context("cannot make the agent's seccomp filter")?;
    seccompiler::apply_filter(&program).context("cannot set the agent's seccomp filter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confined_thread_executes_nothing_and_goes_on_otherwise() {
        // The filter is per thread: this one's ends with it.
        let ended = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            confine_agent().unwrap();
            assert!(std::fs::read("/proc/self/status").is_ok());
            std::process::Command::new("/bin/true").spawn().map(|_| ()).unwrap_err().raw_os_error()
        })
        .join()
        .unwrap();
        assert_eq!(ended, Some(libc::EPERM));
    }
}
