//! Who asks: told by the kernel (`SO_PEERCRED`), never by the request.
//!
//! The kernel gives uid and gid of the process that connected; its supplementary groups are those of that user in the
//! system's group database. Root may do everything, the operator group may write, the reader group may read.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// Which groups may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Group whose members may read.
    pub read: String,
    /// Group whose members may write (and read).
    pub write: String,
}

impl Default for Groups {
    fn default() -> Self {
        Self { read: "bulkhead".into(), write: "bulkhead-operator".into() }
    }
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Nothing.
    None,
    /// Ask.
    Read,
    /// Ask and change.
    Write,
}

/// A caller: its name for the audit log, and its right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User name, or `uid N` where the user has no name.
    pub who: String,
    /// What it may do.
    pub right: Right,
}

/// The right of a uid with these groups.
fn right(uid: u32, groups: &[u32], own_uid: u32, read: Option<u32>, write: Option<u32>) -> Right {
    let member = |gid: Option<u32>| gid.is_some_and(|g| groups.contains(&g));
    if uid == 0 || member(write) {
        Right::Write
    } else if uid == own_uid || member(read) {
        Right::Read
    } else {
        Right::None
    }
}

/// The caller behind a peer's uid and gid.
///
/// A group that does not exist has no members, so on a machine without the groups only root may do anything. The user
/// that the service itself runs as may read: it reads the log anyway.
pub fn caller(uid: u32, gid: u32, groups: &Groups) -> Caller {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let mut member_of = vec![gid];
    if let Some(name) = user.as_ref().and_then(|u| CString::new(u.name.clone()).ok()) {
        let listed = getgrouplist(&name, Gid::from_raw(gid)).unwrap_or_default();
        member_of.extend(listed.into_iter().map(Gid::as_raw));
    }
    Caller {
        who: user.map_or_else(|| format!("uid {uid}"), |u| u.name),
        right: right(
            uid,
            &member_of,
            Uid::effective().as_raw(),
            group_id(&groups.read),
            group_id(&groups.write),
        ),
    }
}

/// The name of the user that runs this process, for the audit log.
pub fn own_name() -> String {
    let uid = Uid::current();
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |u| u.name)
}

/// The id of a group by its name, or by its number where it has no name.
pub fn group_id(name: &str) -> Option<u32> {
    let named = Group::from_name(name).ok().flatten().map(|g| g.gid.as_raw());
    named.or_else(|| name.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_follow_root_and_groups_only() {
        let (read, write) = (Some(100), Some(200));
        for (uid, groups, expect) in [
            (0, vec![], Right::Write),
            (5, vec![200], Right::Write),
            (5, vec![100], Right::Read),
            (5, vec![100, 200], Right::Write),
            (5, vec![1], Right::None),
            (77, vec![], Right::Read),
        ] {
            assert_eq!(right(uid, &groups, 77, read, write), expect, "{uid} {groups:?}");
        }
    }

    #[test]
    fn without_the_groups_only_root_gets_in() {
        assert_eq!(right(5, &[100], 77, None, None), Right::None);
        assert_eq!(right(0, &[], 77, None, None), Right::Write);
    }

    #[test]
    fn a_user_without_a_name_is_called_by_its_number() {
        assert_eq!(caller(3_999_999_999, 3_999_999_999, &Groups::default()).who, "uid 3999999999");
    }
}
