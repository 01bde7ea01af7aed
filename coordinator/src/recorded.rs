//! The scenario and the engine of a run, from what its folder keeps.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bace_api::{ClockKind, Header, ProfileUse};
use bace_engine::{Engine, Policy};
use bace_ledger::{LEDGER_FILE, PROFILE_FILE, SCENARIO_FILE};
use bace_netem::TimeScale;

use crate::profile::ChosenProfile;
use crate::scenarios::{self, Loaded};
use crate::wrong_input::{OrWrongInput, WrongInput};

/// A run that a ledger tells of.
#[derive(Debug, Clone)]
pub struct Recorded<'a> {
    /// The ledger; what else the run has left lies beside it.
    ledger: PathBuf,
    header: &'a Header,
}

impl<'a> Recorded<'a> {
    /// The run of `path`, a ledger or a run's folder, whose ledger begins with `header`.
    pub fn new(path: &Path, header: &'a Header) -> Self {
        let ledger = match path.is_dir() {
            true => path.join(LEDGER_FILE),
            false => path.to_owned(),
        };
        Self { ledger, header }
    }

    /// The scenario as the run has kept it, with the run's seed.
    ///
    /// # Errors
    /// If it is not there, reads other files that are not beside it, or is not the run's.
    pub fn kept_scenario(&self) -> anyhow::Result<Loaded> {
        let path = self.kept_path();
        if !path.exists() {
            return Err(WrongInput::error(format!(
                "find {}: the folder has lost the scenario of its run",
                path.display()
            )));
        }
        let missing = scenarios::missing_files(&path)?;
        if !missing.is_empty() {
            return Err(WrongInput::error(format!(
                "read {}: it reads other files, which a run's folder does not keep ({}); copy them there from beside the \
                 scenario that was run",
                path.display(),
                missing.join(", ")
            )));
        }
        let name = path.to_str().ok_or_else(|| {
            WrongInput::error(format!("read {}: its name is not UTF-8", path.display()))
        })?;
        self.scenario(name)
    }

    /// The scenario that `name` names, a file or a built-in one, with the run's seed.
    ///
    /// # Errors
    /// If it cannot be read, or its hash, or that of a file that it reads, is not the one in the header.
    pub fn scenario(&self, name: &str) -> anyhow::Result<Loaded> {
        let loaded = scenarios::load(name, Some(self.header.seed))?;
        if loaded.hash() != self.header.scenario_hash {
            return Err(WrongInput::error(format!(
                "use {name} with {}: it is not the scenario of this run, its blake3 is {} and the header says {}",
                self.ledger.display(),
                loaded.hash(),
                self.header.scenario_hash
            )));
        }
        self.refuse_other_sources(name, &loaded)?;
        Ok(loaded)
    }

    /// Refuses files that are not those that the run has read; older ledgers do not say which those were.
    fn refuse_other_sources(&self, name: &str, loaded: &Loaded) -> anyhow::Result<()> {
        let mut sources = self.header.sources.iter();
        let other = sources.find(|(file, hash)| loaded.sources.get(*file) != Some(*hash));
        let Some((file, hash)) = other else {
            return Ok(());
        };
        let found = loaded.sources.get(file);
        let found = found.map_or("not read".to_owned(), |hash| format!("{hash} (blake3)"));
        Err(WrongInput::error(format!(
            "use {name} with {}: {file}, which it reads, is not what this run has read: it is {found} and the header says {hash}",
            self.ledger.display()
        )))
    }

    /// Where the run has kept its scenario.
    pub fn kept_path(&self) -> PathBuf {
        self.ledger.with_file_name(SCENARIO_FILE)
    }

    /// The run's engine before its first input, with the profile that it predicted from.
    ///
    /// # Errors
    /// If the run has used a profile that is not beside its ledger any more, or is another.
    pub fn engine(
        &self,
        mut loaded: Loaded,
        policy: Box<dyn Policy + Send>,
    ) -> anyhow::Result<Engine> {
        // Measured times and chunks of links are those of the machine, and the run may have had another scale than its file.
        if self.header.clock == ClockKind::Wall {
            let scale = TimeScale::new(self.header.time_scale.unwrap_or(1.0));
            let scale = scale.with_context(|| {
                format!("read {}: its `time_scale` is none", self.ledger.display())
            })?;
            Arc::make_mut(&mut loaded.scenario).compute.time_scale = scale;
        }
        let Some(ProfileUse::Used { hash, .. }) = self.header.profile.as_deref() else {
            return Ok(Engine::new(loaded.scenario, policy));
        };
        let path = self.ledger.with_file_name(PROFILE_FILE);
        let profile = ChosenProfile::read(&path)?;
        if profile.hash() != *hash {
            return Err(WrongInput::error(format!(
                "use {} with {}: it is not the profile of this run, its blake3 is {} and the header says {hash}",
                path.display(),
                self.ledger.display(),
                profile.hash()
            )));
        }
        Engine::new(loaded.scenario, policy)
            .with_profile(&profile.profile)
            .or_wrong_input()
    }
}
