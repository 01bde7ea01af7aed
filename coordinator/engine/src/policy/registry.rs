//! All policies by name.

use super::{BacePipe, CrLcf, CrLdf, Lcf, Ldf, Policy};
use crate::EngineError;

/// A policy's entry in the list.
#[derive(Debug, Clone, Copy)]
pub struct PolicyInfo {
    /// What `--policy` takes.
    pub name: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    make: fn() -> Box<dyn Policy + Send>,
}

impl PolicyInfo {
    /// The policy itself.
    pub fn policy(&self) -> Box<dyn Policy + Send> {
        (self.make)()
    }
}

/// Every policy, the default first.
pub fn policies() -> &'static [PolicyInfo] {
    POLICIES
}

/// The policy of this name; the error lists all names.
pub fn policy_by_name(name: &str) -> Result<Box<dyn Policy + Send>, EngineError> {
    let found = POLICIES.iter().find(|policy| policy.name == name);
    found.map(PolicyInfo::policy).ok_or_else(|| {
        let names: Vec<&str> = POLICIES.iter().map(|policy| policy.name).collect();
        EngineError::UnknownPolicy {
            name: name.to_owned(),
            known: names.join(", "),
        }
    })
}

const POLICIES: &[PolicyInfo] = &[
    PolicyInfo {
        name: "bace-pipe",
        summary: "bandwidth-aware paths over several regions, short jobs first, GPUs where power is cheap",
        make: || Box::new(BacePipe::default()),
    },
    PolicyInfo {
        name: "lcf",
        summary: "lowest cost first: one region, the cheapest that fits",
        make: || Box::new(Lcf),
    },
    PolicyInfo {
        name: "ldf",
        summary: "lowest delay first: one region, the one with most free GPUs",
        make: || Box::new(Ldf),
    },
    PolicyInfo {
        name: "cr-lcf",
        summary: "lowest cost first over several regions, blind to bandwidth",
        make: || Box::new(CrLcf),
    },
    PolicyInfo {
        name: "cr-ldf",
        summary: "lowest delay first over several regions, along the emptiest links",
        make: || Box::new(CrLdf),
    },
    PolicyInfo {
        name: "no-priority",
        summary: "bace-pipe in order of arrival",
        make: || Box::new(BacePipe::default().without_priority()),
    },
    PolicyInfo {
        name: "no-pathfinder",
        summary: "bace-pipe within one region at a time",
        make: || Box::new(BacePipe::default().without_pathfinder()),
    },
    PolicyInfo {
        name: "no-cost-min",
        summary: "bace-pipe on the fastest path, whatever it costs",
        make: || Box::new(BacePipe::default().without_cost_min()),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_an_unknown_one_lists_them() {
        for info in policies() {
            assert!(policy_by_name(info.name).is_ok());
        }
        let error = policy_by_name("fifo").err().unwrap().to_string();
        assert_eq!(
            error,
            "find the policy `fifo`: there are bace-pipe, lcf, ldf, cr-lcf, cr-ldf, no-priority, no-pathfinder, no-cost-min"
        );
    }
}
