//! The controller's own user: by name, or by number where no account was made for it.

use nix::unistd::{Gid, Uid, User};
use thiserror::Error;

/// A user and its primary group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Why a text names no account that a controller may run as.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AccountError {
    /// No such user.
    #[error(
        "controller user `{0}` does not exist; make it with `useradd --system --user-group --no-create-home {0}`, or set `user` in [controller] to another, or to a number such as \"64117\""
    )]
    Unknown(String),
    /// Root.
    #[error("the controller must not be root; set `user` in [controller] to a user of its own")]
    Root,
}

/// The account of a name, of `UID`, or of `UID:GID`.
pub fn resolve(text: &str) -> Result<Account, AccountError> {
    let account = match User::from_name(text).ok().flatten() {
        Some(user) => Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() },
        None => numeric(text)
            .ok_or_else(|| AccountError::Unknown(bulkhead_domain::text::printable(text, 40)))?,
    };
    if account.uid == 0 || account.gid == 0 { Err(AccountError::Root) } else { Ok(account) }
}

fn numeric(text: &str) -> Option<Account> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    Some(Account { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

/// The account this process runs as.
pub fn current() -> Account {
    Account { uid: Uid::effective().as_raw(), gid: Gid::effective().as_raw() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_accounts_that_no_database_knows() {
        assert_eq!(resolve("64117"), Ok(Account { uid: 64117, gid: 64117 }));
        assert_eq!(resolve("64117:64118"), Ok(Account { uid: 64117, gid: 64118 }));
    }

    #[test]
    fn root_is_refused_by_name_and_by_number() {
        for text in ["root", "0", "5:0"] {
            assert_eq!(resolve(text), Err(AccountError::Root), "{text}");
        }
    }

    #[test]
    fn an_unknown_user_comes_with_the_command_that_makes_it() {
        let message = resolve("no-such-user-here").unwrap_err().to_string();
        assert!(message.contains("useradd --system"), "{message}");
    }
}
