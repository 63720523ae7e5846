//! What the ring carries, as plain values.

use super::{
    dns::DnsEvent,
    network::NetworkEvent,
    process::{CgroupEvent, ExecEvent, ProcessEvent},
    syscall::CallEvent,
};

/// One discrete event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A program was executed.
    Exec(ExecEvent),
    /// A process came into a container from outside.
    Attach(ProcessEvent),
    /// A privileged or unusual call.
    Call(CallEvent),
    /// A connect, send, bind or inbound connection.
    Network(NetworkEvent),
    /// A DNS question or answer.
    Dns(DnsEvent),
    /// A cgroup directory was made.
    CgroupMade(CgroupEvent),
    /// A cgroup directory was removed.
    CgroupGone(CgroupEvent),
}
