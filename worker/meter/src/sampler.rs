//! The thread that reads all meters while a run goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::books::{Books, Finished, SamplerCost, SettledShare};
use crate::clock::thread_cpu_ns;
use crate::sources::Opened;
use crate::{Absent, Meter, Missing, Place, Places, Source, SourceKind, Wanted, now_ns};

/// Time between two samples: as often as the energy counters of boards change.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Longest wait for the meters to open: a driver that wakes its boards takes seconds.
const OPENING: Duration = Duration::from_secs(20);
/// Longest wait for the last sample, beyond the counters' own refresh: a driver may hang.
const CLOSING: Duration = Duration::from_secs(2);

/// How long workers had their device: what a lease in shared memory knows.
pub trait Usage: Send {
    /// Device time of a worker up to `now_ns` since it began, ns; never less than before.
    fn held_ns(&self, worker: u32, now_ns: u64) -> u64;

    /// Workers that may have the device at the same time.
    fn slots(&self, place: &Place) -> u64;
}

/// Whose time decides whose joules.
pub enum TimeKeeper {
    /// Time under the device's lease.
    Lease(Box<dyn Usage>),
    /// There is no lease: the time in which a worker has a duty, several at once sharing equally.
    Holding,
}

impl TimeKeeper {
    /// As ledgers write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lease(_) => "lease",
            Self::Holding => "holding",
        }
    }

    pub(crate) fn held_ns(&self, worker: u32, now_ns: u64) -> Option<u64> {
        match self {
            Self::Lease(usage) => Some(usage.held_ns(worker, now_ns)),
            Self::Holding => None,
        }
    }

    pub(crate) fn slots(&self, place: &Place) -> u64 {
        match self {
            Self::Lease(usage) => usage.slots(place),
            Self::Holding => 1,
        }
    }
}

/// What to sample.
pub struct SamplerPlan {
    /// Where sources are.
    pub places: Places,
    /// Which boards.
    pub wanted: Wanted,
    /// Where each worker computes, by its number.
    pub workers: Vec<Place>,
    /// Whose time decides.
    pub keeper: TimeKeeper,
}

/// A sampler, and what it reads.
pub struct Started<D> {
    /// The running sampler.
    pub sampler: Sampler<D>,
    /// Its meters.
    pub sources: Vec<Source>,
    /// Sources that are not there.
    pub absent: Vec<Absent>,
}

/// Reads all meters every [`INTERVAL`] until it is finished or dropped.
///
/// `D` is what a worker does, such as a stage of a job. Memory grows with duties whose shares nobody has taken with
/// [`settled`](Self::settled), not with time.
pub struct Sampler<D> {
    /// Absent where there is no meter.
    books: Option<Arc<Mutex<Books<D>>>>,
    stop: Arc<AtomicBool>,
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

impl<D: Clone + Ord + Send + 'static> Sampler<D> {
    /// Opens the meters, takes a first sample and goes on in a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread. Meters that are not there are no error.
    pub fn start(plan: SamplerPlan) -> std::io::Result<Started<D>> {
        let stop = Arc::new(AtomicBool::new(false));
        let (opened_tx, opened) = mpsc::sync_channel(1);
        let (ended_tx, ended) = mpsc::sync_channel(1);
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("meters".to_owned())
            .spawn(move || {
                sample_until(&stopped, plan, &opened_tx);
                // Nobody waits where the sampler was dropped.
                let _ = ended_tx.send(());
            })?;
        let opening = opened.recv_timeout(OPENING).unwrap_or_else(|error| {
            let reason = match error {
                RecvTimeoutError::Timeout => {
                    format!("they did not open within {} s", OPENING.as_secs())
                }
                RecvTimeoutError::Disconnected => "their thread died".to_owned(),
            };
            Opening {
                books: None,
                sources: Vec::new(),
                absent: vec![Absent::new(
                    "meters",
                    Missing::All,
                    reason,
                    "see whether nvidia-smi answers",
                )],
            }
        });
        let sampler = Self {
            books: opening.books,
            stop,
            ended,
            thread,
        };
        Ok(Started {
            sampler,
            sources: opening.sources,
            absent: opening.absent,
        })
    }

    /// `worker` does something else from now on; nothing if `duty` is absent.
    pub fn duty(&self, worker: u32, duty: Option<D>) {
        if let Some(books) = &self.books {
            // The clock after the lock: samples are booked in the order of their times.
            let mut books = lock(books);
            books.duty(worker, duty, now_ns());
        }
    }

    /// Takes the shares of duties that are over, some samples after they ended.
    pub fn settled(&self) -> Vec<SettledShare<D>> {
        let books = self.books.as_ref();
        books.map_or_else(Vec::new, |books| lock(books).settled())
    }

    /// Takes a last sample, once the counters have had time to show the last joules, and ends. Waits for about a tenth of a
    /// second, and at most some seconds for meters that do not answer.
    pub fn finish(self) -> Finished<D> {
        self.stop();
        let Some(books) = &self.books else {
            return Finished {
                totals: Vec::new(),
                shares: Vec::new(),
                cost: SamplerCost::default(),
            };
        };
        let cut_off = match self.ended.recv_timeout(INTERVAL + CLOSING) {
            Ok(()) => None,
            Err(RecvTimeoutError::Timeout) => Some("a reading had not returned when the run ended"),
            Err(RecvTimeoutError::Disconnected) => Some("the thread that reads the meters died"),
        };
        lock(books).finish(cut_off)
    }
}

impl<D> Sampler<D> {
    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }
}

impl<D> Drop for Sampler<D> {
    fn drop(&mut self) {
        // The thread is not waited for: a driver may hang.
        self.stop();
    }
}

struct Opening<D> {
    books: Option<Arc<Mutex<Books<D>>>>,
    sources: Vec<Source>,
    absent: Vec<Absent>,
}

/// The thread: opens the meters, tells what there is, and samples.
fn sample_until<D: Clone + Ord>(
    stop: &AtomicBool,
    plan: SamplerPlan,
    told: &SyncSender<Opening<D>>,
) {
    let library = Opened::new(&plan.places, &plan.wanted);
    let mut absent = Vec::new();
    let meters = library.meters(&mut absent).into_iter();
    let begin_ns = now_ns();
    let mut meters: Vec<(Box<dyn Meter + '_>, u64)> = meters
        .filter_map(|mut meter| match meter.read(now_ns()) {
            Ok(shown_uj) => Some((meter, shown_uj)),
            Err(error) => {
                absent.push(Absent::unreadable(meter.as_ref(), &error));
                None
            }
        })
        .collect();
    let books = Books::open(plan.keeper, plan.workers, &meters, begin_ns);
    let books = (!meters.is_empty()).then(|| Arc::new(Mutex::new(books)));
    let sources: Vec<Source> = meters
        .iter()
        .map(|(meter, _)| meter.source().clone())
        .collect();
    let opening = Opening {
        books: books.clone(),
        sources: sources.clone(),
        absent,
    };
    let is_awaited = told.send(opening).is_ok();
    let Some(books) = books.filter(|_| is_awaited) else {
        return;
    };
    let mut cost = SamplerCost {
        samples: 1,
        ..SamplerCost::default()
    };
    let mut next_ns = begin_ns;
    loop {
        next_ns = now_ns().max(next_ns + nanos(INTERVAL));
        let is_last = wait(stop, next_ns);
        if is_last {
            thread::sleep(slowest(&sources));
        }
        let from_ns = now_ns();
        let readings = meters
            .iter_mut()
            .map(|(meter, _)| (meter.read(now_ns()), meter.health()));
        let readings = readings.collect();
        let mut books = lock(&books);
        let at_ns = now_ns();
        books.sample(readings, at_ns);
        cost.samples += 1;
        cost.cpu_ns = thread_cpu_ns();
        cost.wall_ns = at_ns - begin_ns;
        cost.worst_ns = cost.worst_ns.max(at_ns - from_ns);
        books.spent(cost);
        if is_last {
            return;
        }
    }
}

/// Waits until `until_ns`, or less if it is to stop; whether it is.
fn wait(stop: &AtomicBool, until_ns: u64) -> bool {
    loop {
        if stop.load(Ordering::Acquire) {
            return true;
        }
        let left_ns = until_ns.saturating_sub(now_ns());
        if left_ns == 0 {
            return false;
        }
        thread::park_timeout(Duration::from_nanos(left_ns));
    }
}

/// What the slowest counter takes to show what was drawn.
fn slowest(sources: &[Source]) -> Duration {
    let counters = sources
        .iter()
        .filter(|source| source.kind != SourceKind::NvmlPower);
    let refreshes = counters.filter_map(|source| source.refresh_ns);
    Duration::from_nanos(refreshes.max().unwrap_or_default()).min(INTERVAL)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The books; a thread that died with them in hand leaves them as they were.
fn lock<D>(books: &Mutex<Books<D>>) -> MutexGuard<'_, Books<D>> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}
