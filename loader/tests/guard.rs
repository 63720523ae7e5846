//! Standing guards: what is refused and how, how long it lasts, what outlives whom, and how a person ends it.

#[path = "support/mod.rs"]
mod support;

use std::io::ErrorKind;
use std::net::TcpStream;

use bulkhead_loader::guard::Who;
use support::container::run;
use support::link::{Link, PEER};
use support::standing::{CONTAINER, Standing, deny, host};

#[test]
fn a_denied_connect_fails_at_once_with_eperm() {
    let Some(mut standing) = Standing::open("guards") else { return };
    let link = Link::new();
    let cgroup = standing.container("c1");
    standing.apply(&[deny(1, Who::Container(CONTAINER + 1), host(PEER))]);
    let said = run(&cgroup, Some(&link.inside()), || {
        TcpStream::connect((PEER, 80)).unwrap_err().kind() == ErrorKind::PermissionDenied
    });
    assert_eq!(said.said, "true");
    assert_eq!(standing.guard.hits(1).unwrap().unwrap().calls, 1);
}
