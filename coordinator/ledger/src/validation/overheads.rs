//! What a real run takes besides, which no prediction holds.

use super::join::JobJoin;
use crate::{Attribution, Cause, Figure, Measured};

/// The causes that no prediction has a term for: they are the emulation's own.
pub(super) const UNPREDICTED: [Cause; 4] = [
    Cause::StartUp,
    Cause::HostOverhead,
    Cause::LeaseWait,
    Cause::ReceiveLate,
];

/// Seconds by cause, in the order of [`UNPREDICTED`].
type Seconds = [f64; UNPREDICTED.len()];

/// What a job's completion took beyond its prediction, and the part of it that is in no prediction. Seconds, means over the repeats
/// in which the job finished and joins.
#[derive(Debug, Clone, PartialEq)]
pub struct Overheads {
    /// Measured less predicted.
    pub longer_s: f64,
    /// What the mean stage spent, beyond its prediction, on each cause that no prediction has a term for.
    pub by_cause: [(Cause, f64); UNPREDICTED.len()],
}

impl Overheads {
    /// Of a job, from the attributions of its prediction and of its repeats.
    pub(super) fn of(
        job: &JobJoin<'_>,
        (predicted, measured): (&Attribution, &[Attribution]),
    ) -> Figure<Self> {
        let mut repeats = job.measured.iter().flatten();
        if repeats.any(|Measured(side)| side.log.header.network.shapes_datagrams()) {
            return Figure::Unknown("on packet and kernel links what comes late holds losses and other jobs' turns, which a prediction has".into());
        }
        let found = job.pair(|side| side.job?.jct_s());
        let jcts = found.ok_or_else(|| "the prediction has no completion time of it".to_owned());
        let found = jcts.and_then(|jcts| {
            let base = of_run(job.name, predicted)?;
            let both = jcts.measured.iter().zip(measured);
            let joined = both.filter_map(|(jct_s, repeat)| Some(((*jct_s)?, repeat)));
            let repeats = joined.map(|(Measured(jct_s), repeat)| {
                let seconds = of_run(job.name, repeat)?;
                Ok((jct_s - jcts.predicted.0, seconds))
            });
            Self::mean(&repeats.collect::<Result<Vec<_>, String>>()?, base)
        });
        match found {
            Ok(found) => Figure::Known(found),
            Err(reason) => Figure::Unknown(reason.into()),
        }
    }

    /// Of what each repeat took longer and spent; `base` is what the prediction spent.
    fn mean(repeats: &[(f64, Seconds)], base: Seconds) -> Result<Self, String> {
        if repeats.is_empty() {
            return Err("it finished and joins in no repeat".to_owned());
        }
        let count = repeats.len() as f64;
        let mut by_cause = UNPREDICTED.map(|cause| (cause, 0.0));
        for (place, (_, seconds)) in by_cause.iter_mut().enumerate() {
            let all: f64 = repeats.iter().map(|(_, spent)| spent[place]).sum();
            *seconds = all / count - base[place];
        }
        Ok(Self {
            longer_s: repeats.iter().map(|(longer_s, _)| longer_s).sum::<f64>() / count,
            by_cause,
        })
    }

    /// All causes together.
    pub fn total_s(&self) -> f64 {
        self.by_cause.iter().map(|(_, seconds)| seconds).sum()
    }

    /// Whether they are more than half of what the completion took longer.
    pub fn are_most_of_it(&self) -> bool {
        self.longer_s > 0.0 && self.total_s() > self.longer_s / 2.0
    }
}

/// What the mean stage of a job spent on each cause in a run, all starts together; else why that is not known.
fn of_run(name: &str, attribution: &Attribution) -> Result<Seconds, String> {
    let job = attribution.job(name);
    let job = job.ok_or_else(|| "it was never placed".to_owned())?;
    let mut all = Seconds::default();
    for start in &job.attempts {
        let times = match &start.times {
            Figure::Known(times) => times,
            Figure::Unknown(reason) => return Err(reason.clone().into_owned()),
        };
        let (sums, stages) = (times.sums(), times.stages.len() as f64);
        for (seconds, cause) in all.iter_mut().zip(UNPREDICTED) {
            *seconds += sums.seconds(cause) / stages;
        }
    }
    Ok(all)
}
