//! Keys.
use super::account::Account;
use crate::config::Paths;

/// Prepares.
pub fn prepare(_paths: &Paths, _owner: Account) -> anyhow::Result<()> {
    Ok(())
}
