//! The books of a run: all meters, all workers.

use crate::attribution::{Attribution, Share};
use crate::counter::Health;
use crate::meter::{Meter, ReadError};
use crate::sampler::TimeKeeper;
use crate::{Place, Source};

/// Who held a device: a worker, and what it did then; absent while it had nothing to do.
type Holder<D> = (u32, Option<D>);

/// What a finished duty of a worker drew on one meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledShare<D> {
    /// The meter, by its place among those started.
    pub meter: usize,
    /// The worker.
    pub worker: u32,
    /// What it did; absent while it had nothing to do.
    pub duty: Option<D>,
    /// Time and energy.
    pub share: Share,
}

/// What a meter counted over a run.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterTotal {
    /// What it is.
    pub source: Source,
    /// First reading, ns of the monotonic clock.
    pub from_ns: u64,
    /// Last reading that succeeded.
    pub to_ns: u64,
    /// The counter's delta between them, uJ.
    pub energy_uj: u64,
    /// Of it what belongs to no worker, uJ. All shares of this meter and this add up to `energy_uj`, exactly.
    pub unattributed_uj: u64,
    /// Readings that succeeded.
    pub readings: u64,
    /// Readings that failed.
    pub failures: u64,
    /// What happened to its counter.
    pub health: Health,
    /// Since when it could not be read any more, ns, and why; absent where it was read to the end.
    pub lost: Option<(u64, String)>,
}

/// What reading the meters took of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SamplerCost {
    /// Samples; each reads all meters.
    pub samples: u64,
    /// Processor time of the sampler, ns.
    pub cpu_ns: u64,
    /// Time from the first sample to the last, ns.
    pub wall_ns: u64,
    /// Longest time that one sample took, ns.
    pub worst_ns: u64,
}

/// Everything a sampler found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished<D> {
    /// By meter.
    pub totals: Vec<MeterTotal>,
    /// Shares that were not yet taken.
    pub shares: Vec<SettledShare<D>>,
    /// What it took.
    pub cost: SamplerCost,
}

/// Workers and meters while a run goes on. What is kept grows with duties that nobody took, not with time.
pub(crate) struct Books<D> {
    keeper: TimeKeeper,
    workers: Vec<WorkerBook<D>>,
    meters: Vec<MeterBook<D>>,
    cost: SamplerCost,
}

struct WorkerBook<D> {
    place: Place,
    duty: Option<D>,
    /// Device time so far, as the lease told it.
    held_ns: u64,
    /// Up to when it is booked.
    booked_ns: u64,
}

struct MeterBook<D> {
    place: Place,
    attribution: Attribution<Holder<D>>,
    total: MeterTotal,
    /// What the meter showed last, uJ since it was opened.
    shown_uj: u64,
}

impl<D: Clone + Ord> Books<D> {
    /// Books that begin at `now_ns`, when each meter showed what is beside it.
    pub fn open(
        keeper: TimeKeeper,
        workers: Vec<Place>,
        meters: &[(Box<dyn Meter + '_>, u64)],
        now_ns: u64,
    ) -> Self {
        let meters = meters.iter().map(|(meter, shown_uj)| MeterBook {
            place: meter.place().clone(),
            attribution: Attribution::new(keeper.slots(meter.place()), now_ns),
            total: MeterTotal {
                source: meter.source().clone(),
                from_ns: now_ns,
                to_ns: now_ns,
                energy_uj: 0,
                unattributed_uj: 0,
                readings: 1,
                failures: 0,
                health: meter.health(),
                lost: None,
            },
            shown_uj: *shown_uj,
        });
        let meters = meters.collect();
        let workers = (0..).zip(workers).map(|(worker, place)| WorkerBook {
            place,
            duty: None,
            held_ns: keeper.held_ns(worker, now_ns).unwrap_or_default(),
            booked_ns: now_ns,
        });
        Self {
            workers: workers.collect(),
            keeper,
            meters,
            cost: SamplerCost::default(),
        }
    }

    /// A worker does something else from `now_ns` on; a worker that there is not is ignored.
    pub fn duty(&mut self, worker: u32, duty: Option<D>, now_ns: u64) {
        self.book(worker, now_ns);
        if let Some(book) = self.workers.get_mut(worker as usize) {
            book.duty = duty;
        }
    }

    /// Takes a sample in: what each meter showed at `now_ns`, in order.
    pub fn sample(&mut self, readings: Vec<(Result<u64, ReadError>, Health)>, now_ns: u64) {
        for worker in 0..u32::try_from(self.workers.len()).unwrap_or(u32::MAX) {
            self.book(worker, now_ns);
        }
        for (meter, (reading, health)) in self.meters.iter_mut().zip(readings) {
            meter.total.health = health;
            match reading {
                Ok(shown_uj) => meter.read(shown_uj, now_ns),
                Err(error) => {
                    meter.total.failures += 1;
                    meter.total.lost.get_or_insert((now_ns, error.0));
                }
            }
        }
    }

    /// Adds what a sample took.
    pub fn spent(&mut self, cost: SamplerCost) {
        self.cost = cost;
    }

    /// Takes out the shares of duties that are over and whose last joules have been counted.
    pub fn settled(&mut self) -> Vec<SettledShare<D>> {
        let workers = &self.workers;
        let is_over = |(worker, duty): &Holder<D>| {
            let present = workers.get(*worker as usize);
            present.is_none_or(|present| present.duty != *duty)
        };
        take(&mut self.meters, |books| books.take(is_over))
    }

    /// Everything; what is under way counts as over. `cut_off` is why the meters were not read to the end, if they were not.
    pub fn finish(&mut self, cut_off: Option<&str>) -> Finished<D> {
        let shares = take(&mut self.meters, Attribution::take_all);
        let totals = self.meters.iter().map(|meter| {
            let mut total = meter.total.clone();
            total.energy_uj = meter.attribution.total_uj();
            total.unattributed_uj = meter.attribution.unattributed_uj();
            if let Some(reason) = cut_off {
                total.lost.get_or_insert((total.to_ns, reason.to_owned()));
            }
            total
        });
        Finished {
            totals: totals.collect(),
            shares,
            cost: self.cost,
        }
    }

    /// Books a worker's device time up to `now_ns` on what it has been doing.
    fn book(&mut self, worker: u32, now_ns: u64) {
        let Some(book) = self.workers.get_mut(worker as usize) else {
            return;
        };
        let held_ns = match self.keeper.held_ns(worker, now_ns) {
            Some(upto_ns) => {
                let added_ns = upto_ns.saturating_sub(book.held_ns);
                book.held_ns += added_ns;
                added_ns
            }
            None if book.duty.is_some() => now_ns.saturating_sub(book.booked_ns),
            None => 0,
        };
        book.booked_ns = book.booked_ns.max(now_ns);
        let holder = (worker, book.duty.clone());
        for meter in &mut self.meters {
            if meter.place == book.place {
                meter.attribution.hold(&holder, held_ns);
            }
        }
    }
}

impl<D: Clone + Ord> MeterBook<D> {
    fn read(&mut self, shown_uj: u64, now_ns: u64) {
        let added_uj = shown_uj.saturating_sub(self.shown_uj);
        // The energy of a counter that has not moved is still to come, for the time since it last did.
        if added_uj > 0 || self.total.source.kind.is_integral() {
            self.attribution.close(added_uj, now_ns);
            self.shown_uj = shown_uj;
        }
        self.total.readings += 1;
        self.total.to_ns = now_ns;
        self.total.lost = None;
    }
}

fn take<D: Clone + Ord>(
    meters: &mut [MeterBook<D>],
    of: impl Fn(&mut Attribution<Holder<D>>) -> Vec<(Holder<D>, Share)>,
) -> Vec<SettledShare<D>> {
    let mut settled = Vec::new();
    for (meter, book) in meters.iter_mut().enumerate() {
        for ((worker, duty), share) in of(&mut book.attribution) {
            settled.push(SettledShare {
                meter,
                worker,
                duty,
                share,
            });
        }
    }
    settled
}
