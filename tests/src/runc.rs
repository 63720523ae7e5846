//! Containers from runc alone: no engine knows them, only their cgroup and their namespaces do.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    command::{Finished, finish, output},
    engine::{cgroup_of, remove_cgroup_parent},
    error::{HarnessError, io},
    image::Image,
    netns::Netns,
    scratch::{container_id, unique},
};

/// What Docker grants a container by default.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A runc with its state in a directory of its own. Dropping it ends its containers.
#[derive(Debug)]
pub struct Runc {
    directory: PathBuf,
    cgroup_parent: String,
    annotations: BTreeMap<String, String>,
}

/// A container that runc started.
#[derive(Debug, Clone)]
pub struct Bare {
    state: PathBuf,
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// Its first process, as the machine sees it.
    pub pid: u32,
    /// Its directory in the cgroup v2 hierarchy.
    pub cgroup: PathBuf,
}

impl Runc {
    /// Sets one up in an existing, empty directory, with a root file system for its containers.
    pub fn start(directory: &Path, image: &Image) -> Result<Self, HarnessError> {
        image.unpack(&directory.join("rootfs"))?;
        Ok(Self {
            directory: directory.to_owned(),
            cgroup_parent: format!("bulkhead-{}", unique()),
            annotations: BTreeMap::new(),
        })
    }

    /// The cgroup above its containers, relative to the root of each hierarchy.
    pub fn cgroup_parent(&self) -> &str {
        &self.cgroup_parent
    }

    /// Gives every container made from now on an annotation, which is what labels are to engines.
    pub fn annotate(&mut self, key: &str, value: &str) {
        self.annotations.insert(key.to_owned(), value.to_owned());
    }

    /// Starts a container that runs this command, in a network namespace of the test's or an empty one of its own.
    pub fn run(&mut self, netns: Option<&Netns>, command: &[&str]) -> Result<Bare, HarnessError> {
        self.run_as(&container_id(), netns, command)
    }

    /// Starts one under this id: again, when one of that id was removed before.
    pub fn run_as(
        &self,
        id: &str,
        netns: Option<&Netns>,
        command: &[&str],
    ) -> Result<Bare, HarnessError> {
        let bundle = self.bundle(id, netns, command)?;
        let pid_file = bundle.join("pid");
        let log = bundle.join("runc.log");
        let mut run = self.runc();
        run.arg("--log").arg(&log).args(["run", "--detach", "--bundle"]);
        run.arg(&bundle).arg("--pid-file").arg(&pid_file).arg(id);
        // A detached container keeps the streams of its starter, so they are no pipes of ours.
        let status = run
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(io("cannot start runc"))?;
        if !status.success() {
            let cause = fs::read_to_string(&log).unwrap_or_default();
            return Err(HarnessError::Command { command: "runc run".to_owned(), cause });
        }
        let text = fs::read_to_string(&pid_file).map_err(io("cannot read the pid file"))?;
        let pid = text
            .trim()
            .parse()
            .map_err(|_| HarnessError::Unexpected(format!("{text:?} is no pid")))?;
        Ok(Bare { state: self.state(), id: id.to_owned(), pid, cgroup: cgroup_of(pid)? })
    }

    /// Runs a container of this id to its end, and takes it away: one run of runc, for many short ones in a row.
    pub fn run_to_end(
        &self,
        id: &str,
        netns: Option<&Netns>,
        command: &[&str],
    ) -> Result<Finished, HarnessError> {
        let bundle = self.bundle(id, netns, command)?;
        let finished = finish(self.runc().args(["run", "--bundle"]).arg(&bundle).arg(id));
        let _ = fs::remove_dir_all(&bundle);
        finished
    }

    /// The directory of its containers' states, one each.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn runc(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.state());
        command
    }

    fn bundle(
        &self,
        id: &str,
        netns: Option<&Netns>,
        command: &[&str],
    ) -> Result<PathBuf, HarnessError> {
        let bundle = self.directory.join("bundles").join(id);
        fs::create_dir_all(&bundle).map_err(io(format!("cannot make {}", bundle.display())))?;
        let config = self.config(id, netns, command);
        fs::write(bundle.join("config.json"), config.to_string())
            .map_err(io("cannot write config.json"))?;
        Ok(bundle)
    }

    fn config(&self, id: &str, netns: Option<&Netns>, command: &[&str]) -> serde_json::Value {
        let network = match netns {
            Some(netns) => json!({ "type": "network", "path": netns.path() }),
            None => json!({ "type": "network" }),
        };
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "args": command,
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
                "capabilities": {
                    "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
                },
                "noNewPrivileges": false,
            },
            "root": { "path": self.directory.join("rootfs"), "readonly": false },
            "hostname": &id[..12],
            "annotations": self.annotations,
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                  "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"] },
            ],
            "linux": {
                "cgroupsPath": format!("/{}/{id}", self.cgroup_parent),
                "namespaces": [
                    { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, network,
                ],
            },
        })
    }
}

impl Bare {
    /// Runs a command inside and returns what it printed; a failure is an error.
    pub fn exec(&self, command: &[&str]) -> Result<String, HarnessError> {
        output(&mut self.exec_command(command))
    }

    /// Runs a command inside, whatever its end is.
    pub fn try_exec(&self, command: &[&str]) -> Result<Finished, HarnessError> {
        finish(&mut self.exec_command(command))
    }

    /// The command that would run something inside, to be started by the caller.
    pub fn exec_command(&self, command: &[&str]) -> Command {
        let mut exec = self.runc();
        exec.args(["exec", &self.id]).args(command);
        exec
    }

    /// Ends and removes it.
    pub fn remove(&self) -> Result<(), HarnessError> {
        output(self.runc().args(["delete", "--force", &self.id])).map(drop)
    }

    fn runc(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.state);
        command
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.state()).into_iter().flatten().flatten() {
            let _ = output(self.runc().args(["delete", "--force"]).arg(entry.file_name()));
        }
        remove_cgroup_parent(&self.cgroup_parent);
        let _ = fs::remove_dir_all(&self.directory);
    }
}
