//! From the command line to the figures.

use std::ffi::OsString;

use anyhow::{Context, bail};
use bace_ledger::{JobStatus, LEDGER_FILE, Summary};
use serde_json::json;

use super::beside::{BesideRun, BesideTask};
use super::measured::PipelineRun;
use super::show;
use super::size::{Size, WARM_UP};
use crate::bench::figures::all_met;
use crate::cli::{
    ActionsChoice, BenchModel, BenchPipelineArgs, ComputeChoice, DeviceChoice, EmulationArgs,
    MetersChoice, NetworkChoice, PrecisionChoice, ReceiptsChoice, RunArgs, ScenarioArgs,
};
use crate::machine;
use crate::output::say;
use crate::run;
use crate::wrong_input::WrongInput;

/// A model's rounds.
pub struct ModelRounds {
    /// The model with its batch.
    pub size: Size,
    /// At least one.
    pub rounds: Vec<Round>,
}

/// One run of our pipeline, and one of the peer's if it is measured beside it.
pub struct Round {
    /// Ours.
    pub ours: PipelineRun,
    /// The peer's, and its tokens a second.
    pub beside: Option<(BesideRun, f64)>,
}

/// Trains each model in each round, with the peer in turn, and holds the figures against their goals.
pub fn pipeline(args: &BenchPipelineArgs) -> anyhow::Result<bool> {
    for &model in &args.models {
        refuse_too_many_stages(args, &Size::of(model))?;
    }
    let alone = train(args, &Size::of(BenchModel::Tiny), (1, WARM_UP + 1))?;
    if !args.json {
        say!(
            "native pipelines of {} stages on {}",
            args.stages,
            machine::describe()
        );
        say!(
            "links unshaped, plain 1F1B; medians of {} rounds\n",
            args.rounds
        );
        say!("{}\n", show::start_words(&alone));
    }
    let (mut all, mut figures) = (Vec::new(), Vec::new());
    for &model in &args.models {
        let measured = measure(args, Size::of(model))?;
        let of = show::figures(&measured);
        if !args.json {
            show::print(&measured, &of);
        }
        figures.extend(of);
        all.push(measured);
    }
    if args.json {
        let all = json!({
            "machine": machine::describe(),
            "device": device_word(&args.device),
            "stages": args.stages,
            "schedule": "1f1b",
            "worker_alone": alone.workers,
            "models": all.iter().map(show::json).collect::<Vec<_>>(),
            "figures": figures,
            "met": all_met(&figures),
        });
        say!("{all}");
    }
    Ok(all_met(&figures))
}

fn refuse_too_many_stages(args: &BenchPipelineArgs, size: &Size) -> anyhow::Result<()> {
    if args.stages <= size.model.layers {
        return Ok(());
    }
    Err(WrongInput::error(format!(
        "cut the model `{}` into {} stages: it has {} layers",
        size.name, args.stages, size.model.layers
    )))
}

fn measure(args: &BenchPipelineArgs, size: Size) -> anyhow::Result<ModelRounds> {
    let iterations = WARM_UP + args.iterations.unwrap_or(size.iterations);
    let mut rounds: Vec<Round> = Vec::new();
    for number in 0..args.rounds {
        let ours = || train(args, &size, (args.stages, iterations));
        let round = match rounds.first() {
            // Who goes first takes turns, so that what grows or shrinks over time favours nobody.
            Some(first) if number % 2 == 1 => {
                let layers = first.ours.layers.clone();
                let beside = train_beside(args, &size, (&layers, iterations))?;
                let ours = ours()?;
                Round { ours, beside }
            }
            _ => {
                let ours = ours()?;
                let beside = train_beside(args, &size, (&ours.layers, iterations))?;
                Round { ours, beside }
            }
        };
        if let Some((beside, _)) = &round.beside {
            beside.check_alike(&round.ours)?;
        }
        rounds.push(round);
    }
    Ok(ModelRounds { size, rounds })
}

/// Trains with our own pipeline.
fn train(
    args: &BenchPipelineArgs,
    size: &Size,
    (stages, iterations): (u32, u32),
) -> anyhow::Result<PipelineRun> {
    let folder = tempfile::tempdir().context("make a folder for a run")?;
    let scenario = folder.path().join("bench.toml");
    let written = std::fs::write(&scenario, size.scenario(stages, iterations));
    written.with_context(|| format!("write {}", scenario.display()))?;
    let out = folder.path().join("run");
    let scenario = ScenarioArgs {
        scenario: scenario.display().to_string(),
        policy: "bace-pipe".to_owned(),
        seed: None,
    };
    let emulation = EmulationArgs {
        device: args.device.clone(),
        // As the peer computes.
        precision: Some(PrecisionChoice::Fp32),
        compute: Some(ComputeChoice::Native),
        // One that was measured for other models would be refused, and no choice of the scheduler's depends on it here.
        ignores_profiles: true,
        network: Some(NetworkChoice::None),
        // Reading meters takes processor time from what is measured.
        meters: MetersChoice::Off,
        data: args.data.clone(),
        ..EmulationArgs::default()
    };
    let summary = run::summary(RunArgs {
        receipts: ReceiptsChoice::Off,
        actions: ActionsChoice::Off,
        out: Some(out.clone()),
        ..RunArgs::here(scenario, emulation)
    })?;
    check_finished(&summary)?;
    let ledger = bace_ledger::read(&out.join(LEDGER_FILE))?;
    let run = PipelineRun::of(&ledger.records, size.micro_batches)?;
    if run.layers.len() != stages as usize {
        bail!(
            "measure {stages} stages of the model `{}`: the scheduler finds {} faster; choose fewer stages or a larger model",
            size.name,
            run.layers.len()
        );
    }
    Ok(run)
}

fn check_finished(summary: &Summary) -> anyhow::Result<()> {
    for job in &summary.jobs {
        if let JobStatus::Failed(reason) = &job.status {
            bail!("train the model: {reason}");
        }
    }
    if !summary.succeeded() {
        bail!("train the model: the run ended before its job did");
    }
    Ok(())
}

/// Trains with the peer, if there is one.
fn train_beside(
    args: &BenchPipelineArgs,
    size: &Size,
    (layers, iterations): (&[u32], u32),
) -> anyhow::Result<Option<(BesideRun, f64)>> {
    let words: &[OsString] = &args.beside;
    if words.is_empty() {
        return Ok(None);
    }
    let run = BesideTask {
        words,
        size,
        layers,
        iterations,
        device: device_word(&args.device),
        text: args.data.as_deref(),
    }
    .run()?;
    let tokens_per_s = run.tokens_per_s(size.tokens())?;
    Ok(Some((run, tokens_per_s)))
}

fn device_word(device: &DeviceChoice) -> &'static str {
    match device {
        DeviceChoice::Cpu => "cpu",
        DeviceChoice::Cuda(_) => "cuda",
    }
}
