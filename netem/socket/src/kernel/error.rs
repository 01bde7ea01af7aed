//! What can go wrong with namespaces and queueing disciplines.

use std::io;

use bace_netem::PlanError;

/// Why the kernel does not shape links; each message fits after "failed to ...:".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A program that is not installed.
    #[error("start {program}: it is not installed; the package {package} has it")]
    NoProgram {
        /// The program.
        program: String,
        /// What to install.
        package: &'static str,
    },
    /// A program that does not start.
    #[error("start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system answered.
        source: io::Error,
    },
    /// A command that failed.
    #[error("run `{line}` ({about}): {said}")]
    Command {
        /// As a shell takes it.
        line: String,
        /// What it is for.
        about: String,
        /// What it printed, or how it ended.
        said: String,
    },
    /// This process may not make namespaces.
    #[error(
        "make network namespaces: {said}; this takes root, or a shell in `unshare --user --map-root-user --net --mount` with a tmpfs over /run/netns; `bace run --network kernel` makes that itself"
    )]
    NotRoot {
        /// What the first attempt printed.
        said: String,
    },
    /// Neither may it make a user namespace in which it could.
    #[error(
        "make network namespaces: as this user {as_user}, and in a user namespace {in_namespace}; run it as root, or allow user namespaces (kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces above 0, where the system has these settings)"
    )]
    NoUserNamespaces {
        /// What the attempt as this user printed.
        as_user: String,
        /// What the attempt in a user namespace printed.
        in_namespace: String,
    },
    /// A kernel without token buckets.
    #[error(
        "shape links: this kernel has neither of the queueing disciplines tbf and htb (modules sch_tbf, sch_htb)"
    )]
    NoRateQdisc,
    /// A namespace that cannot be entered.
    #[error("enter the network namespace {name}: {source}")]
    Enter {
        /// Its name.
        name: String,
        /// What the system answered.
        source: io::Error,
    },
    /// The folder of all namespaces cannot be read.
    #[error("list the network namespaces in {folder}: {source}")]
    List {
        /// The folder.
        folder: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// A signal, before all was there.
    #[error("put the network up: {0}; what was there of it is taken down")]
    Interrupted(&'static str),
    /// A scenario that does not become a network.
    #[error(transparent)]
    Plan(#[from] PlanError),
}
