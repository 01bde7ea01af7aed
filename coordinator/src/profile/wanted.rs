//! What a command line asks to measure.

use std::fmt;

use bace_models::{LayerShape, MicroBatchShape, ProfileKey, catalogue};

use crate::cli::ProfileArgs;
use crate::scenarios;
use crate::wrong_input::WrongInput;

/// Without a scenario.
const SEQUENCE: u32 = 128;
const BYTES_PER_ELEMENT: u32 = 2;
/// Element sizes that can cross a boundary for real: bf16 and fp32.
const ELEMENT_SIZES: [u32; 2] = [2, 4];
/// Token ids that bytes need: text is fed in bytes.
const BYTE_TOKENS: u32 = 256;

/// An entry to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What it is.
    pub key: ProfileKey,
    /// Names of the model.
    pub models: Vec<String>,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = &self.key.shape;
        write!(
            f,
            "{}, micro-batches of {} x {} tokens, {} bytes an element at boundaries",
            self.models.join(", "),
            shape.sequences,
            shape.sequence,
            shape.bytes_per_element
        )
    }
}

/// The entries that `args` ask for, each once, in the order of a file.
pub fn wanted(args: &ProfileArgs) -> anyhow::Result<Vec<Wanted>> {
    let mut all: Vec<Wanted> = Vec::new();
    for (name, key) in keys(args)? {
        if !ELEMENT_SIZES.contains(&key.shape.bytes_per_element) {
            return Err(WrongInput::error(format!(
                "measure model `{name}`: `bytes_per_element` = {} can only be simulated; use --bytes-per-element 2 or 4",
                key.shape.bytes_per_element
            )));
        }
        if key.model.vocabulary < BYTE_TOKENS {
            return Err(WrongInput::error(format!(
                "measure model `{name}`: `vocabulary` = {} is too small; tokens are bytes and need at least {BYTE_TOKENS}",
                key.model.vocabulary
            )));
        }
        match all.iter_mut().find(|wanted| wanted.key == key) {
            Some(known) if known.models.contains(&name) => {}
            Some(known) => known.models.push(name),
            None => all.push(Wanted {
                key,
                models: vec![name],
            }),
        }
    }
    all.sort_by_key(|wanted| wanted.key);
    Ok(all)
}

/// Models by name with the shapes asked for; the same may come more than once.
fn keys(args: &ProfileArgs) -> anyhow::Result<Vec<(String, ProfileKey)>> {
    let usual = MicroBatchShape {
        sequences: 1,
        sequence: SEQUENCE,
        bytes_per_element: BYTES_PER_ELEMENT,
    };
    let found: Vec<(String, LayerShape, MicroBatchShape)> = match &args.scenario {
        None => {
            let models = args.model.iter();
            let models = models.map(|name| Ok((name.clone(), built_in(name)?, usual)));
            models.collect::<anyhow::Result<_>>()?
        }
        Some(scenario) => of_scenario(scenario, args)?,
    };
    let varied = found.into_iter().flat_map(|(name, model, shape)| {
        let shape = MicroBatchShape {
            sequence: args.sequence.unwrap_or(shape.sequence),
            bytes_per_element: args.bytes_per_element.unwrap_or(shape.bytes_per_element),
            ..shape
        };
        let sizes = if args.micro_batch.is_empty() {
            vec![shape.sequences]
        } else {
            args.micro_batch.clone()
        };
        sizes.into_iter().map(move |sequences| {
            let shape = MicroBatchShape { sequences, ..shape };
            (name.clone(), ProfileKey { model, shape })
        })
    });
    Ok(varied.collect())
}

fn of_scenario(
    scenario: &str,
    args: &ProfileArgs,
) -> anyhow::Result<Vec<(String, LayerShape, MicroBatchShape)>> {
    let loaded = scenarios::load(scenario, args.seed)?;
    let jobs = &loaded.scenario.jobs;
    if let Some(unknown) = args
        .model
        .iter()
        .find(|name| !jobs.iter().any(|job| job.model_name == **name))
    {
        return Err(WrongInput::error(format!(
            "measure the model `{unknown}`: no job of {scenario} trains it"
        )));
    }
    let asked = jobs
        .iter()
        .filter(|job| args.model.is_empty() || args.model.contains(&job.model_name));
    let found = asked.map(|job| {
        (
            job.model_name.clone(),
            LayerShape::from(&job.model),
            job.shape,
        )
    });
    Ok(found.collect())
}

fn built_in(name: &str) -> anyhow::Result<LayerShape> {
    let model = catalogue::model(name).ok_or_else(|| {
        let names: Vec<&str> = catalogue::models().map(|(name, _)| name).collect();
        WrongInput::error(format!(
            "measure the model `{name}`: without a scenario it has to be a built-in one ({})",
            names.join(", ")
        ))
    })?;
    Ok(LayerShape::from(&model))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(arguments: &[&str]) -> anyhow::Result<Vec<Wanted>> {
        let words = ["bace", "profile"].iter().chain(arguments);
        match Cli::try_parse_from(words)?.command {
            Command::Profile(args) => wanted(&args),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_scenario_asks_for_what_its_jobs_need_once() {
        let all = asked(&["three-regions"]).unwrap();
        let loaded = scenarios::load("three-regions", None).unwrap();
        for job in &loaded.scenario.jobs {
            let key = ProfileKey::of(&job.model, &job.shape);
            assert_eq!(all.iter().filter(|wanted| wanted.key == key).count(), 1);
        }
        assert!(all.len() < loaded.scenario.jobs.len(), "{all:?}");
    }

    #[test]
    fn models_and_sizes_multiply() {
        let sizes = [
            "--model",
            "gpt2",
            "--model",
            "gpt2-xl",
            "--micro-batch",
            "1,2,4",
        ];
        let all = asked(&sizes).unwrap();
        assert_eq!(all.len(), 6);
        assert!(
            all.iter()
                .all(|wanted| wanted.key.shape.sequence == SEQUENCE)
        );
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let told = |arguments: &[&str]| asked(arguments).unwrap_err().to_string();
        assert!(told(&["--model", "gpt-9"]).contains("built-in one (gpt2"));
        assert!(told(&["three-regions", "--model", "gpt2"]).contains("no job of three-regions"));
        assert!(told(&["--model", "gpt2", "--bytes-per-element", "3"]).contains("2 or 4"));
        assert!(asked(&[]).is_err());
    }
}
