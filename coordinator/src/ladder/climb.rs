//! The runs of a ladder.

use std::collections::BTreeMap;
use std::path::Path;

use bace_ledger::{Climbed, LadderRun, LadderRung, RunEnd, Summary};

use super::plan::{Plan, Planned, Prediction, scenario_args};
use crate::cli::{ActionsChoice, EmulationArgs, LadderArgs, RunArgs};
use crate::real_runs::{Ended, Ran, RealRun, RealRuns, expected_s};
use crate::scenarios::Loaded;
use crate::simulate::Simulation;

/// What all runs of a ladder have in common.
#[derive(Clone, Copy)]
pub struct Climb<'a> {
    pub args: &'a LadderArgs,
    pub loaded: &'a Loaded,
    /// For a folder of each run.
    pub folder: &'a Path,
}

/// A real rung and how its runs are done.
type RealRung = (LadderRung, EmulationArgs);

/// Makespans of the simulations that tell how long real runs take, emulated seconds.
#[derive(Default)]
struct Makespans {
    modelled_s: f64,
    profiled_s: f64,
}

impl Climb<'_> {
    /// Makes all simulations, and then all real runs in rounds: every rung once, then again, so that what drifts over the hours
    /// favours none.
    pub fn climb(self, plan: Plan) -> anyhow::Result<Vec<(LadderRung, Climbed)>> {
        let mut rungs = Vec::new();
        let mut real: Vec<RealRung> = Vec::new();
        let mut makespans = Makespans::default();
        for (rung, planned) in plan.0 {
            let climbed = match planned {
                Planned::NotPossible(why) => Climbed::NotPossible(why),
                Planned::Real(emulation) => {
                    real.push((rung, *emulation));
                    Climbed::whole(Vec::new())
                }
                Planned::Simulated(prediction) => {
                    let summary = self.simulate(rung, *prediction)?;
                    let of_rung = match rung {
                        LadderRung::Profiled => &mut makespans.profiled_s,
                        _ => &mut makespans.modelled_s,
                    };
                    *of_rung = summary
                        .totals
                        .makespan_s
                        .known()
                        .copied()
                        .unwrap_or_default();
                    Climbed::whole(vec![self.kept(&summary)])
                }
            };
            rungs.push((rung, climbed));
        }
        for (rung, of_rung) in self.run_all(&real, &makespans)? {
            let climbed = rungs.iter_mut().find(|(known, _)| *known == rung);
            climbed.expect("a real rung has its place").1 = of_rung;
        }
        Ok(rungs)
    }

    fn simulate(&self, rung: LadderRung, prediction: Prediction) -> anyhow::Result<Summary> {
        let simulation = Simulation {
            loaded: self.loaded,
            policy: &self.args.scenario.policy,
            engine: prediction.engine,
            profile: prediction
                .profile
                .as_ref()
                .map(|(profile, said)| (profile, said.clone())),
            iteration_model: prediction.iteration_model,
            actions: ActionsChoice::Full,
        };
        simulation.run(Some(&self.folder.join(rung.name())))
    }

    fn kept(&self, summary: &Summary) -> LadderRun {
        let jobs = self.loaded.scenario.jobs.iter();
        let iterations: BTreeMap<String, u32> =
            jobs.map(|job| (job.name.clone(), job.iterations)).collect();
        LadderRun::of(summary, &iterations)
    }

    fn run_all(
        &self,
        real: &[RealRung],
        makespans: &Makespans,
    ) -> anyhow::Result<Vec<(LadderRung, Climbed)>> {
        if real.is_empty() {
            return Ok(Vec::new());
        }
        let rounds = (1..=self.args.repeats).flat_map(|repeat| {
            let of_round = real.iter();
            of_round.map(move |rung| self.real_run(rung, repeat, makespans))
        });
        let runs = RealRuns {
            what: "ladder",
            scenario: self.loaded.scenario.name.clone(),
            runs: rounds.collect(),
        };
        let mut began = 0;
        let ran = runs.run(|place, _| {
            began = place + 1;
            Ok(())
        })?;
        Ok(self.sorted(real, ran, began))
    }

    /// What came of each rung, where runs are in rounds and so many of them began.
    fn sorted(&self, real: &[RealRung], ran: Ran, began: usize) -> Vec<(LadderRung, Climbed)> {
        let repeats = self.args.repeats;
        let mut all: Vec<(LadderRung, Vec<LadderRun>, Vec<String>)> = real
            .iter()
            .map(|(rung, _)| (*rung, Vec::new(), Vec::new()))
            .collect();
        let mut whole = vec![0; real.len()];
        for (place, ended) in ran.ended.into_iter().enumerate() {
            let of = place % real.len();
            let cut_short = ran.stopped.is_some() && place + 1 == began;
            let (_, runs, failed) = &mut all[of];
            match ended {
                _ if place >= began => continue,
                Ended::Summary(summary) if !cut_short || summary.end == RunEnd::Complete => {
                    runs.push(self.kept(&summary));
                }
                Ended::Failed(why) if !cut_short => failed.push(why),
                _ => continue,
            }
            whole[of] += 1;
        }
        let climbed = all.into_iter().zip(whole);
        climbed
            .map(|((rung, runs, failed), whole)| {
                let missing = whole < repeats;
                let stopped = ran.stopped.filter(|_| missing).map(|signal| {
                    format!("stopped: the ladder was {signal} after {whole} of {repeats} runs of this rung")
                });
                (
                    rung,
                    Climbed::Runs {
                        runs,
                        failed,
                        stopped,
                    },
                )
            })
            .collect()
    }

    fn real_run(&self, rung: &RealRung, repeat: u32, makespans: &Makespans) -> RealRun {
        let (rung, emulation) = rung;
        let (label, folder) = match self.args.repeats {
            1 => (rung.name().to_owned(), rung.name().to_owned()),
            _ => (
                format!("{}, repeat {repeat}", rung.name()),
                format!("{}-{repeat}", rung.name()),
            ),
        };
        let scenario = &self.loaded.scenario;
        let makespan_s = match rung {
            LadderRung::Native => makespans.profiled_s,
            _ => makespans.modelled_s,
        };
        let scale = emulation.time_scale.unwrap_or(scenario.compute.time_scale);
        RealRun {
            label,
            expected_s: expected_s(scenario, scale, (makespan_s, self.args.receipts)),
            args: RunArgs {
                receipts: self.args.receipts,
                out: Some(self.folder.join(folder)),
                ..RunArgs::here(scenario_args(self.args), emulation.clone())
            },
        }
    }
}
