//! A file's text to a valid scenario.

use std::collections::{BTreeMap, BTreeSet};

use bace_api::Job;
use bace_models::{GpuType, MicroBatchShape, ModelSpec, STATE_BYTES_PER_PARAMETER, catalogue};
use bace_netem::LinkSpec;
use toml::Spanned;

use super::change;
use super::compute;
use super::draw::Draw;
use super::ends::RegionNames;
use super::error::{Fault, ScenarioError, suggestion};
use super::file::{DrawFile, GpuFile, JobFile, ModelFile, PolicyFile, RegionFile, ScenarioFile};
use super::limits;
use super::link::{self, delay_ms, rate_mbps};
use super::network;
use super::scale_model;
use super::types::{PolicySettings, Region, Scenario};
use super::values::{ReadSource, count, name, number, optional, series};

/// Fabric of a region that names none: an ordinary data centre's.
const FABRIC_GBPS: f64 = 100.0;
/// AdamW's step size of a job that names none.
const LEARNING_RATE: f64 = 1e-3;
/// Bytes of an element on the wire of a job that names none.
const BYTES_PER_ELEMENT: u32 = 2;

/// How far shares such as three of 0.3333333 may be from 1 together.
const SHARES_ROUNDING: f64 = 1e-6;

const MBPS_PER_GBPS: f64 = 1e3;
const FLOPS_PER_TFLOPS: f64 = 1e12;
const BYTES_PER_GB: f64 = 1e9;

impl Scenario {
    /// Largest scenario file, and largest file of a series, in bytes: whoever reads one need not read more.
    pub const FILE_BYTES: usize = limits::FILE_BYTES;

    /// Reads a scenario from the `text` of a file that messages call `file_name`.
    ///
    /// `sources` reads a CSV file that a price or carbon series names; its error says why it could not.
    /// The first thing wrong is the error: nothing of a scenario is used before all of it is valid.
    pub fn parse(
        text: &str,
        file_name: &str,
        sources: ReadSource<'_>,
    ) -> Result<Self, ScenarioError> {
        if text.len() > limits::FILE_BYTES {
            let (bytes, most) = (text.len(), limits::FILE_BYTES);
            let message = format!("the file has {bytes} bytes; a scenario has at most {most}");
            return Err(ScenarioError::whole(file_name, message));
        }
        if text.trim().is_empty() {
            let message = "the file is empty; a scenario needs `name`, `[[region]]` and `[[job]]`";
            return Err(ScenarioError::whole(file_name, message));
        }
        toml::from_str(text)
            .map_err(|error| Fault::of_toml(&error))
            .and_then(|file| validate(&file, sources))
            .map_err(|fault| ScenarioError::locate(file_name, text, fault))
    }
}

fn validate(file: &ScenarioFile, sources: ReadSource<'_>) -> Result<Scenario, Fault> {
    let scenario_name = name(&file.name)?;
    let seed = match &file.seed {
        None => 0,
        Some(seed) => u64::try_from(*seed.get_ref()).map_err(|_| {
            let message = format!(
                "{} is negative; a seed is a whole number from 0",
                seed.get_ref()
            );
            Fault::at(seed.span(), message)
        })?,
    };
    let regions = regions(file, sources)?;
    let names = RegionNames(&regions);
    let links = link::links(&file.link, &names)?;
    let link_changes =
        change::link_changes(&file.link, &file.link_change, &names, &links, sources)?;
    let gpu_changes = change::gpu_changes(&file.gpu_change, &names)?;
    let jobs = jobs(file, &regions)?;
    let scenario = Scenario {
        name: scenario_name,
        seed,
        draw: draw(&file.draw)?,
        links,
        jobs,
        policy: policy(&file.policy)?,
        network: network::settings(&file.network)?,
        compute: compute::settings(&file.compute)?,
        link_changes,
        gpu_changes,
        regions,
    };
    Ok(scenario.with_seed(seed))
}

fn regions(file: &ScenarioFile, sources: ReadSource<'_>) -> Result<Vec<Region>, Fault> {
    let mut types = BTreeMap::new();
    for (type_name, gpu) in &file.gpu {
        types.insert(name(type_name)?, gpu_type(gpu)?);
    }
    if file.region.is_empty() {
        return Err(Fault::whole("no region is given; add a `[[region]]`"));
    }
    if file.region.len() > limits::REGIONS {
        let most = limits::REGIONS;
        return Err(Fault::whole(format!(
            "{} regions are given; a scenario has at most {most}",
            file.region.len()
        )));
    }
    let mut seen = BTreeSet::new();
    let mut regions = Vec::new();
    for region in &file.region {
        unique(&mut seen, &region.name, "region")?;
        regions.push(self::region(region, &types, sources)?);
    }
    Ok(regions)
}

fn region(
    file: &RegionFile,
    types: &BTreeMap<String, GpuType>,
    sources: ReadSource<'_>,
) -> Result<Region, Fault> {
    let gbps = optional(&file.fabric_gbps, limits::FABRIC_GBPS)?.unwrap_or(FABRIC_GBPS);
    let fabric_ms = optional(&file.fabric_delay_ms, limits::DELAY_MS)?.unwrap_or(0.0);
    Ok(Region {
        name: name(&file.name)?,
        gpus: count(&file.gpus, limits::GPUS)?,
        gpu_name: file.gpu.get_ref().clone(),
        gpu: find_gpu(&file.gpu, types)?,
        price: series(&file.price_usd_per_kwh, sources)?,
        pue: optional(&file.pue, limits::PUE)?.unwrap_or(1.0),
        carbon: match &file.carbon_g_per_kwh {
            Some(carbon) => Some(series(carbon, sources)?),
            None => None,
        },
        fabric: LinkSpec::new(rate_mbps(gbps * MBPS_PER_GBPS), delay_ms(fabric_ms)),
        host_shares: match &file.host_shares {
            Some(shares) => host_shares(shares)?,
            None => Vec::new(),
        },
    })
}

/// Shares of a region's hosts, which leave nothing of a link out and nothing over.
fn host_shares(file: &Spanned<Vec<Spanned<f64>>>) -> Result<Vec<f64>, Fault> {
    let shares = file.get_ref().iter();
    let shares: Vec<f64> = shares
        .map(|share| number(share, limits::SHARE))
        .collect::<Result<_, _>>()?;
    let sum = shares.iter().fold(0.0, |sum, share| sum + share);
    if (sum - 1.0).abs() > SHARES_ROUNDING {
        let message = format!(
            "the shares sum to {sum}; give one for each host of the region, together 1, such as [0.5, 0.5]"
        );
        return Err(Fault::at(file.span(), message));
    }
    Ok(shares)
}

fn gpu_type(file: &GpuFile) -> Result<GpuType, Fault> {
    let memory_bytes = (number(&file.memory_gb, limits::MEMORY_GB)? * BYTES_PER_GB).round();
    if memory_bytes < 1.0 {
        return Err(Fault::at(file.memory_gb.span(), "is less than one byte"));
    }
    Ok(GpuType {
        flops: number(&file.peak_tflops, limits::TFLOPS)? * FLOPS_PER_TFLOPS,
        mfu: number(&file.mfu, limits::SHARE)?,
        memory_bytes: memory_bytes as u64,
        busy_w: number(&file.busy_w, limits::WATTS)?,
        idle_w: number(&file.idle_w, limits::WATTS)?,
    })
}

fn find_gpu(wanted: &Spanned<String>, types: &BTreeMap<String, GpuType>) -> Result<GpuType, Fault> {
    let name = wanted.get_ref();
    types
        .get(name)
        .cloned()
        .or_else(|| catalogue::gpu(name))
        .ok_or_else(|| {
            let mut known: Vec<&str> = types.keys().map(String::as_str).collect();
            known.extend(catalogue::gpus().map(|(name, _)| name));
            let hint = suggestion(name, &known);
            let message = format!("no GPU type is named `{name}`; {hint} (or add `[gpu.{name}]`)");
            Fault::at(wanted.span(), message)
        })
}

fn jobs(file: &ScenarioFile, regions: &[Region]) -> Result<Vec<Job>, Fault> {
    let mut models = BTreeMap::new();
    for (model_name, model) in &file.model {
        models.insert(name(model_name)?, model_spec(model)?);
    }
    if file.job.is_empty() {
        return Err(Fault::whole("no job is given; add a `[[job]]`"));
    }
    if file.job.len() > limits::JOBS {
        let most = limits::JOBS;
        return Err(Fault::whole(format!(
            "{} jobs are given; a scenario has at most {most}",
            file.job.len()
        )));
    }
    let mut seen = BTreeSet::new();
    let mut jobs = Vec::new();
    for job in &file.job {
        unique(&mut seen, &job.name, "job")?;
        let model = find_model(&job.model, &models)?;
        fits_some_gpu(&model, &job.model, regions)?;
        jobs.push(self::job(job, model)?);
    }
    Ok(jobs)
}

fn job(file: &JobFile, model: ModelSpec) -> Result<Job, Fault> {
    let bytes_per_element = match &file.bytes_per_element {
        None => BYTES_PER_ELEMENT,
        Some(bytes) => count(bytes, limits::BYTES_PER_ELEMENT)?,
    };
    let shape = MicroBatchShape {
        sequences: count(&file.micro_batch, limits::MICRO_BATCH)?,
        sequence: count(&file.sequence, limits::SEQUENCE)?,
        bytes_per_element,
    };
    let scale_model = file.scale_model.as_ref();
    let scale_model = scale_model.map(|scale| scale_model::scale_model(scale, &model, &shape));
    Ok(Job {
        name: name(&file.name)?,
        model_name: file.model.get_ref().clone(),
        scale_model: scale_model.transpose()?,
        model,
        arrival_s: number(&file.arrival_s, limits::SECONDS)?,
        iterations: count(&file.iterations, limits::ITERATIONS)?,
        micro_batches: count(&file.micro_batches, limits::MICRO_BATCHES)?,
        shape,
        schedule: file.schedule,
        learning_rate: match &file.learning_rate {
            Some(rate) => number(rate, limits::LEARNING_RATE)?,
            None => LEARNING_RATE,
        },
    })
}

fn model_spec(file: &Spanned<ModelFile>) -> Result<ModelSpec, Fault> {
    let span = file.span();
    let file = file.get_ref();
    let heads = count(&file.heads, limits::HEADS)?;
    let hidden = count(&file.hidden, limits::HIDDEN)?;
    let head_size = match &file.head_size {
        Some(size) => count(size, limits::HEAD_SIZE)?,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let message =
                format!("{heads} heads do not divide `hidden` = {hidden}; give `head_size`");
            return Err(Fault::at(file.heads.span(), message));
        }
    };
    let spec = ModelSpec {
        layers: count(&file.layers, limits::LAYERS)?,
        hidden,
        heads,
        kv_heads: match &file.kv_heads {
            Some(heads) => count(heads, limits::HEADS)?,
            None => heads,
        },
        head_size,
        feed_forward: count(&file.feed_forward, limits::FEED_FORWARD)?,
        gated: file.gated,
        vocabulary: count(&file.vocabulary, limits::VOCABULARY)?,
    };
    spec.validate()
        .map_err(|error| Fault::at(span, error.to_string()))?;
    Ok(spec)
}

fn find_model(
    wanted: &Spanned<String>,
    models: &BTreeMap<String, ModelSpec>,
) -> Result<ModelSpec, Fault> {
    let name = wanted.get_ref();
    models
        .get(name)
        .cloned()
        .or_else(|| catalogue::model(name))
        .ok_or_else(|| {
            let mut known: Vec<&str> = models.keys().map(String::as_str).collect();
            known.extend(catalogue::models().map(|(name, _)| name));
            let hint = suggestion(name, &known);
            let message = format!("no model is named `{name}`; {hint} (or add `[model.{name}]`)");
            Fault::at(wanted.span(), message)
        })
}

/// Refuses a model of which not even one layer fits into the largest GPU.
///
/// That is a slip in the file, since no number of GPUs would help. A model that fits but finds too few GPUs or
/// layers is left to the engine, which refuses the job at submission and runs the others.
fn fits_some_gpu(
    model: &ModelSpec,
    wanted: &Spanned<String>,
    regions: &[Region],
) -> Result<(), Fault> {
    let layer_bytes = STATE_BYTES_PER_PARAMETER * model.layer_parameters();
    let largest = regions
        .iter()
        .max_by_key(|region| region.gpu.memory_bytes)
        .filter(|region| region.gpu.memory_bytes < layer_bytes);
    match largest {
        None => Ok(()),
        Some(region) => {
            let message = format!(
                "training one layer of `{}` takes {:.3} GB, and the largest GPU, `{}`, has {:.3} GB; \
                 use a smaller model or raise `memory_gb`",
                wanted.get_ref(),
                layer_bytes as f64 / BYTES_PER_GB,
                region.gpu_name,
                region.gpu.memory_bytes as f64 / BYTES_PER_GB,
            );
            Err(Fault::at(wanted.span(), message))
        }
    }
}

fn draw(file: &DrawFile) -> Result<Draw, Fault> {
    let mut drawn = Draw::default();
    if let Some(gap_s) = &file.arrival_gap_s {
        drawn.arrival_gap_s = Some(number(gap_s, limits::SECONDS)?);
    }
    if let Some(tokens) = &file.tokens {
        if tokens.get_ref().is_empty() {
            let message = "no number is given; leave the key out, or name numbers to draw from";
            return Err(Fault::at(tokens.span(), message));
        }
        for count in tokens.get_ref() {
            let known = u64::try_from(*count.get_ref()).ok();
            let known = known.filter(|&tokens| (1..1 << 53).contains(&tokens));
            drawn.tokens.push(known.ok_or_else(|| {
                let message = format!(
                    "{} is out of range; it has to be a whole number of tokens from 1",
                    count.get_ref()
                );
                Fault::at(count.span(), message)
            })?);
        }
    }
    Ok(drawn)
}

fn policy(file: &PolicyFile) -> Result<PolicySettings, Fault> {
    let default = PolicySettings::default();
    let knob = |value, range, default| Ok(optional(value, range)?.unwrap_or(default));
    Ok(PolicySettings {
        min_share: knob(&file.min_share, limits::SHARE, default.min_share)?,
        time_slack: knob(&file.time_slack, limits::KNOB, default.time_slack)?,
        aging_per_hour: knob(&file.aging_per_hour, limits::KNOB, default.aging_per_hour)?,
    })
}

fn unique<'a>(
    seen: &mut BTreeSet<&'a str>,
    name: &'a Spanned<String>,
    kind: &str,
) -> Result<(), Fault> {
    if seen.insert(name.get_ref()) {
        return Ok(());
    }
    let message = format!(
        "two {kind}s are named `{}`; every {kind} needs a name of its own",
        name.get_ref()
    );
    Err(Fault::at(name.span(), message))
}
