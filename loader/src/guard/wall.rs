//! The wall at a container's interface: tcx links on the host's end of its link, pinned by interface.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use bulkhead_abi::guard::Interface;

use super::GuardError;
use super::install::pin_over;

/// What the container sends arrives at the host's end; what it receives leaves it.
pub(super) const PROGRAMS: [&str; 2] = ["guard_interface_sent", "guard_interface_received"];
const DIRECTIONS: [TcAttachType; 2] = [TcAttachType::Ingress, TcAttachType::Egress];

/// The container behind an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wall {
    /// Its cgroup.
    pub cgroup: u64,
    /// Its scope.
    pub container: u64,
    /// Its workload's id.
    pub workload: u64,
}

impl Wall {
    pub(super) fn record(self) -> Interface {
        Interface { cgroup: self.cgroup, container: self.container, workload: self.workload }
    }

    pub(super) fn of(record: Interface) -> Self {
        Self { cgroup: record.cgroup, container: record.container, workload: record.workload }
    }
}

fn link_path(pins: &Path, program: &str, ifindex: u32) -> PathBuf {
    pins.join(format!("link_{program}_{ifindex}"))
}

/// The name of one of this namespace's interfaces.
fn name(ifindex: u32) -> io::Result<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the length that the call asks for.
    let found = unsafe { libc::if_indextoname(ifindex, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return Err(io::Error::last_os_error());
    }
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// Attaches both programs where they are not yet. A pin says nothing about that: an interface's number may have been
/// another's, whose dead link is still pinned.
pub(super) fn attach(pins: &Path, ifindex: u32) -> Result<(), GuardError> {
    let interface = name(ifindex)
        .map_err(|source| GuardError::Netlink { what: "find the container's interface", source })?;
    for (name, direction) in PROGRAMS.into_iter().zip(DIRECTIONS) {
        let failed = |source: ProgramError| GuardError::Program {
            what: "attach",
            program: format!("{name} to {interface}"),
            source: Box::new(source),
        };
        let mut program = SchedClassifier::from_pin(pins.join(name)).map_err(failed)?;
        // First in line, or a program before it could let pass what this one drops.
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = match program.attach_with_options(&interface, direction, options) {
            Ok(id) => id,
            // It stands there already, by the link that is pinned.
            Err(ProgramError::SyscallError(e))
                if e.io_error.kind() == io::ErrorKind::AlreadyExists =>
            {
                continue;
            }
            Err(source) => return Err(failed(source)),
        };
        let link = program.take_link(id).map_err(failed)?;
        let link = FdLink::try_from(link)
            .map_err(|source| GuardError::Link { program: name.into(), source })?;
        pin_over(link, &link_path(pins, name, ifindex))?;
    }
    Ok(())
}

/// Detaches both; what is not there is no error.
pub(super) fn detach(pins: &Path, ifindex: u32) -> Result<(), GuardError> {
    for name in PROGRAMS {
        let path = link_path(pins, name, ifindex);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(GuardError::io("remove pin", &path)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Lets the links that are pinned run the programs that are pinned now. A link whose interface is gone is removed.
pub(super) fn renew(pins: &Path) -> Result<(), GuardError> {
    let entries = fs::read_dir(pins).map_err(GuardError::io("read directory", pins))?;
    let files: Vec<String> =
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    for name in PROGRAMS {
        let prefix = format!("link_{name}_");
        for file in files.iter().filter(|f| f.starts_with(&prefix)) {
            let path = pins.join(file);
            let renewed = (|| {
                let link = FdLink::from(PinnedLink::from_pin(&path).ok()?);
                let link = SchedClassifierLink::try_from(link).ok()?;
                let mut program = SchedClassifier::from_pin(pins.join(name)).ok()?;
                let id = program.attach_to_link(link).ok()?;
                // The pin holds it: let go of it without detaching.
                drop(program.take_link(id).ok()?);
                Some(())
            })();
            if renewed.is_none() {
                fs::remove_file(&path).map_err(GuardError::io("remove pin", &path))?;
            }
        }
    }
    Ok(())
}
