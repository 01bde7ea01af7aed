//! Summaries for programs: the object of `--json` and of `summary.json`.

use bace_api::{ClockKind, MeterAbsentRecord, ReceiptRecord};
use bace_netem::Finding;
use serde_json::{Map, Value, json};

use crate::{
    EmulationSummary, Figure, JobStatus, JobSummary, LinkSummary, MeterSummary, OverrunSummary,
    PhysicalSummary, RegionSummary, RunEnd, Summary,
};

impl Summary {
    /// The object that `--json` prints. Numbers that are not known are `null`, and the object beside them
    /// called `unknown` says why.
    ///
    /// `jobs` holds every job that was ever placed; the others stand by name in `refused`, `waiting` and
    /// `not_submitted`, those that wait or were refused with reasons beside.
    pub fn to_json(&self) -> Value {
        let header = &self.header;
        let totals = &self.totals;
        let placed = self.jobs.iter().filter(|job| job.placed.is_some());
        let (mut waiting_reasons, mut refused_reasons) = (Map::new(), Map::new());
        for job in self.jobs.iter().filter(|job| job.placed.is_none()) {
            let reasons = match job.status {
                JobStatus::Waiting(_) => &mut waiting_reasons,
                _ => &mut refused_reasons,
            };
            if let Some(reason) = job.status.reason() {
                reasons.insert(job.name.clone(), reason.into());
            }
        }
        let (ended, stopped, last_s) = match &self.end {
            RunEnd::Complete => (true, None, None),
            RunEnd::Stopped(reason) => (true, Some(reason), None),
            RunEnd::CutOff { last_s } => (false, None, Some(last_s)),
        };
        let mut object = Object::from(json!({
            "policy": header.policy,
            "scenario": header.scenario,
            "scenario_hash": header.scenario_hash,
            "seed": header.seed,
            "version": header.version,
            "machine": header.machine,
            "started": header.started,
            "rung": {"clock": header.clock, "compute": header.compute, "network": header.network},
            "time_scale": (header.clock == ClockKind::Wall).then_some(header.time_scale.unwrap_or(1.0)),
            "kernel": self.shaping,
            "iteration_model": header.iteration_model,
            "ended": ended,
            "stopped": stopped,
            "cut_off_at_s": last_s,
            "jobs": placed.map(job).collect::<Vec<_>>(),
            "refused": self.names("refused"),
            "refused_reasons": refused_reasons,
            "waiting": self.names("waiting"),
            "waiting_reasons": waiting_reasons,
            "not_submitted": self.names("not submitted"),
            "regions": self.regions.iter().map(region).collect::<Vec<_>>(),
            "links": self.links.iter().map(link).collect::<Vec<_>>(),
            "finished_jobs": totals.finished,
            "overruns": totals.overruns,
            "invalid_reasons": self.emulation.faults,
            "clock_uncertainty_s": self.clock_uncertainty_s,
            "receipts": receipts(&self.emulation),
            "physical": physical(&self.physical),
            "workers_lost": self.workers_lost,
            "omitted_records": self.omissions.unknown_kinds,
            "torn_line": self.omissions.torn_line,
        }));
        if !header.sources.is_empty() {
            object.put("sources", json!(header.sources));
        }
        if let Some(profile) = &header.profile {
            object.keys.insert("profile".to_owned(), json!(profile));
        }
        object
            .figure("mean_jct_s", &totals.mean_jct_s)
            .figure("median_jct_s", &totals.median_jct_s)
            .figure("p95_jct_s", &totals.p95_jct_s)
            .figure("max_jct_s", &totals.max_jct_s)
            .figure("mean_queueing_s", &totals.mean_queueing_s)
            .figure("makespan_s", &totals.makespan_s)
            .figure("energy_j", &totals.energy_j)
            .figure("cost_usd", &totals.cost_usd)
            .figure("carbon_g", &totals.carbon_g)
            .figure("gpu_busy_share", &totals.gpu_busy_share)
            .figure("gpu_utilisation", &totals.gpu_utilisation)
            .figure("link_utilisation", &totals.link_utilisation)
            .figure("late_arrivals", &totals.late_arrivals)
            .figure("valid", &self.emulation.valid);
        if let Some(overruns) = &self.emulation.overruns {
            object.put("emulation", emulation(overruns));
        }
        object.into_value()
    }
}

fn job(job: &JobSummary) -> Value {
    let (k, k_star, path, layers, starts) = match &job.placed {
        Some(placed) => (
            placed.k,
            placed.k_star,
            placed.path.as_slice(),
            placed.layers.as_slice(),
            placed.starts,
        ),
        None => (0, 0, [].as_slice(), [].as_slice(), 0),
    };
    let gpus: Map<String, Value> = path
        .iter()
        .map(|part| (part.region.clone(), part.gpus.into()))
        .collect();
    let mut object = Object::from(json!({
        "name": job.name,
        "status": job.status.word(),
        "reason": job.status.reason(),
        "k": k,
        "k_star": k_star,
        "path": path.iter().map(|part| &part.region).collect::<Vec<_>>(),
        "gpus": gpus,
        "layers": layers,
        "starts": starts,
        "overruns": job.overruns,
        "worst_overrun_s": job.worst_overrun_s,
    }));
    object
        .figure("submitted_s", &job.submitted_s)
        .figure("start_s", &job.started_s)
        .figure("training_s", &job.training_s)
        .figure("set_up_s", &job.set_up_s)
        .figure("finish_s", &job.finished_s)
        .figure("queueing_s", &job.queueing_s)
        .figure("jct_s", &job.jct_s)
        .figure("iterations", &job.iterations)
        .figure("loss_first", &job.loss_first)
        .figure("loss_last", &job.loss_last)
        .figure("tokens_per_s", &job.tokens_per_s)
        .figure("gpu_held_s", &job.gpu_held_s)
        .figure("gpu_busy_s", &job.gpu_busy_s)
        .figure("energy_j", &job.energy_j)
        .figure("physical_energy_j", &job.physical_energy_j)
        .figure("cost_usd", &job.cost_usd)
        .figure("carbon_g", &job.carbon_g)
        .figure("link_bytes", &job.link_bytes)
        .figure("late_arrivals", &job.late_arrivals)
        .figure("worst_late_s", &job.worst_late_s);
    object.into_value()
}

fn region(region: &RegionSummary) -> Value {
    let mut object = Object::from(json!({"name": region.name}));
    object
        .figure("energy_j", &region.energy_j)
        .figure("cost_usd", &region.cost_usd)
        .figure("gpu_utilisation", &region.gpu_utilisation);
    object.into_value()
}

fn link(link: &LinkSummary) -> Value {
    let mut object = Object::from(json!({
        "from": link.from,
        "to": link.to,
        "datagrams": link.datagrams,
    }));
    object
        .figure("bytes", &link.bytes)
        .figure("messages", &link.messages)
        .figure("late_arrivals", &link.late_arrivals)
        .figure("worst_late_s", &link.worst_late_s)
        .figure("utilisation", &link.utilisation);
    object.into_value()
}

fn emulation(overruns: &OverrunSummary) -> Value {
    let jobs = overruns.jobs.iter().map(|job| {
        json!({
            "name": job.job,
            "actions": job.actions,
            "overruns": job.overruns,
            "worst_overrun_s": job.worst_s,
            "overrun_s": job.excess_s,
            "paced_s": job.paced_s,
            "valid": !job.are_too_many,
            "largest_time_scale": job.largest_time_scale,
        })
    });
    json!({
        "overrun_share": overruns.allowed_share,
        "largest_time_scale": overruns.largest_time_scale(),
        "jobs": jobs.collect::<Vec<_>>(),
    })
}

fn receipts(emulation: &EmulationSummary) -> Value {
    json!({
        "mode": emulation.mode,
        "loopback_bps": emulation.loopback.map(|loopback| loopback.rate_bps),
        "links_bps": emulation.loopback.map(|loopback| loopback.links_bps),
        "links": emulation.receipts.iter().map(receipt).collect::<Vec<_>>(),
    })
}

fn receipt(receipt: &ReceiptRecord) -> Value {
    let figure = |figure: &Finding| {
        json!({
            "quantity": figure.quantity,
            "configured": figure.configured,
            "measured": figure.measured,
            "error": figure.error(),
            "at_least": figure.at_least,
            "at_most": figure.at_most,
            "holds": figure.is_judged().then(|| figure.miss().is_none()),
        })
    };
    json!({
        "phase": receipt.phase,
        "from": receipt.from,
        "to": receipt.to,
        "attempts": receipt.attempts,
        "figures": receipt.figures.iter().map(figure).collect::<Vec<_>>(),
        "messages": receipt.messages,
        "late_arrivals": receipt.late_arrivals,
        "worst_late_s": receipt.worst_late_s,
        "verdict": receipt.verdict,
        "reason": receipt.reason,
    })
}

/// What the machine drew; no number here is part of `energy_j` or `cost_usd` outside.
fn physical(physical: &PhysicalSummary) -> Value {
    let worker = |(name, energy_j): &(String, Figure)| {
        let mut object = Object::from(json!({"worker": name}));
        object.figure("energy_j", energy_j);
        object.into_value()
    };
    let mut object = Object::from(json!({
        "meters": physical.meters.iter().map(meter).collect::<Vec<_>>(),
        "absent": physical.absent.iter().map(absent).collect::<Vec<_>>(),
        "workers": physical.workers.iter().map(worker).collect::<Vec<_>>(),
        "metering": physical.metering.map(|metering| json!({
            "samples": metering.samples,
            "cpu_s": metering.cpu_s,
            "wall_s": metering.wall_s,
            "worst_s": metering.worst_s,
        })),
    }));
    object
        .figure("energy_j", &physical.energy_j)
        .figure("attributed_j", &physical.attributed_j)
        .figure("unattributed_j", &physical.unattributed_j);
    object.into_value()
}

fn meter(one: &MeterSummary) -> Value {
    let meter = &one.meter;
    let mut object = Object::from(json!({
        "meter": meter.meter,
        "source": meter.source,
        "column": meter.column,
        "unit": meter.unit,
        "resolution": meter.resolution,
        "refresh_s": meter.refresh_s,
        "provenance": meter.provenance,
        "attributed_by": meter.attributed_by,
        "read": one.total.as_ref().map(|total| json!({
            "from_s": total.from_s,
            "to_s": total.to_s,
            "readings": total.readings,
            "failures": total.failures,
            "wraps": total.wraps,
            "resets": total.resets,
            "longest_still_s": total.longest_still_s,
            "unread_s": total.unread_s,
            "lost_at_s": total.lost_at_s,
            "lost_reason": total.lost_reason,
        })),
    }));
    object
        .figure("energy_j", &one.energy_j)
        .figure("attributed_j", &one.attributed_j)
        .figure("unattributed_j", &one.unattributed_j);
    object.into_value()
}

fn absent(absent: &MeterAbsentRecord) -> Value {
    json!({"meter": absent.meter, "reason": absent.reason, "advice": absent.advice})
}

/// An object whose missing numbers are explained.
pub(crate) struct Object {
    keys: Map<String, Value>,
    unknown: Map<String, Value>,
}

impl From<Value> for Object {
    fn from(value: Value) -> Self {
        Self {
            keys: match value {
                Value::Object(keys) => keys,
                other => Map::from_iter([("value".to_owned(), other)]),
            },
            unknown: Map::new(),
        }
    }
}

impl Object {
    pub(crate) fn figure<T: Clone + Into<Value>>(
        &mut self,
        key: &str,
        figure: &Figure<T>,
    ) -> &mut Self {
        let value = match figure {
            Figure::Known(value) => value.clone().into(),
            Figure::Unknown(reason) => {
                self.unknown.insert(key.to_owned(), reason.as_ref().into());
                Value::Null
            }
        };
        self.keys.insert(key.to_owned(), value);
        self
    }

    pub(crate) fn put(&mut self, key: &str, value: Value) {
        self.keys.insert(key.to_owned(), value);
    }

    pub(crate) fn into_value(mut self) -> Value {
        if !self.unknown.is_empty() {
            self.keys
                .insert("unknown".to_owned(), Value::Object(self.unknown));
        }
        Value::Object(self.keys)
    }
}
