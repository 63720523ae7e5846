//! Network observation: who connects, sends, binds and is reached, and what every flow carries.
//!
//! Programs sit at the root of the cgroup v2 hierarchy, so a container's very first packet is covered.
//!
//! | file | hooks | what it does |
//! |---|---|---|
//! | `create` | `sock_create`, `post_bind4/6`, `bind4/6` | remembers who made a socket; reports bound ports |
//! | `call` | `connect4/6`, `sendmsg4/6` | reports connects and unconnected sends, refused ones included |
//! | `packet` | `cgroup_skb` both ways | counts packets and bytes; reports inbound peers and sends without a call |
//!
//! All need kernel 5.8 (ring buffer, socket storage in cgroup programs). Every program returns "pass": observation never
//! decides. All programs of a hook run even after one refused (`bpf_prog_run_array_cg`), so refused calls are seen; that
//! they were refused is read with `bpf_get_retval` (5.18), which tells of the programs attached before this one.

mod call;
mod counters;
mod create;
mod flow;
mod header;
mod packet;
mod place;
mod report;
mod socket;

pub(crate) use self::{
    counters::{count, of as counters_of},
    flow::{Peer, RESOLVER_PORT},
    header::{TCP, UDP, read as read_header},
    place::{Place, of_packet as place_of_packet},
    report::describe,
    socket::{Socket, find as find_socket},
};
