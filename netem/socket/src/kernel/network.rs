//! A plan put into the kernel, and taken out again.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use bace_netem::{LinkId, LinkSpec, NamespaceName, Owner, Place, TcPlan};

use super::command::{run, run_words};
use super::{Inside, KernelError};

/// Where iproute2 keeps namespaces by name.
pub(super) const NAMESPACES: &str = "/run/netns";

/// A network that exists for as long as this value, with all that is in it.
#[derive(Debug)]
pub struct KernelNetwork {
    plan: TcPlan,
    /// What takes back all that was made, in the order of its making.
    undo: Vec<Vec<String>>,
}

impl KernelNetwork {
    /// Puts up what `plan` says, unless `interrupted` says between two commands by what it was.
    ///
    /// # Errors
    /// The first command that failed, or the interruption; what was made before is taken back.
    pub fn up(
        plan: TcPlan,
        mut interrupted: impl FnMut() -> Option<&'static str>,
    ) -> Result<Self, KernelError> {
        let commands = plan.commands();
        let mut network = Self {
            plan,
            undo: Vec::new(),
        };
        for command in commands {
            run(&command.argv, &command.about)?;
            network.undo.extend(command.undo);
            if let Some(by) = interrupted() {
                return Err(KernelError::Interrupted(by));
            }
        }
        Ok(network)
    }

    /// What it was made from, with the links as they are now.
    pub fn plan(&self) -> &TcPlan {
        &self.plan
    }

    /// Moves the calling thread to a place of the network.
    ///
    /// # Errors
    /// When somebody else has taken the network down.
    pub fn enter(&self, place: Place) -> Result<Inside, KernelError> {
        Inside::enter(&self.plan.namespace(place))
    }

    /// Makes a link what `spec` says from now on; what waits in its queue goes on waiting. Takes some milliseconds.
    ///
    /// # Errors
    /// The command that failed.
    pub fn change(&mut self, link: LinkId, spec: LinkSpec) -> Result<(), KernelError> {
        for command in self.plan.change(link, spec)? {
            run(&command.argv, &command.about)?;
        }
        Ok(())
    }

    /// Leaves the network to whoever takes it down.
    pub fn keep(mut self) {
        self.undo.clear();
    }

    /// Takes the network down, the last part first.
    ///
    /// # Errors
    /// The first command that failed; the others were tried all the same.
    pub fn down(mut self) -> Result<(), KernelError> {
        self.take_back()
    }

    fn take_back(&mut self) -> Result<(), KernelError> {
        let mut outcome = Ok(());
        while let Some(argv) = self.undo.pop() {
            outcome = outcome.and(run(&argv, "taking the network down").map(drop));
        }
        outcome
    }
}

impl Drop for KernelNetwork {
    fn drop(&mut self) {
        if let Err(error) = self.take_back() {
            tracing::error!("failed to {error}");
        }
    }
}

/// All namespaces that this program has made and nobody has taken down.
///
/// # Errors
/// When their folder cannot be read.
pub fn namespaces() -> Result<BTreeSet<NamespaceName>, KernelError> {
    let error = |source| KernelError::List {
        folder: NAMESPACES,
        source,
    };
    let entries = match std::fs::read_dir(NAMESPACES) {
        // Nobody has made any since the system has started.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.map_err(error)?,
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(error)?.file_name();
        found.extend(name.to_str().and_then(NamespaceName::parse));
    }
    Ok(found)
}

/// Deletes namespaces, with all that is in them.
///
/// # Errors
/// The first command that failed; the others were tried all the same.
pub fn remove<'a>(names: impl IntoIterator<Item = &'a NamespaceName>) -> Result<(), KernelError> {
    let mut outcome = Ok(());
    for name in names {
        let words = format!("ip netns delete {name}");
        outcome = outcome.and(run_words(&words, "taking the network down").map(drop));
    }
    outcome
}

/// What the hub of a complete network is marked with; absent where a network is not complete.
///
/// # Errors
/// When `ip` does not work.
pub fn mark_of(hub: &NamespaceName) -> Result<Option<String>, KernelError> {
    let words = format!("ip -n {hub} -oneline link show dev lo");
    let shown = run_words(&words, "looking whether the network is complete")?;
    let mut words = shown.split_whitespace().skip_while(|word| *word != "alias");
    Ok(words.nth(1).map(str::to_owned))
}

/// Whether a network's owner still needs it: nobody else may take it down then.
pub fn is_running(owner: Owner) -> bool {
    match owner {
        Owner::Kept => false,
        // Process ids are given again, in time to other programs.
        Owner::Run(pid) => std::fs::read_to_string(Path::new("/proc").join(format!("{pid}/comm")))
            .is_ok_and(|name| name.starts_with("bace")),
    }
}
