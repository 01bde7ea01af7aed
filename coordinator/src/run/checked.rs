//! A run that can begin: everything it needs is there, and nothing is started or made.

use std::sync::Arc;

use bace_api::{ComputeRung, NetworkRung, ProfileUse};
use bace_engine::{Engine, Scenario, policy_by_name};
use bace_netem::TimeScale;
use bace_socket::kernel::Privilege;

use crate::cli::{DeviceChoice, EmulationArgs, RunArgs};
use crate::profile::{Asked, ChosenProfile, absent, asked_rung};
use crate::scenarios::{self, Loaded};
use crate::wrong_input::{OrWrongInput, WrongInput};

use super::devices::{self, CheckedDevice};
use super::kernel::RunNetwork;
use super::preflight;

/// What is settled before a run begins.
pub struct CheckedRun {
    /// As it was asked for.
    pub args: RunArgs,
    /// The scenario, at the scale of the run.
    pub loaded: Loaded,
    /// Who takes the time of compute.
    pub compute: ComputeRung,
    /// Who takes the time of transfers.
    pub network: NetworkRung,
    /// What workers compute on; none where nothing is computed or people start the workers.
    pub devices: Vec<CheckedDevice>,
    /// As whom namespaces are made; absent where none are.
    pub(super) privilege: Option<Privilege>,
    pub(super) profile: Option<ChosenProfile>,
}

impl CheckedRun {
    /// Checks what `args` ask for, the scenario first and the devices, which take a moment, last. Where the kernel shapes links
    /// and this process may make no namespaces, the program is started anew, and this does not return.
    ///
    /// # Errors
    /// What is wrong with the command line, the scenario, or what this machine has for them.
    pub fn of(args: RunArgs) -> anyhow::Result<Self> {
        let asked = &args.emulation;
        let mut loaded = scenarios::load(&args.scenario.scenario, args.scenario.seed)?;
        if let Some(scale) = asked.time_scale {
            Arc::make_mut(&mut loaded.scenario).compute.time_scale = scale;
        }
        policy_by_name(&args.scenario.policy).or_wrong_input()?;
        let rung = asked_rung(asked.compute, &loaded.scenario);
        preflight::refuse_what_cannot_run(asked, rung, &loaded.scenario)?;
        let network = asked
            .network
            .map_or(loaded.scenario.network.backend, NetworkRung::from);
        let privilege = (network == NetworkRung::Kernel)
            .then(|| RunNetwork::prepare(&args))
            .transpose()?;
        // Workers that people start bring their own device; what is asked of them here is the rung alone.
        let devices = if args.await_workers {
            Vec::new()
        } else {
            devices::devices(asked, rung, &loaded.scenario)?
        };
        let compute =
            rung.unwrap_or_else(|| default_rung(&asked.device, devices.len(), &loaded.scenario));
        refuse_scaled_native(compute, loaded.scenario.compute.time_scale)?;
        let profile = chosen_profile(asked, compute, &devices)?;
        let checked = Self {
            args,
            loaded,
            compute,
            network,
            devices,
            privilege,
            profile,
        };
        // A profile that lacks something shows here.
        checked.engine()?;
        Ok(checked)
    }

    /// The engine of this run, at its start: it knows of compute and links what the scheduler of the run knows.
    ///
    /// # Errors
    /// If the run's profile lacks a model or a micro-batch of the scenario.
    pub fn engine(&self) -> anyhow::Result<Engine> {
        self.engine_under(&self.args.scenario.policy)
    }

    /// The same, but with another policy.
    ///
    /// # Errors
    /// Likewise, and if there is no such policy.
    pub fn engine_under(&self, policy: &str) -> anyhow::Result<Engine> {
        let policy = policy_by_name(policy).or_wrong_input()?;
        let engine = Engine::new(self.loaded.scenario.clone(), policy);
        self.asked().give(self.profile(), engine)
    }

    fn asked(&self) -> Asked<'_> {
        let asked = &self.args.emulation;
        Asked {
            is_native: self.compute == ComputeRung::Native,
            device: &asked.device,
            precision: asked.precision,
            profile: asked.profile.as_deref(),
            scenario: &self.args.scenario.scenario,
            seed: self.args.scenario.seed,
        }
    }

    /// What its times of compute are predicted from, where that was measured.
    pub fn profile(&self) -> Option<&ChosenProfile> {
        self.profile.as_ref()
    }

    /// What a ledger's header says of where times of compute are predicted from; absent where the emulated GPU gives them.
    pub fn profile_use(&self) -> Option<ProfileUse> {
        let ignored = self.args.emulation.ignores_profiles;
        let absent = || ProfileUse::Absent {
            reason: if ignored {
                "none was looked for".to_owned()
            } else {
                let named = &self.args.scenario;
                absent(&self.devices, &named.scenario, named.seed)
            },
        };
        let named =
            |profile: &ChosenProfile| profile.named(&self.loaded.scenario, &self.asked().command());
        let used = self.profile().map(named);
        (self.compute == ComputeRung::Native).then(|| used.unwrap_or_else(absent))
    }
}

/// What the scheduler of a run predicts compute from: the profile of its devices; absent where there is none, or nothing runs
/// natively.
fn chosen_profile(
    args: &EmulationArgs,
    compute: ComputeRung,
    devices: &[CheckedDevice],
) -> anyhow::Result<Option<ChosenProfile>> {
    let is_native = compute == ComputeRung::Native;
    match &args.profile {
        Some(path) if !is_native => Err(WrongInput::error(format!(
            "use the profile {}: compute is {}, which takes the GPU types' times; a profile goes with --compute native",
            path.display(),
            compute.name()
        ))),
        Some(path) => {
            let profile = ChosenProfile::read(path)?;
            profile.refuse_other_devices(devices)?;
            Ok(Some(profile))
        }
        None if is_native && !args.ignores_profiles => ChosenProfile::of_all(devices),
        _ => Ok(None),
    }
}

/// Who takes the time of compute where nobody says so, on so many devices.
pub fn default_rung(device: &DeviceChoice, devices: usize, scenario: &Scenario) -> ComputeRung {
    let mut jobs = scenario.jobs.iter();
    let trains_scale_models = jobs.any(|job| job.scale_model.is_some());
    rung_on(
        device,
        devices,
        preflight::workers(scenario),
        trains_scale_models,
    )
}

/// On the CPU, for scale models, and wherever workers share a device, an action takes the emulated GPU's time.
fn rung_on(
    device: &DeviceChoice,
    devices: usize,
    workers: u64,
    trains_scale_models: bool,
) -> ComputeRung {
    match device {
        DeviceChoice::Cuda(_) if workers <= devices as u64 && !trains_scale_models => {
            ComputeRung::Native
        }
        _ => ComputeRung::Paced,
    }
}

/// Native compute takes this machine's time, which no scale changes.
fn refuse_scaled_native(compute: ComputeRung, scale: TimeScale) -> anyhow::Result<()> {
    if compute != ComputeRung::Native || scale == TimeScale::ONE {
        return Ok(());
    }
    Err(WrongInput::error(format!(
        "run native compute at time_scale {scale}: it takes this machine's time and not the emulated GPU's, so that links and \
         compute would no longer fit each other; use --compute paced or modelled, or --time-scale 1"
    )))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    /// The rung of `bace run three-regions` with these arguments and this line in the scenario, if anybody asks for one.
    fn asked(arguments: &[&str], compute: &str) -> Option<ComputeRung> {
        let all = [&["bace", "run", "three-regions"], arguments].concat();
        let Command::Run(args) = Cli::try_parse_from(all).expect("arguments").command else {
            panic!("`run` is a run");
        };
        let text = scenarios::built_in("three-regions").expect("it is built in");
        let text = format!("{text}\n[compute]\n{compute}\n");
        let scenario = Scenario::parse(&text, "s.toml", &|_| unreachable!("no file is named"));
        asked_rung(args.emulation.compute, &scenario.expect("a scenario"))
    }

    #[test]
    fn the_command_line_goes_before_the_scenario_and_the_devices_come_last() {
        assert_eq!(asked(&[], ""), None);
        let scenario = "rung = \"modelled\"";
        assert_eq!(asked(&[], scenario), Some(ComputeRung::Modelled));
        for (word, rung) in [
            ("modelled", ComputeRung::Modelled),
            ("paced", ComputeRung::Paced),
            ("native", ComputeRung::Native),
        ] {
            assert_eq!(asked(&["--compute", word], scenario), Some(rung));
            assert_eq!(asked(&["--compute", word], ""), Some(rung));
        }
    }

    #[test]
    fn a_gpu_for_each_worker_computes_natively_and_everything_else_is_paced() {
        let (all, some) = (
            DeviceChoice::Cuda(Vec::new()),
            DeviceChoice::Cuda(vec![0, 2]),
        );
        for (device, devices, workers, rung) in [
            (&DeviceChoice::Cpu, 1, 1, ComputeRung::Paced),
            (&DeviceChoice::Cpu, 1, 6, ComputeRung::Paced),
            (&all, 1, 1, ComputeRung::Native),
            (&all, 8, 6, ComputeRung::Native),
            (&all, 1, 2, ComputeRung::Paced),
            (&some, 2, 2, ComputeRung::Native),
            (&some, 2, 3, ComputeRung::Paced),
        ] {
            assert_eq!(
                rung_on(device, devices, workers, false),
                rung,
                "{device:?} {workers}"
            );
        }
    }

    #[test]
    fn scale_models_are_paced_wherever_they_train() {
        let all = DeviceChoice::Cuda(Vec::new());
        assert_eq!(rung_on(&all, 8, 6, true), ComputeRung::Paced);
    }

    #[test]
    fn native_compute_takes_no_scale() {
        let twice = TimeScale::new(2.0).expect("a scale");
        assert!(refuse_scaled_native(ComputeRung::Native, TimeScale::ONE).is_ok());
        assert!(refuse_scaled_native(ComputeRung::Paced, twice).is_ok());
        let told = refuse_scaled_native(ComputeRung::Native, twice).unwrap_err();
        assert!(told.is::<WrongInput>());
        assert!(
            told.to_string()
                .starts_with("run native compute at time_scale 2: ")
        );
    }
}
