//! What a real run takes besides, which its prediction does not hold.

use bace_api::Header;

use super::join::JobJoin;
use crate::{Attribution, Cause, Figure, Measured};

/// The causes that are the emulation's own. No prediction has a term for them, but for start-up where it has a profile.
pub(super) const EMULATIONS_OWN: [Cause; 4] = [
    Cause::StartUp,
    Cause::HostOverhead,
    Cause::LeaseWait,
    Cause::ReceiveLate,
];

/// Those that the prediction of this header has no term for.
fn unpredicted(prediction: &Header) -> impl Iterator<Item = Cause> {
    let has_set_up = prediction.predicts_set_up();
    let own = EMULATIONS_OWN.into_iter();
    own.filter(move |&cause| !(has_set_up && cause == Cause::StartUp))
}

/// What a job's completion took beyond its prediction, and the part of it that the prediction has no term for. Seconds, means over the repeats
/// in which the job finished and joins.
#[derive(Debug, Clone, PartialEq)]
pub struct Overheads {
    /// Measured less predicted.
    pub longer_s: f64,
    /// What the mean stage spent, beyond its prediction, on each cause that the prediction has no term for: start-up is not among
    /// them where it was made with a profile.
    pub by_cause: Vec<(Cause, f64)>,
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
        let causes: Vec<Cause> = unpredicted(&job.predicted.0.log.header).collect();
        let found = job.pair(|side| side.job?.jct_s());
        let jcts = found.ok_or_else(|| "the prediction has no completion time of it".to_owned());
        let found = jcts.and_then(|jcts| {
            let base = of_run((job.name, predicted), &causes)?;
            let both = jcts.measured.iter().zip(measured);
            let joined = both.filter_map(|(jct_s, repeat)| Some(((*jct_s)?, repeat)));
            let repeats = joined.map(|(Measured(jct_s), repeat)| {
                let seconds = of_run((job.name, repeat), &causes)?;
                Ok((jct_s - jcts.predicted.0, seconds))
            });
            let repeats = repeats.collect::<Result<Vec<_>, String>>()?;
            Self::mean(&repeats, causes.into_iter().zip(base))
        });
        match found {
            Ok(found) => Figure::Known(found),
            Err(reason) => Figure::Unknown(reason.into()),
        }
    }

    /// Of what each repeat took longer and spent by cause; `base` is what the prediction spent.
    fn mean(
        repeats: &[(f64, Vec<f64>)],
        base: impl Iterator<Item = (Cause, f64)>,
    ) -> Result<Self, String> {
        if repeats.is_empty() {
            return Err("it finished and joins in no repeat".to_owned());
        }
        let count = repeats.len() as f64;
        let by_cause = base.enumerate().map(|(place, (cause, base_s))| {
            let all_s: f64 = repeats.iter().map(|(_, spent)| spent[place]).sum();
            (cause, all_s / count - base_s)
        });
        Ok(Self {
            longer_s: repeats.iter().map(|(longer_s, _)| longer_s).sum::<f64>() / count,
            by_cause: by_cause.collect(),
        })
    }

    /// What was spent on a cause; absent where the prediction has a term for it.
    pub fn seconds(&self, cause: Cause) -> Option<f64> {
        let mut all = self.by_cause.iter();
        all.find(|(of, _)| *of == cause)
            .map(|(_, seconds)| *seconds)
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

/// What the mean stage of a job spent on each of `causes` in a run, all starts together; else why that is not known.
fn of_run((name, attribution): (&str, &Attribution), causes: &[Cause]) -> Result<Vec<f64>, String> {
    let job = attribution.job(name);
    let job = job.ok_or_else(|| "it was never placed".to_owned())?;
    let mut all = vec![0.0; causes.len()];
    for start in &job.attempts {
        let times = match &start.times {
            Figure::Known(times) => times,
            Figure::Unknown(reason) => return Err(reason.clone().into_owned()),
        };
        let (sums, stages) = (times.sums(), times.stages.len() as f64);
        for (seconds, &cause) in all.iter_mut().zip(causes) {
            *seconds += sums.seconds(cause) / stages;
        }
    }
    Ok(all)
}
