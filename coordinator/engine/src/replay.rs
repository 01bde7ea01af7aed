//! A ledger fed back: the same inputs have to bring about the same records.

use std::collections::VecDeque;

use bace_api::{InputRecord, Record};

use crate::{Engine, EngineError, Names, Told};

/// Feeds the inputs of a ledger to an engine and compares what it decides with what the ledger says it decided.
///
/// Records that do not come from the engine (iterations, transfers, workers) are passed over. Floating-point numbers are
/// compared to the last bit, since the same inputs take the same way through the same arithmetic.
pub struct Replay {
    engine: Engine,
    names: Names,
    /// Decided, and not found in the ledger yet.
    decided: VecDeque<Record>,
    last_s: f64,
    /// The engine has told why jobs wait at the end, and hears no more.
    ended: bool,
    counts: Replayed,
}

/// What a replay compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Inputs fed to the engine, the ends of instants among them.
    pub inputs: u64,
    /// Decisions and outcomes that agreed.
    pub records: u64,
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The engine decides something else.
    #[error(transparent)]
    Differs(#[from] Box<Difference>),
    /// The ledger does not belong to the scenario.
    #[error(transparent)]
    Unfit(#[from] EngineError),
    /// Inputs are written in the order in which they were handled.
    #[error("go back from {last_s} s to {at_s} s")]
    TimeGoesBack {
        /// Time of the input before.
        last_s: f64,
        /// Time of the input.
        at_s: f64,
    },
}

/// The first place where ledger and engine differ.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("decide as the ledger says\n  ledger: {}\n  engine: {}", line(.recorded.as_ref()), line(.decided.as_ref()))]
pub struct Difference {
    /// What the ledger holds; absent if it ends.
    pub recorded: Option<Record>,
    /// What the engine emits; absent if nothing.
    pub decided: Option<Record>,
}

impl Replay {
    /// A replay of the run that `engine` was made for: with its scenario, seed included, its policy and its profile. It has
    /// seen nothing yet.
    pub fn new(engine: Engine) -> Self {
        Self {
            names: Names::of(engine.scenario()),
            engine,
            decided: VecDeque::new(),
            last_s: 0.0,
            ended: false,
            counts: Replayed::default(),
        }
    }

    /// Takes the ledger's next record behind its header.
    ///
    /// # Errors
    /// If it is a decision other than the engine's, or an input that the scenario cannot have.
    pub fn take(&mut self, record: &Record) -> Result<(), ReplayError> {
        match record {
            Record::Input { at_s, input } => self.feed(*at_s, input, record),
            Record::PassedOver { at_s, .. } => {
                // Behind the last settling comes what `Engine::tell_waiting` says, which older programs did not ask for.
                if self.decided.is_empty() && !std::mem::replace(&mut self.ended, true) {
                    self.engine.tell_waiting(*at_s);
                    self.listen();
                }
                self.compare(record)
            }
            Record::Refused { .. }
            | Record::Placed { .. }
            | Record::Energy(_)
            | Record::JobFinished { .. }
            | Record::JobFailed { .. } => self.compare(record),
            Record::RunEnded {
                waiting,
                stopped: None,
                ..
            } => self.compare_waiting(record, waiting),
            _ => Ok(()),
        }
    }

    /// Ends the replay; a `torn` ledger may lack the last decisions of its last instant.
    ///
    /// # Errors
    /// If the engine decided more than a whole ledger says.
    pub fn finish(mut self, torn: bool) -> Result<Replayed, ReplayError> {
        match self.decided.pop_front() {
            Some(decided) if !torn => Err(differs(None, Some(decided))),
            _ => Ok(self.counts),
        }
    }

    fn feed(&mut self, at_s: f64, input: &InputRecord, record: &Record) -> Result<(), ReplayError> {
        let last_s = std::mem::replace(&mut self.last_s, at_s);
        if at_s < last_s {
            return Err(ReplayError::TimeGoesBack { last_s, at_s });
        }
        let told = self.names.told(input)?;
        // What the engine says between two inputs follows from the first.
        if self.ended || !self.decided.is_empty() {
            return Err(differs(Some(record), self.decided.pop_front()));
        }
        match told {
            Told::Input(input) => self.engine.handle(at_s, input),
            Told::Settle => self.engine.settle(at_s),
        }
        while self.engine.poll_command().is_some() {}
        self.listen();
        self.counts.inputs += 1;
        let echo = self.decided.pop_front();
        let agree = echo
            .as_ref()
            .is_some_and(|echo| echo == record || without_delay(echo) == *record);
        if agree {
            Ok(())
        } else {
            Err(differs(Some(record), echo))
        }
    }

    fn listen(&mut self) {
        self.decided
            .extend(std::iter::from_fn(|| self.engine.poll_record()));
    }

    fn compare(&mut self, recorded: &Record) -> Result<(), ReplayError> {
        let decided = self.decided.pop_front();
        let agree = decided
            .as_ref()
            .is_some_and(|decided| decided == recorded || as_older_programs(decided) == *recorded);
        if !agree {
            return Err(differs(Some(recorded), decided));
        }
        self.counts.records += 1;
        Ok(())
    }

    fn compare_waiting(
        &mut self,
        recorded: &Record,
        waiting: &[String],
    ) -> Result<(), ReplayError> {
        if let Some(decided) = self.decided.pop_front() {
            return Err(differs(Some(recorded), Some(decided)));
        }
        let jobs = &self.engine.scenario().jobs;
        let waits: Vec<String> = self
            .engine
            .waiting()
            .map(|job| jobs[job.index()].name.clone())
            .collect();
        if waits == waiting {
            self.counts.records += 1;
            return Ok(());
        }
        let mut decided = recorded.clone();
        if let Record::RunEnded { waiting, .. } = &mut decided {
            *waiting = waits;
        }
        Err(differs(Some(recorded), Some(decided)))
    }
}

/// The echo of an input as programs wrote it whose links kept their delays.
fn without_delay(echo: &Record) -> Record {
    let mut echo = echo.clone();
    if let Record::Input {
        input: InputRecord::LinkChanged {
            one_way_delay_s, ..
        },
        ..
    } = &mut echo
    {
        *one_way_delay_s = None;
    }
    echo
}

/// A decision as programs wrote it that knew fewer keys and called ties dearer.
fn as_older_programs(decided: &Record) -> Record {
    let mut decided = decided.clone();
    match &mut decided {
        Record::PassedOver { why, .. } => why.clear(),
        Record::Placed { reason, .. } => {
            let paths = reason
                .get_mut("paths")
                .and_then(|paths| paths.as_array_mut());
            for path in paths.into_iter().flatten() {
                if path["outcome"]["outcome"] == "tied" {
                    path["outcome"]["outcome"] = "dearer".into();
                }
            }
        }
        _ => {}
    }
    decided
}

fn differs(recorded: Option<&Record>, decided: Option<Record>) -> ReplayError {
    ReplayError::Differs(Box::new(Difference {
        recorded: recorded.cloned(),
        decided,
    }))
}

/// A record as a ledger writes it.
fn line(record: Option<&Record>) -> String {
    match record {
        None => "nothing".to_owned(),
        Some(record) => {
            serde_json::to_string(record).expect("records are what ledgers hold, lines of JSON")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::World;
    use crate::{Input, Scenario, policy_by_name};
    use bace_api::{JobId, StageIndex};

    fn world() -> Arc<Scenario> {
        World::new()
            .region("a", 2, "unit", 0.2)
            .region("b", 2, "unit", 0.1)
            .link("a", "b", 1e6)
            .job("first", 0.0, 2)
            .job("second", 1.0, 3)
            .scenario()
    }

    fn replay() -> Replay {
        Replay::new(Engine::new(world(), policy_by_name("bace-pipe").unwrap()))
    }

    /// What a driver would have written.
    fn ledger() -> Vec<Record> {
        let mut engine = Engine::new(world(), policy_by_name("bace-pipe").unwrap());
        let (first, second) = (JobId(0), JobId(1));
        engine.handle(0.0, Input::Submitted(first));
        engine.settle(0.0);
        engine.handle(1.0, Input::Submitted(second));
        engine.settle(1.0);
        let usage = Input::Usage {
            job: first,
            stage: StageIndex(0),
            from_s: 0.0,
            to_s: 28.1,
            busy_s: 1.0 / 3.0,
        };
        engine.handle(28.1, usage);
        engine.handle(28.1, Input::Finished(first));
        engine.settle(28.1);
        let reason = "its worker died".to_owned();
        let job = second;
        engine.handle(30.0, Input::Failed { job, reason });
        engine.settle(30.0);
        std::iter::from_fn(|| engine.poll_record()).collect()
    }

    fn take_all<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Replay, ReplayError> {
        let mut replay = replay();
        for record in records {
            replay.take(record)?;
        }
        Ok(replay)
    }

    #[test]
    fn the_same_inputs_bring_about_the_same_records() {
        let ledger = ledger();
        let replayed = take_all(&ledger).unwrap().finish(false).unwrap();
        assert_eq!(replayed.inputs, 9);
        assert_eq!(replayed.inputs + replayed.records, ledger.len() as u64);
    }

    #[test]
    fn any_changed_missing_or_added_decision_is_found() {
        let ledger = ledger();
        for (index, record) in ledger.iter().enumerate() {
            if matches!(record, Record::Input { .. }) {
                continue;
            }
            let mut missing = ledger.clone();
            missing.remove(index);
            let found = take_all(&missing).and_then(|replay| replay.finish(false));
            assert!(
                matches!(found, Err(ReplayError::Differs(_))),
                "without {record:?}"
            );
            let mut twice = ledger.clone();
            twice.insert(index, record.clone());
            assert!(take_all(&twice).is_err(), "twice {record:?}");
        }
    }

    /// A ledger of a job that loses its GPUs and waits, up to what is told at its end and of the end itself.
    fn ledger_of_a_wait() -> (Arc<Scenario>, Vec<Record>) {
        let world = World::new()
            .region("a", 2, "small", 0.2)
            .region("b", 2, "small", 0.1)
            .link("a", "b", 1e9)
            .job("wide", 0.0, 2);
        let mut engine = world.settled("bace-pipe");
        for (at_s, region) in [(1.0, 0), (2.0, 1)] {
            let region = bace_netem::RegionId::new(region);
            engine.handle(at_s, Input::GpusChanged { region, gpus: 0 });
            engine.settle(at_s);
        }
        engine.tell_waiting(2.0);
        let mut records: Vec<_> = std::iter::from_fn(|| engine.poll_record()).collect();
        records.push(Record::RunEnded {
            at_s: 2.0,
            waiting: vec!["wide".to_owned()],
            stopped: None,
        });
        (world.scenario(), records)
    }

    fn replayed(scenario: &Arc<Scenario>, records: &[Record]) -> Result<Replayed, ReplayError> {
        let policy = policy_by_name("bace-pipe").unwrap();
        let mut replay = Replay::new(Engine::new(scenario.clone(), policy));
        for record in records {
            replay.take(record)?;
        }
        replay.finish(false)
    }

    #[test]
    fn what_is_told_at_the_end_is_compared_where_it_was_told() {
        let (scenario, records) = ledger_of_a_wait();
        let [.., Record::PassedOver { at_s, why, .. }, _] = records.as_slice() else {
            panic!("no closing reason in {records:?}");
        };
        assert_eq!(*at_s, 2.0);
        assert_eq!(why, "it needs 4 GPUs and 0 are free within its reach");
        let closing = records.len() - 2;
        replayed(&scenario, &records).unwrap();

        let mut older = records.clone();
        older.remove(closing);
        for record in &mut older {
            match record {
                Record::PassedOver { why, .. } => why.clear(),
                Record::Placed { reason, .. } => {
                    let text = reason.to_string();
                    assert!(text.contains("tied"));
                    *reason = serde_json::from_str(&text.replace("tied", "dearer")).unwrap();
                }
                _ => {}
            }
        }
        replayed(&scenario, &older).unwrap();

        let mut twice = records.clone();
        twice.insert(closing, records[closing].clone());
        replayed(&scenario, &twice).unwrap_err();
        let mut wrong = records.clone();
        if let Record::PassedOver { why, .. } = &mut wrong[closing] {
            why.push('!');
        }
        replayed(&scenario, &wrong).unwrap_err();
    }

    #[test]
    fn a_link_change_of_an_older_program_tells_no_delay() {
        let mut engine = Engine::new(world(), policy_by_name("bace-pipe").unwrap());
        let region = bace_netem::RegionId::new;
        let link = bace_netem::LinkId::new(region(0), region(1));
        engine.handle(0.0, Input::Submitted(JobId(0)));
        let changed = Input::LinkChanged {
            link,
            rate: bace_netem::BitRate::from_bps(5e5).unwrap(),
            delay: world().links[&link].delay,
        };
        engine.handle(0.0, changed);
        engine.settle(0.0);
        let ledger: Vec<_> = std::iter::from_fn(|| engine.poll_record()).collect();
        take_all(&ledger).unwrap().finish(false).unwrap();

        let delay_of = |ledger: &mut [Record], told: Option<f64>| {
            let changes = ledger.iter_mut().filter_map(|record| match record {
                Record::Input {
                    input:
                        InputRecord::LinkChanged {
                            one_way_delay_s, ..
                        },
                    ..
                } => Some(one_way_delay_s),
                _ => None,
            });
            changes.map(|delay| *delay = told).count()
        };
        let mut older = ledger.clone();
        assert_eq!(delay_of(&mut older, None), 1);
        let replayed = take_all(&older).unwrap().finish(false).unwrap();
        assert_eq!(replayed.inputs, 3);
    }

    #[test]
    fn a_difference_shows_both_sides() {
        let mut ledger = ledger();
        let finish = ledger
            .iter_mut()
            .find(|record| matches!(record, Record::JobFinished { .. }))
            .unwrap();
        *finish = Record::JobFinished {
            at_s: 28.2,
            job: "first".to_owned(),
        };
        let error = take_all(&ledger).err().unwrap();
        assert_eq!(
            error.to_string(),
            "decide as the ledger says\n  \
             ledger: {\"kind\":\"job_finished\",\"at_s\":28.2,\"job\":\"first\"}\n  \
             engine: {\"kind\":\"job_finished\",\"at_s\":28.1,\"job\":\"first\"}"
        );
    }

    #[test]
    fn a_torn_ledger_agrees_as_far_as_it_goes() {
        let ledger = ledger();
        for end in 0..ledger.len() {
            take_all(&ledger[..end]).unwrap().finish(true).unwrap();
        }
    }

    #[test]
    fn foreign_inputs_are_told_from_differences() {
        let stranger = Record::Input {
            at_s: 0.0,
            input: InputRecord::Submitted {
                job: "stranger".to_owned(),
            },
        };
        assert!(matches!(
            replay().take(&stranger),
            Err(ReplayError::Unfit(_))
        ));
        let settle = |at_s| Record::Input {
            at_s,
            input: InputRecord::Settle,
        };
        let mut replay = replay();
        replay.take(&settle(2.0)).unwrap();
        assert!(matches!(
            replay.take(&settle(1.0)),
            Err(ReplayError::TimeGoesBack { .. })
        ));
    }
}
