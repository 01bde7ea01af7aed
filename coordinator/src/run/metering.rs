//! What this machine draws while a run goes on: meters of the coordinator's host, from before the first job to after the last.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use bace_api::{
    Attempt, ComputeRung, EnergyColumn, JobId, MeterAbsentRecord, MeterRecord, MeterTotalRecord,
    MeteringRecord, PhysicalEnergyRecord, Record, StageIndex, WorkerId,
};
use bace_cuda::Driver;
use bace_engine::Scenario;
use bace_lease::LeaseTable;
use bace_meter::{
    Absent, BoardId, Finished, MeterTotal, Missing, Place, Places, Sampler, SamplerPlan,
    SettledShare, Source, SourceKind, Started, TimeKeeper, Usage, Wanted, modelled,
};
use bace_netem::TimeScale;
use tokio::task::spawn_blocking;

use super::fleet::Fleet;
use super::recorder::Recorder;
use crate::cli::{DeviceChoice, EmulationArgs, MetersChoice};

const NS_PER_S: f64 = 1e9;
/// What a source is called that stands for all meters of this machine.
const ALL: &str = "meters";
/// How workers name what they compute on: a board by its UUID, the processor, nothing.
const BOARD: &str = "GPU-";
const CPU: &str = "cpu";
const NOTHING: &str = "nothing";

/// A stage that a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The job.
    pub job: JobId,
    /// Which start of it.
    pub attempt: Attempt,
    /// The stage.
    pub stage: StageIndex,
}

/// The meters of a run; none by default.
#[derive(Default)]
pub struct Metering {
    /// Absent where nothing is to be metered.
    sampler: Option<Sampler<Held>>,
    sources: Vec<Source>,
    /// The scenario's jobs by name.
    jobs: Vec<String>,
}

impl Metering {
    /// Starts the meters that there are, waiting for drivers that wake their boards, and writes down which there are, which not, and why.
    pub async fn start(
        args: &EmulationArgs,
        compute: ComputeRung,
        scenario: &Scenario,
        fleet: &Fleet,
        recorder: &mut Recorder,
    ) -> anyhow::Result<Self> {
        let mut metering = Self {
            sampler: None,
            sources: Vec::new(),
            jobs: scenario.jobs.iter().map(|job| job.name.clone()).collect(),
        };
        for region in scenario.regions.iter().filter(|region| region.gpus > 0) {
            let gpu = &region.gpu;
            let source = modelled(&region.name, &region.gpu_name, gpu.busy_w, gpu.idle_w);
            recorder.add(meter_record(&source, None))?;
        }
        if args.meters == MetersChoice::Off {
            let reason = "nothing was to be metered (--meters off)";
            recorder.add(absent_record(
                Absent::by_design(ALL, Missing::All, reason),
                &[],
            ))?;
            return Ok(metering);
        }
        let Sites {
            places,
            boards,
            slots,
            unknown,
        } = Sites::new(&args.device, fleet);
        let keeper = match compute {
            ComputeRung::Modelled => TimeKeeper::Holding,
            ComputeRung::Paced | ComputeRung::Native => {
                let leases = fleet.leases().clone();
                TimeKeeper::Lease(Box::new(LeaseUsage { leases, slots }))
            }
        };
        let attributed_by = keeper.name();
        let computing = places.clone();
        let plan = SamplerPlan {
            places: Places::from_environment(),
            wanted: Wanted::Boards(boards.into_iter().collect()),
            workers: places,
            keeper,
        };
        let Started {
            sampler,
            sources,
            absent,
        } = spawn_blocking(move || Sampler::start(plan))
            .await
            .context("open the meters")?
            .context("start the thread that reads the meters")?;
        for source in &sources {
            recorder.add(meter_record(source, Some(attributed_by)))?;
        }
        let elsewhere = fleet.other_hosts().into_iter().map(|host| {
            let reason = "meters run on the coordinator's host alone";
            Absent::by_design(format!("{ALL} of host {host}"), Missing::Nothing, reason)
        });
        for one in absent.into_iter().chain(unknown).chain(elsewhere) {
            recorder.add(absent_record(one, &computing))?;
        }
        metering.sampler = Some(sampler);
        metering.sources = sources;
        Ok(metering)
    }

    /// `worker` holds another stage from now on, or none.
    pub fn holds(&self, worker: WorkerId, held: Option<Held>) {
        if let Some(sampler) = &self.sampler {
            sampler.duty(worker.0, held);
        }
    }

    /// What stages drew that were given back a moment ago.
    pub fn settled(&self, at_s: f64) -> Vec<Record> {
        let sampler = self.sampler.as_ref();
        let shares = sampler.map_or_else(Vec::new, Sampler::settled);
        self.records(at_s, shares)
    }

    /// Ends the meters: the last shares, what each meter counted, and what that took. `machine_s` are the machine's seconds of
    /// the run at a reading of the monotonic clock, negative before it.
    pub async fn finish(
        &mut self,
        at_s: f64,
        machine_s: impl Fn(u64) -> f64,
        scale: TimeScale,
    ) -> anyhow::Result<Vec<Record>> {
        let Some(sampler) = self.sampler.take() else {
            return Ok(Vec::new());
        };
        // It waits for counters that show joules late.
        let Finished {
            totals,
            shares,
            cost,
        } = spawn_blocking(move || sampler.finish())
            .await
            .context("end the meters")?;
        let mut records = self.records(at_s, shares);
        if totals.is_empty() {
            return Ok(records);
        }
        let totals = totals.into_iter();
        records.extend(totals.map(|total| total_record(at_s, total, &machine_s, scale)));
        records.push(Record::Metering(MeteringRecord {
            at_s,
            samples: cost.samples,
            cpu_s: cost.cpu_ns as f64 / NS_PER_S,
            wall_s: cost.wall_ns as f64 / NS_PER_S,
            worst_s: cost.worst_ns as f64 / NS_PER_S,
        }));
        Ok(records)
    }

    fn records(&self, at_s: f64, shares: Vec<SettledShare<Held>>) -> Vec<Record> {
        let shares = shares.into_iter().map(|settled| {
            Record::PhysicalEnergy(PhysicalEnergyRecord {
                at_s,
                meter: self.sources[settled.meter].name.clone(),
                worker: WorkerId(settled.worker).certificate_name(),
                job: settled.duty.map(|held| self.jobs[held.job.index()].clone()),
                attempt: settled.duty.map(|held| held.attempt),
                stage: settled.duty.map(|held| held.stage),
                device_s: settled.share.held_ns as f64 / NS_PER_S,
                energy_uj: settled.share.energy_uj,
            })
        });
        shares.collect()
    }
}

/// Where the workers of a run compute.
#[derive(Debug, Default)]
struct Sites {
    /// By worker.
    places: Vec<Place>,
    /// The boards among them.
    boards: BTreeSet<BoardId>,
    /// Workers that a device takes at a time.
    slots: BTreeMap<Place, u64>,
    /// Why boards are not known.
    unknown: Option<Absent>,
}

impl Sites {
    /// As the workers tell; those that compute nothing stand for the boards that were asked for, in turn.
    fn new(device: &DeviceChoice, fleet: &Fleet) -> Self {
        let mut sites = Self::default();
        let asked = sites.boards_asked_for(device);
        let mut dealt = asked.iter().cycle();
        for worker in &fleet.workers {
            let board = dealt.next();
            let worker = worker.seat.worker;
            let lease = fleet.lease_of(worker);
            let place = match lease.name.as_str() {
                _ if !fleet.is_here(worker) => Place::Elsewhere,
                uuid if uuid.starts_with(BOARD) => Place::Board(BoardId::Uuid(uuid.to_owned())),
                NOTHING => match (device, board) {
                    (DeviceChoice::Cuda(_), Some(board)) => Place::Board(board.clone()),
                    (DeviceChoice::Cuda(_), None) => Place::Elsewhere,
                    (DeviceChoice::Cpu, _) => Place::Processor,
                },
                CPU => Place::Processor,
                _ => Place::Elsewhere,
            };
            if let Place::Board(board) = &place {
                sites.boards.insert(board.clone());
            }
            sites.slots.insert(place.clone(), lease.slots.into());
            sites.places.push(place);
        }
        sites
    }

    /// The boards of `--device`, by UUID as CUDA tells it.
    fn boards_asked_for(&mut self, device: &DeviceChoice) -> Vec<BoardId> {
        let DeviceChoice::Cuda(indices) = device else {
            return Vec::new();
        };
        let found = Driver::load().and_then(|driver| match indices.as_slice() {
            [] => driver.devices(),
            indices => indices.iter().map(|&index| driver.device(index)).collect(),
        });
        match found {
            Ok(found) => {
                let uuids = found.into_iter().map(|info| BoardId::Uuid(info.uuid));
                uuids.collect()
            }
            Err(error) => {
                let reason = format!("which boards the run uses is not known: failed to {error}");
                self.unknown = Some(Absent::by_design("NVML", Missing::All, reason));
                Vec::new()
            }
        }
    }
}

/// Time under the leases of the coordinator's host.
struct LeaseUsage {
    leases: LeaseTable,
    slots: BTreeMap<Place, u64>,
}

impl Usage for LeaseUsage {
    fn held_ns(&self, worker: u32, now_ns: u64) -> u64 {
        // A seat that nobody has taken has held nothing.
        self.leases
            .held_ns(worker as usize, now_ns)
            .unwrap_or_default()
    }

    fn slots(&self, place: &Place) -> u64 {
        self.slots.get(place).copied().unwrap_or(1)
    }
}

fn meter_record(source: &Source, attributed_by: Option<&str>) -> Record {
    Record::Meter(MeterRecord {
        at_s: 0.0,
        meter: source.name.clone(),
        source: source.kind.name().to_owned(),
        column: match source.kind {
            SourceKind::Model => EnergyColumn::Emulated,
            SourceKind::NvmlEnergy | SourceKind::NvmlPower | SourceKind::Rapl => {
                EnergyColumn::Physical
            }
        },
        unit: source.unit.to_owned(),
        resolution: source.resolution,
        refresh_s: source.refresh_ns.map(|ns| ns as f64 / NS_PER_S),
        provenance: source.provenance.clone(),
        attributed_by: attributed_by.map(str::to_owned),
    })
}

/// `computing` is where each worker of this host does.
fn absent_record(absent: Absent, computing: &[Place]) -> Record {
    let workers = (0..).zip(computing);
    let workers = workers.filter(|(_, place)| absent.missing.concerns(place));
    Record::MeterAbsent(MeterAbsentRecord {
        at_s: 0.0,
        meter: absent.source,
        reason: absent.reason,
        advice: absent.advice,
        workers: workers
            .map(|(worker, _)| WorkerId(worker).certificate_name())
            .collect(),
    })
}

fn total_record(
    at_s: f64,
    total: MeterTotal,
    machine_s: impl Fn(u64) -> f64,
    scale: TimeScale,
) -> Record {
    let (lost_at_s, lost_reason) = match total.lost {
        Some((since_ns, reason)) => {
            let lost_at_s = scale.emulated_seconds(machine_s(since_ns));
            (Some(lost_at_s), Some(reason))
        }
        None => (None, None),
    };
    Record::MeterTotal(MeterTotalRecord {
        at_s,
        meter: total.source.name,
        from_s: machine_s(total.from_ns),
        to_s: machine_s(total.to_ns),
        energy_uj: total.energy_uj,
        unattributed_uj: total.unattributed_uj,
        readings: total.readings,
        failures: total.failures,
        wraps: total.health.wraps,
        resets: total.health.resets,
        longest_still_s: total.health.longest_still_ns as f64 / NS_PER_S,
        unread_s: total.health.unread_ns as f64 / NS_PER_S,
        lost_at_s,
        lost_reason,
    })
}
