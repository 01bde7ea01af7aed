//! `bace scenario` and `bace policies`.

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

/// A scenario's first comment line says what it is.
fn summary(text: &str) -> &str {
    text.lines()
        .next()
        .and_then(|line| line.strip_prefix("# "))
        .unwrap_or_default()
}
