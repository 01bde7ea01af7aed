//! The profile that a prediction is made from.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bace_api::{ComputeRung, Job, ProfileUse};
use bace_engine::{Engine, Scenario, Unprofiled};
use bace_models::{DeviceProfile, ProfiledDevice};

use super::file::{ProfileFile, file_name};
use crate::cli::{ComputeChoice, DeviceChoice, PrecisionChoice};
use crate::run::{CheckedDevice, identify};
use crate::wrong_input::WrongInput;

/// Where profiles are kept.
pub const FOLDER: &str = "profiles";
/// Largest file: thousands of entries.
const FILE_LIMIT: u64 = 16 << 20;

/// A profile as read.
#[derive(Debug, Clone)]
pub struct ChosenProfile {
    /// Where it was found.
    pub path: PathBuf,
    /// The file's text, byte for byte.
    pub text: String,
    /// What it says.
    pub profile: DeviceProfile,
}

/// How this machine's profile is measured.
#[derive(Debug, Clone)]
pub struct MeasureCommand<'a> {
    /// The scenario as named on the command line.
    pub scenario: &'a str,
    /// The seed, where it is not the scenario's.
    pub seed: Option<u64>,
    /// The device, as `--device` takes it.
    pub device: String,
    /// In which numbers it computes; absent for what is usual on it.
    pub precision: Option<PrecisionChoice>,
}

impl ChosenProfile {
    /// Reads a profile.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let read = || -> std::io::Result<String> {
            let mut text = String::new();
            File::open(path)?
                .take(FILE_LIMIT)
                .read_to_string(&mut text)?;
            Ok(text)
        };
        let wrong = |problem: String| {
            WrongInput::error(format!("read the profile {}: {problem}", path.display()))
        };
        let text = read().map_err(|error| wrong(error.to_string()))?;
        let file = ProfileFile::parse(&text).map_err(wrong)?;
        Ok(Self {
            path: path.to_owned(),
            profile: file.profile(),
            text,
        })
    }

    /// The profile of `device`, if it has one under `folder`.
    pub fn of(device: &ProfiledDevice, folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(file_name(device));
        match path.try_exists() {
            Ok(false) => return Ok(None),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("look for {}", path.display()));
            }
            _ => {}
        }
        let found = Self::read(&path)?;
        if found.profile.device != *device {
            return Err(WrongInput::error(format!(
                "use the profile {}: it is that of {}, and its name that of {}; move it away, and run bace profile",
                path.display(),
                words(&found.profile.device),
                words(device)
            )));
        }
        Ok(Some(found))
    }

    /// The profile of devices that are all alike, if they have one.
    pub fn of_all(devices: &[CheckedDevice]) -> anyhow::Result<Option<Self>> {
        let Some((first, others)) = devices.split_first() else {
            return Ok(None);
        };
        if others.iter().any(|other| other.identity != first.identity) {
            // No one profile holds for all stages.
            return Ok(None);
        }
        Self::of(&first.identity, Path::new(FOLDER))
    }

    /// blake3 of the file, hexadecimal.
    pub fn hash(&self) -> String {
        blake3::hash(self.text.as_bytes()).to_hex().to_string()
    }

    /// Refuses the profile for devices that it was not measured on.
    pub fn refuse_other_devices(&self, devices: &[CheckedDevice]) -> anyhow::Result<()> {
        let own = &self.profile.device;
        match devices.iter().find(|device| device.identity != *own) {
            None => Ok(()),
            Some(other) => Err(WrongInput::error(format!(
                "use the profile {}: it is that of {}, and {} is {}",
                self.path.display(),
                words(own),
                other.device.name,
                words(&other.identity)
            ))),
        }
    }

    /// The profile that `asked` predicts a native run from; none where compute is modelled.
    ///
    /// # Errors
    /// If there is none: a prediction was asked for, and a guess is none.
    pub fn asked_for(asked: &Asked<'_>) -> anyhow::Result<Option<Self>> {
        if !asked.is_native {
            return match asked.profile {
                None => Ok(None),
                Some(path) => Err(WrongInput::error(format!(
                    "use the profile {}: it predicts native compute; give --compute native with it",
                    path.display()
                ))),
            };
        }
        if let Some(path) = asked.profile {
            return Self::read(path).map(Some);
        }
        let devices = identify(asked.device, asked.precision)?;
        match Self::of_all(&devices)? {
            Some(found) => Ok(Some(found)),
            None => Err(WrongInput::error(format!(
                "predict a native run: {}",
                absent(&devices, asked.scenario, asked.seed)
            ))),
        }
    }

    /// What the header of a ledger of `scenario` says of it; `command` measures it again.
    pub fn named(&self, scenario: &Scenario, command: &MeasureCommand<'_>) -> ProfileUse {
        ProfileUse::Used {
            path: self.path.display().to_string(),
            hash: self.hash(),
            device: self.profile.device.name.clone(),
            lacks_set_up: self.lacks_set_up(scenario, command),
        }
    }

    /// Which models' set-up it does not know, since older versions did not measure it or it was lost in noise, and what measures it; words that
    /// follow a colon.
    pub fn lacks_set_up(
        &self,
        scenario: &Scenario,
        command: &MeasureCommand<'_>,
    ) -> Option<String> {
        let lacks = |job: &&Job| {
            let times = self.profile.times(&job.model, &job.shape);
            times.is_some_and(|times| times.set_up.is_none())
        };
        let lacking = scenario.jobs.iter().filter(lacks);
        let models: BTreeSet<String> = lacking.map(|job| format!("`{}`", job.model_name)).collect();
        if models.is_empty() {
            return None;
        }
        let models: Vec<String> = models.into_iter().collect();
        Some(format!(
            "the profile {} knows no set-up of {}; measure it again with `{}`",
            self.path.display(),
            models.join(", "),
            command.text(self.path.parent())
        ))
    }

    /// `engine` with the profile's times in place of the formula's.
    pub fn given_to(&self, engine: Engine, command: &MeasureCommand<'_>) -> anyhow::Result<Engine> {
        engine
            .with_profile(&self.profile)
            .map_err(|gaps| self.lacks(&gaps, command))
    }

    fn lacks(&self, gaps: &Unprofiled, command: &MeasureCommand<'_>) -> anyhow::Error {
        let gaps = gaps.to_string();
        let gaps = gaps
            .strip_prefix("predict from the profile: ")
            .unwrap_or(&gaps);
        WrongInput::error(format!(
            "predict from the profile {}: {gaps}; measure it with `{}`",
            self.path.display(),
            command.text(self.path.parent())
        ))
    }
}

/// Who is to take the time of compute: as the command line says, else the scenario; absent where the devices decide.
pub fn asked_rung(compute: Option<ComputeChoice>, scenario: &Scenario) -> Option<ComputeRung> {
    compute.map(ComputeRung::from).or(scenario.compute.rung)
}

/// What a prediction is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whether times of compute are those of this machine's device.
    pub is_native: bool,
    /// The device.
    pub device: &'a DeviceChoice,
    /// In which numbers it computes; absent for what is usual on it.
    pub precision: Option<PrecisionChoice>,
    /// A profile named by the user.
    pub profile: Option<&'a Path>,
    /// The scenario as named on the command line.
    pub scenario: &'a str,
    /// The seed, where it is not the scenario's.
    pub seed: Option<u64>,
}

impl Asked<'_> {
    /// How what is missing is measured.
    pub fn command(&self) -> MeasureCommand<'_> {
        MeasureCommand {
            scenario: self.scenario,
            seed: self.seed,
            precision: self.precision,
            device: match self.device {
                DeviceChoice::Cpu => "cpu".to_owned(),
                DeviceChoice::Cuda(indices) => {
                    format!("cuda:{}", indices.first().copied().unwrap_or_default())
                }
            },
        }
    }

    /// `engine` with the times of `profile`, where there is one.
    pub fn give(&self, profile: Option<&ChosenProfile>, engine: Engine) -> anyhow::Result<Engine> {
        match profile {
            Some(profile) => profile.given_to(engine, &self.command()),
            None => Ok(engine),
        }
    }
}

/// Why devices have no profile, and what makes one; words that follow a colon.
pub fn absent(devices: &[CheckedDevice], scenario: &str, seed: Option<u64>) -> String {
    let Some((first, others)) = devices.split_first() else {
        return "workers that people start bring their own devices; name a profile with --profile FILE".to_owned();
    };
    if let Some(other) = others.iter().find(|other| other.identity != first.identity) {
        return format!(
            "{} is {} and {} is {}, and one profile holds for devices that are alike",
            first.device.name, first.identity.name, other.device.name, other.identity.name
        );
    }
    let command = MeasureCommand {
        scenario,
        seed,
        device: first.device.name.clone(),
        precision: first.device.precision,
    };
    let path = Path::new(FOLDER).join(file_name(&first.identity));
    format!(
        "there is no profile {} of {}; measure one with `{}`",
        path.display(),
        first.identity.name,
        command.text(None)
    )
}

impl MeasureCommand<'_> {
    /// The command line, for a shell; into `folder` where that is not the usual one.
    pub fn text(&self, folder: Option<&Path>) -> String {
        let word = bace_netem::shell_word;
        let mut text = format!(
            "bace profile {} --device {}",
            word(self.scenario),
            word(&self.device)
        );
        if let Some(precision) = self.precision {
            text.push_str(&format!(" --precision {}", precision.word()));
        }
        if let Some(seed) = self.seed {
            text.push_str(&format!(" --seed {seed}"));
        }
        if let Some(folder) = folder.filter(|folder| *folder != Path::new(FOLDER)) {
            let folder = folder.display().to_string();
            let folder = if folder.is_empty() { "." } else { &folder };
            text.push_str(&format!(" --out {}", word(folder)));
        }
        text
    }
}

/// A device in words.
fn words(device: &ProfiledDevice) -> String {
    let name = file_name(device);
    format!("`{}` ({})", device.name, name.trim_end_matches(".toml"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bace_engine::policy_by_name;
    use bace_ledger::Summary;
    use bace_models::ProfileKey;
    use tempfile::TempDir;

    use super::*;
    use crate::cli::{ActionsChoice, IterationModelChoice};
    use crate::profile::file::tests::{device, set_up, times, without_set_up};
    use crate::profile::file::{Entry, Origin};
    use crate::scenarios::{self, Loaded};
    use crate::simulate::Simulation;

    /// Seconds of a layer of every model.
    const LAYER_S: f64 = 0.001;

    fn file(loaded: &Loaded) -> ProfileFile {
        let mut file = ProfileFile::of(device());
        for job in &loaded.scenario.jobs {
            let origin = Origin {
                models: vec![job.model_name.clone()],
                measured: "2026-01-02T03:04:05Z".to_owned(),
                machine: "some machine".to_owned(),
            };
            let key = ProfileKey::of(&job.model, &job.shape);
            file.merge(Entry::of(
                &key,
                &times(LAYER_S),
                Some(&set_up(LAYER_S)),
                origin,
            ));
        }
        file
    }

    fn simulated(loaded: &Loaded, profile: &ChosenProfile, model: IterationModelChoice) -> Summary {
        let command = MeasureCommand {
            scenario: "three-regions",
            seed: None,
            device: "cpu".to_owned(),
            precision: None,
        };
        let engine = Engine::new(loaded.scenario.clone(), policy_by_name("lcf").unwrap());
        let simulation = Simulation {
            loaded,
            policy: "lcf",
            engine: profile.given_to(engine, &command).unwrap(),
            profile: Some((profile, profile.named(&loaded.scenario, &command))),
            iteration_model: model,
            actions: ActionsChoice::Off,
        };
        simulation.run(None).unwrap()
    }

    #[test]
    fn a_profile_that_knows_no_set_up_predicts_none_and_says_so() {
        let dir = TempDir::new().unwrap();
        let loaded = scenarios::load("three-regions", None).unwrap();
        let file = file(&loaded);
        let read = |text: &str| {
            let path = dir.path().join("p.toml");
            fs::write(&path, text).unwrap();
            ChosenProfile::read(&path).unwrap()
        };
        let whole = read(&file.text().unwrap());
        let older = read(&without_set_up(&file));
        let [whole_event, older_event] = [&whole, &older]
            .map(|profile| simulated(&loaded, profile, IterationModelChoice::Event));
        // A layer, twice that for the stage and ten times for a fresh process.
        let jct_s = |summary: &Summary| *summary.jobs[0].jct_s.known().unwrap();
        assert!(jct_s(&whole_event) > jct_s(&older_event) + 12.0 * LAYER_S);
        let lack = "lacks what stages take to load and rehearse";
        let told = |summary: &Summary| {
            let told = bace_ledger::render(summary);
            told.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(!told(&whole_event).contains(lack), "{}", told(&whole_event));
        let said = told(&older_event);
        assert!(said.contains(lack), "{said}");
        let name = &loaded.scenario.jobs[0].model_name;
        assert!(said.contains(&format!("`{name}`")), "{said}");
        let command = "measure it again with `bace profile three-regions --device cpu --out ";
        assert!(said.contains(command), "{said}");
        let by_formula = simulated(&loaded, &older, IterationModelChoice::Analytic);
        assert!(!told(&by_formula).contains(lack), "no model lacks less");
        assert_eq!(
            by_formula.to_json()["jobs"],
            simulated(&loaded, &whole, IterationModelChoice::Analytic).to_json()["jobs"]
        );
    }
}
