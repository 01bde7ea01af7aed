//! Which runs a folder holds: one, the repeats of a policy, or those of several policies.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bace_ledger::LEDGER_FILE;

use crate::validate::MEASURED;

/// Whose run a page tells of where a validation has several policies.
const FIRST: &str = "bace-pipe";

/// The runs of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The run that is told of: a ledger, or a folder that holds one.
    pub run: PathBuf,
    /// Of each policy the folders of its runs, in order; at least one.
    pub policies: Vec<Vec<PathBuf>>,
}

impl Folder {
    /// One run: a ledger, or a folder that holds one.
    pub fn alone(path: &Path) -> Self {
        Self {
            run: path.to_owned(),
            policies: vec![vec![path.to_owned()]],
        }
    }

    /// What `path` holds: a ledger, a run's folder, a validation's folder (`POLICY/measured-N`), or one policy's part of it. Whatever
    /// it is, where it holds none of these it counts as a run's, so that reading it says what is missing.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        if !path.is_dir() || path.join(LEDGER_FILE).exists() {
            return Ok(Self::alone(path));
        }
        let mut policies = Vec::new();
        let mut told = None;
        let own = repeats(path)?;
        if own.is_empty() {
            for folder in folders(path)? {
                let runs = repeats(&folder)?;
                let Some(first) = runs.first().cloned() else {
                    continue;
                };
                let is_first = folder.file_name().is_some_and(|name| name == FIRST);
                if told.is_none() || is_first {
                    told = Some(first);
                }
                policies.push(runs);
            }
        } else {
            told = own.first().cloned();
            policies.push(own);
        }
        Ok(match told {
            Some(run) => Self { run, policies },
            None => Self::alone(path),
        })
    }
}

/// Folders `measured-N` of `path` that hold a ledger, by their numbers.
fn repeats(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let number = |folder: &Path| -> Option<u32> {
        let name = folder.file_name()?.to_str()?;
        name.strip_prefix(MEASURED)?.parse().ok()
    };
    let mut found: Vec<(u32, PathBuf)> = folders(path)?
        .into_iter()
        .filter(|folder| folder.join(LEDGER_FILE).exists())
        .filter_map(|folder| Some((number(&folder)?, folder)))
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(_, folder)| folder).collect())
}

/// Folders in `path`, by name.
fn folders(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = || format!("list {}", path.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(listed)? {
        let entry = entry.with_context(listed)?.path();
        if entry.is_dir() {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folders_of_validations_hold_their_policies_repeats() {
        let dir = tempfile::tempdir().unwrap();
        let run = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(LEDGER_FILE), "").unwrap();
            path
        };
        let second = run("lcf/measured-2");
        let tenth = run("lcf/measured-10");
        let ours = run("bace-pipe/measured-1");
        run("bace-pipe/predicted");
        fs::create_dir(dir.path().join("empty")).unwrap();
        let whole = Folder::of(dir.path()).unwrap();
        assert_eq!(whole.run, ours);
        assert_eq!(
            whole.policies,
            [vec![ours.clone()], vec![second.clone(), tenth.clone()]]
        );
        let part = Folder::of(&dir.path().join("lcf")).unwrap();
        assert_eq!(part.run, second);
        assert_eq!(part.policies, [[second, tenth]]);
        for alone in [
            ours.clone(),
            ours.join(LEDGER_FILE),
            dir.path().join("empty"),
        ] {
            let alone_folder = Folder::of(&alone).unwrap();
            assert_eq!(alone_folder.run, alone);
            assert_eq!(alone_folder.policies, [[alone]]);
        }
    }
}
