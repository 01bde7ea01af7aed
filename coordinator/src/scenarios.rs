//! Scenarios by file or by name.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bace_api::{ClockKind, ComputeRung, Header, HeaderLink, NetworkRung, ProfileUse, Receipts};
use bace_engine::Scenario;

use crate::wrong_input::{OrWrongInput, WrongInput};

/// The scenarios that come with the program: name, text.
pub const BUILT_IN: &[(&str, &str)] = &[
    (
        "three-regions",
        include_str!("../scenarios/three-regions.toml"),
    ),
    ("rough-links", include_str!("../scenarios/rough-links.toml")),
    ("paper", include_str!("../scenarios/paper.toml")),
    ("paper-scale", include_str!("../scenarios/paper-scale.toml")),
];

/// A scenario as read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The file's text, byte for byte.
    pub text: String,
    /// What it says; seed and time scale may have been given on the command line.
    pub scenario: Arc<Scenario>,
    /// blake3 of each file that it reads, hexadecimal, by the name it has there.
    pub sources: BTreeMap<String, String>,
}

/// What a ledger's header says beyond its scenario.
#[derive(Debug, Clone)]
pub struct RunKind {
    /// The policy that decides.
    pub policy: String,
    /// Start of the run, UTC, RFC 3339; absent in simulations.
    pub started: Option<String>,
    /// Whose seconds.
    pub clock: ClockKind,
    /// Who takes the time of compute.
    pub compute: ComputeRung,
    /// Who takes the time of transfers.
    pub network: NetworkRung,
    /// Whether links are measured; absent in simulations.
    pub receipts: Option<Receipts>,
    /// Iteration model of a simulation.
    pub iteration_model: Option<String>,
    /// What all GPUs' times of compute were measured as, where they were.
    pub profile: Option<ProfileUse>,
}

impl Loaded {
    /// blake3 of the file, hexadecimal.
    pub fn hash(&self) -> String {
        blake3::hash(self.text.as_bytes()).to_hex().to_string()
    }

    /// The header of a run's ledger.
    pub fn header(&self, kind: RunKind) -> Header {
        let scenario = &self.scenario;
        Header {
            format: bace_api::FORMAT_VERSION,
            scenario: scenario.name.clone(),
            scenario_hash: self.hash(),
            sources: self.sources.clone(),
            policy: kind.policy,
            seed: scenario.seed,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: crate::machine::describe(),
            started: kind.started,
            clock: kind.clock,
            compute: kind.compute,
            network: kind.network,
            iteration_model: kind.iteration_model,
            receipts: kind.receipts,
            late_share: (kind.clock == ClockKind::Wall).then_some(scenario.network.late_share),
            time_scale: (kind.clock == ClockKind::Wall)
                .then_some(scenario.compute.time_scale.get())
                .filter(|&scale| scale != 1.0),
            overrun_share: (kind.clock == ClockKind::Wall && kind.compute != ComputeRung::Native)
                .then_some(scenario.compute.overrun_share),
            regions: scenario
                .regions
                .iter()
                .map(|region| region.name.clone())
                .collect(),
            gpus: scenario.regions.iter().map(|region| region.gpus).collect(),
            links: scenario
                .links
                .iter()
                .map(|(link, spec)| HeaderLink {
                    from: scenario.regions[link.from.index()].name.clone(),
                    to: scenario.regions[link.to.index()].name.clone(),
                    bandwidth_bps: spec.rate.bps(),
                    one_way_delay_s: Some(spec.delay.seconds()),
                })
                .collect(),
            profile: kind.profile.map(Box::new),
            jobs: scenario.jobs.iter().map(|job| job.name.clone()).collect(),
            scale_models: scenario
                .jobs
                .iter()
                .filter(|job| kind.clock == ClockKind::Wall && job.scale_model.is_some())
                .map(|job| job.name.clone())
                .collect(),
        }
    }
}

/// The text of a built-in scenario.
pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

/// Reads and checks a scenario: a built-in one by its name, else a file.
pub fn load(name_or_path: &str, seed: Option<u64>) -> anyhow::Result<Loaded> {
    let (text, file_name, folder) = match built_in(name_or_path) {
        Some(text) => (text.to_owned(), format!("built-in {name_or_path}"), None),
        None => {
            let path = Path::new(name_or_path);
            (read(path)?, name_or_path.to_owned(), path.parent())
        }
    };
    let sources = RefCell::new(BTreeMap::new());
    let read_source = |name: &str| {
        let path = folder.unwrap_or(Path::new("")).join(name);
        let told = |reason: String| format!("{}: {reason}", path.display());
        let bytes = read_bounded(&path).map_err(|error| told(error.to_string()))?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        sources.borrow_mut().insert(name.to_owned(), hash);
        text_of(bytes).map_err(told)
    };
    let mut scenario = Scenario::parse(&text, &file_name, &read_source).or_wrong_input()?;
    if let Some(seed) = seed {
        scenario = scenario.with_seed(seed);
    }
    Ok(Loaded {
        text,
        scenario: Arc::new(scenario),
        sources: sources.into_inner(),
    })
}

/// Files that the scenario in `path` reads and that are not beside it, each once.
///
/// # Errors
/// If `path` cannot be read or is no TOML.
pub fn missing_files(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = read(path)?;
    let table: toml::Table = toml::from_str(&text)
        .with_context(|| format!("read {}", path.display()))
        .or_wrong_input()?;
    let mut named = BTreeSet::new();
    table
        .values()
        .for_each(|value| name_files(value, &mut named));
    let folder = path.parent().unwrap_or(Path::new(""));
    named.retain(|name| !folder.join(name).exists());
    Ok(named.into_iter().collect())
}

/// The values of all keys `csv`, the only one that names files.
fn name_files(value: &toml::Value, named: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                match value.as_str() {
                    Some(file) if key == "csv" => drop(named.insert(file.to_owned())),
                    _ => name_files(value, named),
                }
            }
        }
        toml::Value::Array(values) => values.iter().for_each(|value| name_files(value, named)),
        _ => {}
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = read_bounded(path)
        .with_context(|| {
            let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            format!(
                "read the scenario {}: neither a file nor a built-in scenario ({})",
                path.display(),
                names.join(", ")
            )
        })
        .or_wrong_input()?;
    text_of(bytes).map_err(|reason| WrongInput::error(format!("read {}: {reason}", path.display())))
}

/// Reads a file up to one byte beyond what the parser takes: a device's size says nothing of what it holds.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = Scenario::FILE_BYTES as u64;
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a file that was read to its end; else what is wrong with it.
fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    // Before anything else, since the cut may go through a character.
    if bytes.len() > Scenario::FILE_BYTES {
        let most = Scenario::FILE_BYTES >> 20;
        return Err(format!(
            "it is larger than the {most} MiB that a scenario or a series may have"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("byte {at} is not UTF-8 text")
    })
}
