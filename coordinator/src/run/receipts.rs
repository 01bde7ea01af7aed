//! Links that prove themselves: measured before the first job and after the last, and judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bace_api::{
    NetworkRung, Probe, ReceiptPhase, ReceiptRecord, Receipts, Record, Verdict, WorkerId,
};
use bace_engine::Scenario;
use bace_netem::{Allowance, BitRate, Finding, LinkId, LinkSpec, Promise, RegionId, TimeScale};
use bace_socket::loopback_ceiling;
use bace_socket::receipt::{
    Arrivals, Circumstances, Emulator, Script, alone, reason, together, unjudged,
};

use super::fleet::{Fleet, part_of};
use super::interrupts::Interrupts;
use super::measuring::{Errand, Interrupted, Measuring, Told};
use super::progress::ReceiptProgress;
use super::recorder::Recorder;

/// How often a link is measured before it counts as untrue: a busy moment of the machine is no property of the link.
const ATTEMPTS: u32 = 3;
/// Share of what loopback carries that links measured at the same time may have together; beside so little, one does not
/// disturb the other.
const PARALLEL_SHARE: f64 = 0.1;
/// For how long loopback is measured: long enough for hundreds of megabytes.
const LOOPBACK_WINDOW: Duration = Duration::from_millis(300);

/// Takes a run's receipts: measures and judges links in wall seconds, as the workers have them, and records them in
/// emulated ones.
#[derive(Debug)]
pub struct ReceiptTaker {
    scenario: Arc<Scenario>,
    mode: Receipts,
    emulator: Emulator,
    /// What this machine carries; absent before it was measured and where nothing asks for it.
    loopback: Option<BitRate>,
    /// The next measurement's number.
    next: u32,
}

/// A time at which receipts are taken.
pub struct Occasion<'a> {
    /// Before the first job or after the last.
    pub phase: ReceiptPhase,
    /// When, emulated seconds.
    pub at_s: f64,
    /// What links give at present, in emulated seconds.
    pub links: &'a BTreeMap<LinkId, LinkSpec>,
    /// Workers that are gone.
    pub gone: BTreeSet<WorkerId>,
    /// All workers.
    pub fleet: &'a mut Fleet,
    /// Where to record what is found.
    pub recorder: &'a mut Recorder,
    /// Who may stop it.
    pub interrupts: &'a mut Interrupts,
}

/// What came of taking receipts, beside what is recorded.
#[derive(Debug)]
pub struct Taken {
    /// Untrue links, each with its reason; words that follow a colon.
    pub untrue: Vec<String>,
    /// Workers that were lost meanwhile, and how.
    pub lost: Vec<(WorkerId, String)>,
    /// By which signal it was stopped.
    pub interrupted: Option<&'static str>,
}

/// A link, in wall seconds, and one way to measure it, until it holds or is given up.
#[derive(Debug)]
struct Item {
    link: LinkId,
    /// Stands for the host that sends: a region spread over hosts has clocks at a share of the rate on each.
    host: WorkerId,
    /// As that host has it.
    spec: LinkSpec,
    back: LinkSpec,
    probe: Probe,
    attempts: u32,
    found: Found,
}

/// What the last attempt found.
#[derive(Debug)]
enum Found {
    Nothing,
    Findings(Vec<Finding>, Arrivals),
    Failed(String),
}

impl ReceiptTaker {
    /// Receipts of a run of `scenario` on `network`.
    pub fn new(scenario: &Arc<Scenario>, mode: Receipts, network: NetworkRung) -> Self {
        Self {
            scenario: Arc::clone(scenario),
            mode,
            emulator: match network {
                NetworkRung::Modelled | NetworkRung::Shaped => Emulator::Clocks,
                NetworkRung::Packet => Emulator::Packets,
                NetworkRung::Kernel => Emulator::Kernel,
                NetworkRung::None => Emulator::Nobody,
            },
            loopback: None,
            next: 0,
        }
    }

    /// Takes the receipts of before the run.
    ///
    /// # Errors
    /// When a link is untrue, with which and why; when a worker is lost; when it is interrupted.
    pub async fn take_before(
        &mut self,
        fleet: &mut Fleet,
        recorder: &mut Recorder,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<()> {
        let scenario = Arc::clone(&self.scenario);
        let taken = self
            .take(Occasion {
                phase: ReceiptPhase::Before,
                at_s: 0.0,
                links: &scenario.links,
                gone: BTreeSet::new(),
                fleet,
                recorder,
                interrupts,
            })
            .await?;
        if let Some(signal) = taken.interrupted {
            bail!("measure the links: {signal}");
        }
        if let Some((worker, reason)) = taken.lost.first() {
            bail!("use worker {}: {reason}", worker.certificate_name());
        }
        let [first, others @ ..] = taken.untrue.as_slice() else {
            return Ok(());
        };
        let others = match others.len() {
            0 => String::new(),
            1 => " (and one more link is untrue)".to_owned(),
            more => format!(" (and {more} more links are untrue)"),
        };
        bail!("begin training, since a link is not what the scenario says: {first}{others}")
    }

    /// Measures and records every link between regions with workers.
    pub async fn take(&mut self, occasion: Occasion<'_>) -> anyhow::Result<Taken> {
        let Occasion {
            phase,
            at_s,
            links,
            gone,
            fleet,
            recorder,
            interrupts,
        } = occasion;
        let scale = self.scale();
        let links = links.iter();
        let links = &links
            .map(|(&link, &spec)| (link, scale.wall_link(spec)))
            .collect();
        let mut taken = Taken {
            untrue: Vec::new(),
            lost: Vec::new(),
            interrupted: None,
        };
        let measured: Vec<(LinkId, LinkSpec)> = self.measured(links).collect();
        if self.mode == Receipts::Off || measured.is_empty() {
            return Ok(taken);
        }
        let total = total(&measured);
        // The kernel's links do not cross loopback, and without links there is nothing to compare it with.
        let crosses = matches!(self.emulator, Emulator::Clocks | Emulator::Packets);
        if phase == ReceiptPhase::Before && crosses {
            let ceiling = tokio::task::spawn_blocking(|| loopback_ceiling(LOOPBACK_WINDOW));
            let ceiling = ceiling.await.context("measure this machine's loopback")??;
            self.loopback = Some(ceiling.quic);
            recorder.add(Record::Loopback {
                at_s,
                rate_bps: ceiling.quic.bps(),
                links_bps: total.bps(),
            })?;
        }
        let mut next = self.next;
        let mut measuring = Measuring {
            fleet,
            interrupts,
            next: &mut next,
            gone,
            lost: Vec::new(),
        };
        let mut items = self.items(links, &measuring);
        let ended = self.measure(&mut items, &mut measuring).await;
        taken.lost = std::mem::take(&mut measuring.lost);
        self.next = next;
        if let Err(Interrupted(signal)) = ended {
            taken.interrupted = Some(signal);
            return Ok(taken);
        }
        for (link, spec) in &measured {
            let back = &links[&link.reversed()];
            let receipt = self.receipt(*link, [spec, back], &items, (phase, at_s, total));
            if receipt.verdict == Verdict::Untrue {
                let why = receipt.reason.as_deref().unwrap_or_default();
                taken
                    .untrue
                    .push(format!("{} → {}: {why}", receipt.from, receipt.to));
            }
            recorder.add(Record::Receipt(receipt))?;
        }
        Ok(taken)
    }

    fn scale(&self) -> TimeScale {
        self.scenario.compute.time_scale
    }

    /// Links that jobs can use, with what they give: both regions have workers, and there is a link back.
    fn measured<'a>(
        &'a self,
        links: &'a BTreeMap<LinkId, LinkSpec>,
    ) -> impl Iterator<Item = (LinkId, LinkSpec)> + 'a {
        let has_workers = |region: RegionId| self.scenario.regions[region.index()].gpus > 0;
        links
            .iter()
            .filter(move |(link, _)| has_workers(link.from) && has_workers(link.to))
            .filter(|(link, _)| links.contains_key(&link.reversed()))
            .map(|(link, spec)| {
                let mut spec = *spec;
                // Measuring would spend what the first job is to find; what is left is the rate while there is credit.
                spec.burst = None;
                (*link, spec)
            })
    }

    /// Two jobs may meet on a link where both its regions have two workers.
    fn items(&self, links: &BTreeMap<LinkId, LinkSpec>, measuring: &Measuring<'_>) -> Vec<Item> {
        let mut items = Vec::new();
        for (link, spec) in self.measured(links) {
            // Handshakes and acknowledgements spend no credit either.
            let mut back = links[&link.reversed()];
            back.burst = None;
            if self.emulator.obstacle(&spec, &back).is_some() {
                continue;
            }
            let receivers = workers_in(measuring, link.to, &BTreeSet::new()).len();
            for host in hosts_of(measuring, link.from) {
                let senders = beside(measuring, link.from, host, &BTreeSet::new()).len();
                let share = measuring.fleet.share_of(host, link.from);
                let item = |probe| Item {
                    link,
                    host,
                    spec: part_of(spec, share),
                    back,
                    probe,
                    attempts: 0,
                    found: Found::Nothing,
                };
                items.push(item(Probe::Alone));
                if self.emulator != Emulator::Nobody && senders > 1 && receivers > 1 {
                    items.push(item(Probe::Together));
                }
            }
        }
        items
    }

    /// Measures all items, several at once where they do not disturb each other, and those that miss again, alone.
    async fn measure(
        &self,
        items: &mut [Item],
        measuring: &mut Measuring<'_>,
    ) -> Result<(), Interrupted> {
        let progress = ReceiptProgress::new(items.len());
        let mut waiting: Vec<usize> = (0..items.len()).collect();
        while !waiting.is_empty() {
            let (batch, errands) = self.batch(items, &waiting, measuring);
            waiting.retain(|place| !batch.contains(place));
            if errands.is_empty() {
                // Nobody is left to measure what waits.
                break;
            }
            self.attempt(items, &batch, &errands, measuring).await?;
            progress.add(batch.len());
        }
        for item in items {
            while item.attempts > 0 && item.attempts < ATTEMPTS && !self.holds(item) {
                let errand = self.errand(item, measuring, &mut BTreeSet::new());
                let Some(errand) = errand else {
                    // Nobody is left who could say that it is untrue.
                    (item.attempts, item.found) = (0, Found::Nothing);
                    break;
                };
                let (item, errands) = (std::slice::from_mut(&mut *item), [errand]);
                self.attempt(item, &[0], &errands, measuring).await?;
            }
        }
        Ok(())
    }

    /// Of the waiting items the first, and those behind it that share no worker with it and, together, hardly load the
    /// machine.
    fn batch(
        &self,
        items: &[Item],
        waiting: &[usize],
        measuring: &Measuring<'_>,
    ) -> (Vec<usize>, Vec<Errand>) {
        let room = self
            .loopback
            .map_or(0.0, |rate| PARALLEL_SHARE * rate.bps());
        let cores = crate::machine::cores();
        let mut used = BTreeSet::new();
        let (mut batch, mut errands, mut sum) = (Vec::new(), Vec::new(), 0.0);
        for &place in waiting {
            let item = &items[place];
            let rate = item.spec.rate.bps();
            let is_first = errands.is_empty();
            let is_twice = batch
                .iter()
                .any(|&other: &usize| self.emulator.disturbs(items[other].link, item.link));
            if !is_first && (is_twice || sum + rate > room || errands.len() >= cores) {
                continue;
            }
            match self.errand(item, measuring, &mut used) {
                Some(errand) => {
                    sum += rate;
                    batch.push(place);
                    errands.push(errand);
                }
                // With all workers free and yet not enough, there will never be.
                None if is_first => batch.push(place),
                None => {}
            }
        }
        (batch, errands)
    }

    /// An errand for workers of the item's regions that are not in `used`, which it puts there.
    fn errand(
        &self,
        item: &Item,
        measuring: &Measuring<'_>,
        used: &mut BTreeSet<WorkerId>,
    ) -> Option<Errand> {
        let pairs = match item.probe {
            Probe::Alone => 1,
            Probe::Together => 2,
        };
        let senders = beside(measuring, item.link.from, item.host, used);
        let receivers = workers_in(measuring, item.link.to, used);
        if senders.len() < pairs || receivers.len() < pairs {
            return None;
        }
        let pairs: Vec<_> = senders.into_iter().zip(receivers).take(pairs).collect();
        let back_share = measuring.fleet.share_of(pairs[0].1, item.link.to);
        used.extend(
            pairs
                .iter()
                .flat_map(|&(sender, receiver)| [sender, receiver]),
        );
        Some(Errand {
            link: item.link,
            spec: item.spec,
            back: part_of(item.back, back_share),
            seed: self.scenario.seed,
            probe: item.probe,
            seconds: self.script(item).seconds(),
            pairs,
        })
    }

    async fn attempt(
        &self,
        items: &mut [Item],
        places: &[usize],
        errands: &[Errand],
        measuring: &mut Measuring<'_>,
    ) -> Result<(), Interrupted> {
        let told = measuring.run(errands).await?;
        for (&place, told) in places.iter().zip(told) {
            let item = &mut items[place];
            item.attempts += 1;
            item.found = self.found(item, told);
        }
        Ok(())
    }

    fn found(&self, item: &Item, told: Told) -> Found {
        let timings = match told {
            Ok(timings) => timings,
            Err(reason) => return Found::Failed(reason),
        };
        let (script, promise) = (self.script(item), self.promise(&item.spec));
        let findings = match (item.probe, timings.as_slice()) {
            (Probe::Alone, [own]) => alone(&script, &promise, own),
            (Probe::Together, [one, other]) => together(&script, &promise, [one, other]),
            _ => unreachable!("every pair has told its times"),
        };
        match findings {
            Ok(findings) => Found::Findings(findings, Arrivals::of(timings.iter().flatten())),
            Err(error) => Found::Failed(format!("failed to {error}")),
        }
    }

    fn script(&self, item: &Item) -> Script {
        let shaping = self.emulator.shaping();
        match item.probe {
            Probe::Alone => Script::alone(&item.spec, shaping),
            Probe::Together => Script::together(&item.spec, shaping),
        }
    }

    fn promise<'a>(&self, spec: &'a LinkSpec) -> Promise<'a> {
        let settings = &self.scenario.network;
        Promise {
            spec,
            shaping: self.emulator.shaping(),
            allowance: Allowance {
                share: settings.receipt_error,
                seconds: settings.receipt_error_s,
            },
            ahead_s: self.emulator.ahead_s(spec),
        }
    }

    fn holds(&self, item: &Item) -> bool {
        match &item.found {
            Found::Findings(findings, _) => findings.iter().all(|one| one.miss().is_none()),
            Found::Nothing | Found::Failed(_) => false,
        }
    }

    /// What all measurements of a link amount to, in emulated seconds.
    fn receipt(
        &self,
        link: LinkId,
        [spec, back]: [&LinkSpec; 2],
        items: &[Item],
        (phase, at_s, links): (ReceiptPhase, f64, BitRate),
    ) -> ReceiptRecord {
        let own: Vec<&Item> = items.iter().filter(|item| item.link == link).collect();
        let attempts = own.iter().map(|item| item.attempts).max();
        let attempts = attempts.unwrap_or_default();
        let hosts: BTreeSet<WorkerId> = own.iter().map(|item| item.host).collect();
        let (mut figures, mut arrivals) = (Vec::new(), Arrivals::of([]));
        let mut wrong = Vec::new();
        for host in hosts {
            let of_host = own.iter().filter(|item| item.host == host);
            let (found, came, why) = self.amount(of_host.copied(), links);
            figures.extend(found);
            arrivals = arrivals.and(came);
            wrong.extend(why);
        }
        let wrong = (!wrong.is_empty()).then(|| wrong.join("; "));
        let (verdict, reason) = match wrong {
            Some(why) => (Verdict::Untrue, Some(why)),
            None if attempts == 0 => (
                Verdict::NotJudged,
                Some(self.not_measured(link, [spec, back])),
            ),
            None if figures.iter().any(Finding::is_judged) => {
                let why = unjudged(self.emulator, spec);
                (Verdict::True, why.map(str::to_owned))
            }
            None => {
                let why = unjudged(self.emulator, spec);
                (Verdict::NotJudged, why.map(str::to_owned))
            }
        };
        let name = |region: RegionId| self.scenario.regions[region.index()].name.clone();
        let scale = self.scale();
        ReceiptRecord {
            at_s,
            phase,
            from: name(link.from),
            to: name(link.to),
            attempts,
            figures: figures
                .into_iter()
                .map(|figure| scale.emulated_finding(figure))
                .collect(),
            messages: arrivals.messages,
            late_arrivals: arrivals.late,
            worst_late_s: scale.emulated_seconds(arrivals.worst_late_s),
            verdict,
            reason,
        }
    }

    /// What the measurements of a link that one host sends amount to, and what is wrong with it.
    fn amount<'i>(
        &self,
        items: impl Iterator<Item = &'i Item>,
        links: BitRate,
    ) -> (Vec<Finding>, Arrivals, Option<String>) {
        let (mut figures, mut arrivals) = (Vec::new(), Arrivals::of([]));
        let mut wrong = None;
        for item in items {
            match &item.found {
                Found::Findings(findings, came) => {
                    figures.extend(findings.iter().copied());
                    arrivals = arrivals.and(*came);
                    let circumstances = Circumstances {
                        spec: &item.spec,
                        emulator: self.emulator,
                        arrivals,
                        ceiling: self.loopback,
                        links,
                        scale: self.scale(),
                    };
                    // That of all figures so far says more than that of the first.
                    wrong = reason(&figures, &circumstances).or(wrong);
                }
                Found::Failed(why) => wrong = Some(why.clone()),
                Found::Nothing => {}
            }
        }
        (figures, arrivals, wrong)
    }

    fn not_measured(&self, link: LinkId, [spec, back]: [&LinkSpec; 2]) -> String {
        if let Some(obstacle) = self.emulator.obstacle(spec, back) {
            return obstacle.to_owned();
        }
        let [from, to] = [link.from, link.to].map(|end| &self.scenario.regions[end.index()].name);
        format!("{from} or {to} has no worker left")
    }
}

/// All of `links` together.
fn total(links: &[(LinkId, LinkSpec)]) -> BitRate {
    let sum = links.iter().map(|(_, spec)| spec.rate.bps()).sum();
    BitRate::from_bps(sum).expect("limits keep sums of rates finite")
}

/// A living worker of each host of a region.
fn hosts_of(measuring: &Measuring<'_>, region: RegionId) -> Vec<WorkerId> {
    let mut hosts: Vec<WorkerId> = Vec::new();
    for worker in workers_in(measuring, region, &BTreeSet::new()) {
        if hosts
            .iter()
            .all(|&host| measuring.fleet.are_apart(host, worker))
        {
            hosts.push(worker);
        }
    }
    hosts
}

/// Workers of a region that live on the host of `host` and are not in `used`.
fn beside(
    measuring: &Measuring<'_>,
    region: RegionId,
    host: WorkerId,
    used: &BTreeSet<WorkerId>,
) -> Vec<WorkerId> {
    let mut workers = workers_in(measuring, region, used);
    workers.retain(|&worker| !measuring.fleet.are_apart(host, worker));
    workers
}

/// Workers of a region that live and are not in `used`.
fn workers_in(
    measuring: &Measuring<'_>,
    region: RegionId,
    used: &BTreeSet<WorkerId>,
) -> Vec<WorkerId> {
    let seats = measuring.fleet.workers.iter().map(|worker| &worker.seat);
    seats
        .filter(|seat| seat.region == region)
        .map(|seat| seat.worker)
        .filter(|worker| !measuring.gone.contains(worker) && !used.contains(worker))
        .collect()
}
