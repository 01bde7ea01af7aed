//! Who may make network namespaces: root, and everybody in a user namespace of their own.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use bace_netem::{NamespaceName, NetworkName, Owner, Place};
use rustix::mount::{MountFlags, mount};

use super::KernelError;
use super::command::{run_words, start_error};
use super::network::NAMESPACES;
use super::probe::Throwaway;

/// Set in the environment of a program that was started anew in a user namespace.
const STARTED_ANEW: &str = "BACE_IN_USER_NAMESPACE";
/// Root in a user namespace, with network and mounts of its own.
const UNSHARE: &str = "unshare --user --map-root-user --net --mount";

/// As whom this process makes namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// As one who may do so here: others see the namespaces, and they outlive this process.
    Root,
    /// In a user namespace of its own: all namespaces go with this process and its children.
    OwnUserNamespace,
}

/// Makes sure that this process may make network namespaces. Where it may not, the program is started anew in a user
/// namespace, with the same process id and arguments: this does not return then.
///
/// # Errors
/// When user namespaces are forbidden as well, or a program is missing.
pub fn obtain_privilege() -> Result<Privilege, KernelError> {
    let is_anew = std::env::var_os(STARTED_ANEW).is_some();
    let as_user = match try_namespace() {
        Ok(()) if is_anew => return Ok(Privilege::OwnUserNamespace),
        Ok(()) => return Ok(Privilege::Root),
        Err(refused) => said(refused)?,
    };
    let forbidden = |in_namespace| KernelError::NoUserNamespaces {
        as_user: as_user.clone(),
        in_namespace,
    };
    if is_anew {
        own_folder().map_err(|error| forbidden(format!("mount failed: {error}")))?;
        return match try_namespace() {
            Ok(()) => Ok(Privilege::OwnUserNamespace),
            Err(refused) => Err(forbidden(said(refused)?)),
        };
    }
    // Some systems allow user namespaces, but nothing inside them.
    let words = format!("{UNSHARE} ip link add name try type veth peer name peer");
    if let Err(refused) = run_words(&words, "trying a user namespace") {
        return Err(forbidden(said(refused)?));
    }
    Err(start_anew())
}

/// Refuses to go on where this process may not make namespaces that outlive it.
///
/// # Errors
/// Then, and when iproute2 is missing.
pub fn refuse_without_root() -> Result<(), KernelError> {
    match try_namespace() {
        Ok(()) => Ok(()),
        Err(refused) => Err(KernelError::NotRoot {
            said: said(refused)?,
        }),
    }
}

fn try_namespace() -> Result<(), KernelError> {
    Throwaway::make(NamespaceName {
        network: NetworkName::new("privilege", Owner::Run(std::process::id())),
        place: Place::Probe,
    })
    .map(drop)
}

/// What a program that refused has printed; any other error is one.
fn said(refused: KernelError) -> Result<String, KernelError> {
    match refused {
        KernelError::Command { said, .. } => Ok(said),
        other => Err(other),
    }
}

/// Only returns where that fails.
fn start_anew() -> KernelError {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(source) => {
            let program = "bace".to_owned();
            return KernelError::Start { program, source };
        }
    };
    let mut unshare = UNSHARE.split(' ').map(OsStr::new);
    let program = unshare.next().expect("it is a constant");
    let source = Command::new(program)
        .args(unshare)
        .arg("--")
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(STARTED_ANEW, "1")
        .exec();
    start_error("unshare", source)
}

/// Hides the system's folder of namespaces, in which only root may write, behind one of this process's own.
fn own_folder() -> std::io::Result<()> {
    if !has_own_mounts()? {
        let shared = format!("{STARTED_ANEW} is set, but others share the mounts of this process");
        return Err(std::io::Error::other(shared));
    }
    let tmpfs = |at: &str| {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", at, "tmpfs", flags, c"mode=700")
    };
    if Path::new(NAMESPACES).is_dir() {
        return Ok(tmpfs(NAMESPACES)?);
    }
    tmpfs("/run")?;
    std::fs::create_dir(NAMESPACES)
}

/// Whether neither the parent nor the first process sees what this process mounts. Whose namespace may not be read belongs to
/// another user namespace, and so do its mounts.
fn has_own_mounts() -> std::io::Result<bool> {
    let own = std::fs::read_link("/proc/self/ns/mnt")?;
    let parent = rustix::process::getppid().map_or(1, |parent| parent.as_raw_nonzero().get());
    let others = [1, parent].map(|pid| std::fs::read_link(format!("/proc/{pid}/ns/mnt")));
    Ok(others.into_iter().flatten().all(|other| other != own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mounted_where_others_see_it() {
        assert!(!has_own_mounts().unwrap());
        let refused = own_folder().unwrap_err().to_string();
        assert!(refused.contains("others share the mounts"), "{refused}");
    }
}
