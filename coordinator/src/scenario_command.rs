//! `bace scenario` and `bace policies`.

use std::collections::BTreeMap;

use bace_engine::Scenario;
use bace_netem::{Accounting, Delay, Jitter, LinkId, LinkSpec, LossModel, RegionId, Sharing};

use crate::cli::ScenarioCommand;
use crate::generate;
use crate::output::say;
use crate::scenarios::{self, BUILT_IN};
use crate::wrong_input::WrongInput;

/// Lists, prints or checks scenarios.
pub fn scenario(command: &ScenarioCommand) -> anyhow::Result<bool> {
    match command {
        ScenarioCommand::List => {
            for (name, text) in BUILT_IN {
                say!("{name:<16} {}", summary(text));
            }
        }
        ScenarioCommand::Show { name } => {
            let text = scenarios::built_in(name).ok_or_else(|| {
                let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
                WrongInput::error(format!(
                    "find a built-in scenario `{name}`: there are {}",
                    names.join(", ")
                ))
            })?;
            crate::output::print(format_args!("{text}"));
        }
        ScenarioCommand::Generate(args) => print!("{}", generate::generate(args)?),
        ScenarioCommand::Check { scenario } => {
            let loaded = scenarios::load(scenario, None)?;
            let scenario = &loaded.scenario;
            say!(
                "{}: valid; {} regions, {} GPUs, {} directed links, {} jobs",
                scenario.name,
                scenario.regions.len(),
                scenario
                    .regions
                    .iter()
                    .map(|region| u64::from(region.gpus))
                    .sum::<u64>(),
                scenario.links.len(),
                scenario.jobs.len()
            );
            for line in rough_links(scenario) {
                say!("  {line}");
            }
        }
    }
    Ok(true)
}

/// Lists the policies.
pub fn policies() -> bool {
    for policy in bace_engine::policies() {
        say!("{:<14} {}", policy.name, policy.summary);
    }
    true
}

/// A line for each directed link that is more than a rate and a delay, or does not stay as it is.
fn rough_links(scenario: &Scenario) -> Vec<String> {
    let mut changes: BTreeMap<LinkId, Vec<f64>> = BTreeMap::new();
    for change in &scenario.link_changes {
        changes.entry(change.link).or_default().push(change.at_s);
    }
    let name = |region: RegionId| &scenario.regions[region.index()].name;
    let lines = scenario.links.iter().filter_map(|(link, spec)| {
        let mut parts = impairments(spec);
        match changes.get(link).map(Vec::as_slice) {
            None | Some([]) => {}
            Some([at_s]) => parts.push(format!("changes at {at_s} s")),
            Some([first_s, .., last_s]) => parts.push(format!(
                "changes {} times from {first_s} s to {last_s} s",
                changes[link].len()
            )),
        }
        (!parts.is_empty()).then(|| {
            format!(
                "{} → {}: {} Mbit/s, {} ms; {}",
                name(link.from),
                name(link.to),
                plain(spec.rate.bps() / 1e6),
                plain(spec.delay.seconds() * 1e3),
                parts.join("; ")
            )
        })
    });
    lines.collect()
}

/// What a link does besides its rate and delay, in words.
fn impairments(spec: &LinkSpec) -> Vec<String> {
    let ms = |delay: Delay| plain(delay.seconds() * 1e3);
    let jitter = match spec.jitter {
        Jitter::None => None,
        Jitter::Uniform(most) => Some(format!("jitter uniform up to {} ms", ms(most))),
        Jitter::Normal(deviation) => Some(format!("jitter normal of {} ms", ms(deviation))),
    };
    let model = match spec.loss.model {
        LossModel::Goodput => "goodput",
        LossModel::Mathis => "mathis",
    };
    let loss = (spec.loss.share > 0.0).then(|| format!("loss {} ({model})", spec.loss.share));
    let accounting = match spec.accounting {
        Accounting::Payload => None,
        Accounting::Ip => Some("counts IP packets".to_owned()),
        Accounting::Ethernet => Some("counts Ethernet frames".to_owned()),
    };
    let sharing = (spec.sharing == Sharing::PerFlow).then(|| "shared by flow".to_owned());
    let burst = spec.burst.map(|burst| {
        let (mb, mbps) = (burst.bytes as f64 / 1e6, burst.sustained.bps() / 1e6);
        format!("{} MB of credit, then {} Mbit/s", plain(mb), plain(mbps))
    });
    let queue = spec
        .queue_bytes
        .map(|bytes| format!("queue of {} kB", plain(bytes as f64 / 1e3)));
    let parts = [jitter, loss, accounting, sharing, burst, queue];
    parts.into_iter().flatten().collect()
}

/// A number without the noise of its conversion.
fn plain(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

/// A scenario's first comment line says what it is.
fn summary(text: &str) -> &str {
    text.lines()
        .next()
        .and_then(|line| line.strip_prefix("# "))
        .unwrap_or_default()
}
