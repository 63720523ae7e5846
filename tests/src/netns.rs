//! Network namespaces of a test's own, and code that runs inside them.

use std::{
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use crate::{
    command::output,
    error::{HarnessError, io},
    scratch::unique,
};

/// A network namespace with nothing but its loopback, removed with its owner.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one, named after its purpose and this process.
    pub fn new(purpose: &str) -> Result<Self, HarnessError> {
        let name = format!("bh-{purpose}-{}", unique());
        output(Command::new("ip").args(["netns", "add", &name]))?;
        let made = Self { name };
        made.ip(&["link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// Its name, as `ip netns list` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Runs `ip` inside it.
    pub fn ip(&self, words: &[&str]) -> Result<String, HarnessError> {
        output(Command::new("ip").args(["-n", &self.name]).args(words))
    }

    /// Sets a kernel parameter of the namespace, such as `net.ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), HarnessError> {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        let value = value.to_owned();
        self.enter(move || std::fs::write(&path, value))?.map_err(io(format!("cannot set {key}")))
    }

    /// A command that will run inside it, with the machine's own mounts and processes in sight.
    pub fn command(&self, program: &str) -> Command {
        inside(Some(self), program.as_ref())
    }

    /// Runs code on a thread inside it. Sockets made there stay there, whoever uses them later.
    pub fn enter<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HarnessError> {
        let path = self.path();
        let file = File::open(&path).map_err(io(format!("cannot open {}", path.display())))?;
        // The thread ends after its work, so the namespace never leaks to other code.
        let thread = thread::spawn(move || {
            move_into(&file).map_err(io(format!("cannot enter {}", path.display())))?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Gives it an address of its own, reachable through whatever links it has.
    pub fn add_address(&self, address: impl Into<IpAddr>) -> Result<(), HarnessError> {
        let address = address.into();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let mut words = vec![
            "addr".into(),
            "add".into(),
            format!("{address}/{bits}"),
            "dev".into(),
            "lo".into(),
        ];
        if address.is_ipv6() {
            // Duplicate detection would keep the address from being used at once.
            words.push("nodad".to_owned());
        }
        self.ip(&words.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Links end with the namespace they are in; there is nobody left to tell when this fails.
        let _ = output(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// Moves this thread into a network namespace.
#[cfg(target_os = "linux")]
fn move_into(namespace: &File) -> std::io::Result<()> {
    use std::os::fd::AsFd as _;

    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Says that there are none: the commands of `xtask` build everywhere, to say what they cannot do there.
#[cfg(not(target_os = "linux"))]
fn move_into(_: &File) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// A command that runs in a namespace, or where the caller is.
pub(crate) fn inside(home: Option<&Netns>, program: &Path) -> Command {
    match home {
        None => Command::new(program),
        Some(netns) => {
            // Not `ip netns exec`: it also swaps /sys, which hides the cgroup mounts from engines.
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", netns.path().display())).arg("--").arg(program);
            command
        }
    }
}
