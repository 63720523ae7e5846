//! The pair of keys by which agents tell the controllers' decisions from anybody else's.
//!
//! The supervisor makes the pair at the first start, because it alone can write for both: the private key into the
//! controller's state, readable by its user only, the public one into the agent's.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bulkhead_bus::signature::KeyError;
use bulkhead_bus::{Signer, Verifier};

use super::account::Account;
use crate::config::Paths;

/// The private key, in the controller's state.
pub fn private(paths: &Paths) -> PathBuf {
    paths.controller_state().join("signing.key")
}

/// The public key, in the agent's state.
pub fn public(paths: &Paths) -> PathBuf {
    paths.agent_state().join("controller.pub")
}

/// Makes the pair where it is missing, and hands the public key to the agent where this machine runs one.
pub fn prepare(paths: &Paths, owner: Account, agent: bool) -> anyhow::Result<()> {
    let path = private(paths);
    let signer = match Signer::load(&path) {
        Ok(signer) => signer,
        Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            create(&path, owner)?
        }
        Err(error) => return Err(error.into()),
    };
    if agent { hand_over(&public(paths), &signer.verifier()) } else { Ok(()) }
}

fn create(path: &Path, owner: Account) -> anyhow::Result<Signer> {
    let mut entropy = [0; 32];
    let drawn = rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty())
        .context("cannot draw a signing key")?;
    anyhow::ensure!(drawn == entropy.len(), "cannot draw a signing key: too little entropy");
    let signer = Signer::from_entropy(entropy);
    signer.create(path)?;
    std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid))
        .context("cannot give the signing key to the controller's user")?;
    Ok(signer)
}

/// A public key that belongs to an earlier pair is replaced: measures of that pair are refused from now on.
fn hand_over(path: &Path, verifier: &Verifier) -> anyhow::Result<()> {
    match Verifier::load(path) {
        Ok(known) if known == *verifier => return Ok(()),
        Ok(_) | Err(KeyError::Corrupt { .. }) => {
            tracing::warn!(path = %path.display(), "the controllers' key is a new one");
            std::fs::remove_file(path)
                .with_context(|| format!("cannot replace {}", path.display()))?;
        }
        Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(verifier.create(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(state: &Path) -> Paths {
        std::fs::create_dir_all(state.join("agent")).unwrap();
        std::fs::create_dir_all(state.join("controller")).unwrap();
        Paths {
            state: state.to_owned(),
            run: state.to_owned(),
            pins: state.to_owned(),
            cgroup_root: None,
        }
    }

    #[test]
    fn the_pair_is_made_once_and_kept() {
        let state = tempfile::tempdir().unwrap();
        let paths = paths(state.path());
        let owner = super::super::account::current();
        prepare(&paths, owner, true).unwrap();
        let first = Verifier::load(&public(&paths)).unwrap();
        prepare(&paths, owner, true).unwrap();
        assert_eq!(Verifier::load(&public(&paths)).unwrap(), first);
        assert_eq!(Signer::load(&private(&paths)).unwrap().verifier(), first);
    }

    #[test]
    fn an_agent_follows_a_new_pair() {
        let state = tempfile::tempdir().unwrap();
        let paths = paths(state.path());
        let owner = super::super::account::current();
        prepare(&paths, owner, true).unwrap();
        std::fs::remove_file(private(&paths)).unwrap();
        prepare(&paths, owner, true).unwrap();
        let signer = Signer::load(&private(&paths)).unwrap();
        assert_eq!(Verifier::load(&public(&paths)).unwrap(), signer.verifier());
    }
}
