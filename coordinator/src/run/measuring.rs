//! Pairs of workers that measure links: ordered to meet, told to begin, heard.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bace_api::{
    FromWorker, Measure, MeasureRole, MeasurementId, Neighbour, Probe, ToWorker, WorkerId,
};
use bace_netem::{LinkId, LinkSpec, Timing};
use tokio::time::{Instant, timeout_at};

use super::fleet::{Event, Fleet};
use super::interrupts::Interrupts;

/// Longest wait for two workers to meet and for what is slow on a busy machine, beside what the messages take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How many times longer than planned messages may take before nobody waits for them.
const SLOWEST: f64 = 8.0;

/// A link to measure and who does it.
#[derive(Debug, Clone)]
pub struct Errand {
    /// The link.
    pub link: LinkId,
    /// What it is to give.
    pub spec: LinkSpec,
    /// What the link in the other direction gives.
    pub back: LinkSpec,
    /// Seed of the run.
    pub seed: u64,
    /// What is sent.
    pub probe: Probe,
    /// How long that takes, s.
    pub seconds: f64,
    /// Senders with their receivers, all at the same time.
    pub pairs: Vec<(WorkerId, WorkerId)>,
}

/// The times of an errand's messages, of each pair; or why there are none.
pub type Told = Result<Vec<Vec<Timing>>, String>;

/// Why measuring ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted(pub &'static str);

/// Sends workers on errands.
pub struct Measuring<'a> {
    /// The workers.
    pub fleet: &'a mut Fleet,
    /// Who may stop it.
    pub interrupts: &'a mut Interrupts,
    /// The next measurement's number.
    pub next: &'a mut u32,
    /// Workers that are gone.
    pub gone: BTreeSet<WorkerId>,
    /// Those lost since, and how; for whoever records it.
    pub lost: Vec<(WorkerId, String)>,
}

/// One pair's measurement.
#[derive(Debug)]
struct Meeting {
    errand: usize,
    sender: WorkerId,
    receiver: WorkerId,
    ready: BTreeSet<WorkerId>,
    told: Option<Result<Vec<Timing>, String>>,
}

impl Measuring<'_> {
    /// Sends workers on all `errands` at once, which share no worker, and waits for what they tell.
    pub async fn run(&mut self, errands: &[Errand]) -> Result<Vec<Told>, Interrupted> {
        let mut meetings = self.order(errands);
        let longest_s = errands.iter().fold(0.0, |most, one| one.seconds.max(most));
        let deadline = Instant::now() + PATIENCE + Duration::from_secs_f64(SLOWEST * longest_s);
        while meetings.values().any(|meeting| meeting.told.is_none()) {
            tokio::select! {
                event = timeout_at(deadline, self.fleet.events.recv()) => match event {
                    Ok(Some(Event::Said(worker, said))) => {
                        self.said(worker, *said, &mut meetings);
                    }
                    Ok(Some(Event::Lost(worker, reason))) => {
                        self.lose(worker, reason, &mut meetings);
                    }
                    Ok(None) => give_up(&mut meetings, "all workers are gone"),
                    Err(_) => give_up(&mut meetings, "the two workers did not finish in time"),
                },
                signal = self.interrupts.next() => return Err(Interrupted(signal)),
            }
        }
        for (&id, meeting) in &meetings {
            for worker in [meeting.sender, meeting.receiver] {
                self.tell(worker, ToWorker::EndMeasuring(id));
            }
        }
        Ok(collect(errands.len(), meetings))
    }

    fn order(&mut self, errands: &[Errand]) -> BTreeMap<MeasurementId, Meeting> {
        let mut meetings = BTreeMap::new();
        for (place, errand) in errands.iter().enumerate() {
            for &(sender, receiver) in &errand.pairs {
                let id = MeasurementId(*self.next);
                *self.next += 1;
                for (worker, peer, role) in [
                    (receiver, sender, MeasureRole::Receive),
                    (sender, receiver, MeasureRole::Send),
                ] {
                    let order = self.measure(id, errand, (worker, peer), role);
                    self.tell(worker, ToWorker::Measure(Box::new(order)));
                }
                let meeting = Meeting {
                    errand: place,
                    sender,
                    receiver,
                    ready: BTreeSet::new(),
                    told: None,
                };
                meetings.insert(id, meeting);
            }
        }
        meetings
    }

    fn measure(
        &self,
        id: MeasurementId,
        errand: &Errand,
        (worker, peer): (WorkerId, WorkerId),
        role: MeasureRole,
    ) -> Measure {
        let (link_id, link, back) = match role {
            MeasureRole::Send => (errand.link, errand.spec, errand.back),
            MeasureRole::Receive => (errand.link.reversed(), errand.back, errand.spec),
        };
        Measure {
            id,
            probe: errand.probe,
            role,
            seed: errand.seed,
            peer: Neighbour {
                worker: peer,
                address: self.fleet.workers[peer.index()].address,
                link_id,
                link,
                back,
                clock: self.fleet.clock_of(link_id),
                clock_back: self.fleet.clock_of(link_id.reversed()),
                is_elsewhere: self.fleet.are_apart(worker, peer),
            },
        }
    }

    fn said(
        &self,
        worker: WorkerId,
        said: FromWorker,
        meetings: &mut BTreeMap<MeasurementId, Meeting>,
    ) {
        let (FromWorker::ReadyToMeasure { id }
        | FromWorker::Measured { id, .. }
        | FromWorker::MeasuringFailed { id, .. }) = said
        else {
            tracing::warn!("{} said {said:?} out of turn", worker.certificate_name());
            return;
        };
        // What is over may still be spoken of.
        let Some(meeting) = meetings.get_mut(&id).filter(|meeting| meeting.has(worker)) else {
            return;
        };
        match said {
            FromWorker::Measured { timings, .. } if worker == meeting.receiver => {
                meeting.told.get_or_insert(Ok(timings));
            }
            FromWorker::MeasuringFailed { reason, .. } => {
                let name = worker.certificate_name();
                meeting
                    .told
                    .get_or_insert(Err(format!("{name} failed to {reason}")));
            }
            FromWorker::ReadyToMeasure { .. } if meeting.ready.insert(worker) => {
                let errand = meeting.errand;
                self.start(errand, meetings);
            }
            // Its senders have begun; once is enough, and what the sender measured is not asked for.
            other => {
                tracing::warn!("{} said {other:?} out of turn", worker.certificate_name());
            }
        }
    }

    /// Lets an errand's senders begin, together, once all its workers have met.
    fn start(&self, errand: usize, meetings: &BTreeMap<MeasurementId, Meeting>) {
        let of_errand = || {
            meetings
                .iter()
                .filter(|(_, meeting)| meeting.errand == errand)
        };
        if of_errand().all(|(_, meeting)| meeting.ready.len() == 2) {
            for (&id, meeting) in of_errand() {
                self.tell(meeting.sender, ToWorker::StartMeasuring(id));
            }
        }
    }

    fn lose(
        &mut self,
        worker: WorkerId,
        reason: String,
        meetings: &mut BTreeMap<MeasurementId, Meeting>,
    ) {
        for meeting in meetings.values_mut().filter(|meeting| meeting.has(worker)) {
            let name = worker.certificate_name();
            meeting
                .told
                .get_or_insert(Err(format!("{name} was lost: {reason}")));
        }
        self.gone.insert(worker);
        self.lost.push((worker, reason));
    }

    fn tell(&self, worker: WorkerId, command: ToWorker) {
        self.fleet.workers[worker.index()].tell(command);
    }
}

impl Meeting {
    fn has(&self, worker: WorkerId) -> bool {
        self.sender == worker || self.receiver == worker
    }
}

fn give_up(meetings: &mut BTreeMap<MeasurementId, Meeting>, reason: &str) {
    for meeting in meetings.values_mut() {
        meeting.told.get_or_insert_with(|| Err(reason.to_owned()));
    }
}

/// What the pairs of each errand told.
fn collect(errands: usize, meetings: BTreeMap<MeasurementId, Meeting>) -> Vec<Told> {
    let mut told: Vec<Told> = (0..errands).map(|_| Ok(Vec::new())).collect();
    for meeting in meetings.into_values() {
        let own = meeting.told.expect("it was waited for");
        let all = &mut told[meeting.errand];
        match (all.as_mut(), own) {
            (Ok(timings), Ok(own)) => timings.push(own),
            (Ok(_), Err(reason)) => *all = Err(reason),
            (Err(_), _) => {}
        }
    }
    told
}
