//! The small model that a real run trains in a large one's place.

use bace_api::ScaleModel;
use bace_models::{MicroBatchShape, ModelSpec, ScaleError};

use super::error::Fault;
use super::file::ScaleModelFile;
use super::limits;
use super::values::count;

/// Token ids of a scale model: text is trained on as bytes.
const BYTE_TOKENS: u32 = 256;

/// The scale model of `model` that `file` asks for; no larger than what it stands for.
pub(super) fn scale_model(
    file: &ScaleModelFile,
    model: &ModelSpec,
    shape: &MicroBatchShape,
) -> Result<ScaleModel, Fault> {
    let width = count(&file.width, limits::HIDDEN)?;
    let tokens = count(&file.tokens, limits::SEQUENCE)?;
    if u64::from(tokens) > shape.tokens() {
        let message = format!(
            "{tokens} is more than the {} tokens of the job's micro-batch (`micro_batch` x `sequence`)",
            shape.tokens()
        );
        return Err(Fault::at(file.tokens.span(), message));
    }
    let small = model.scaled_to(width, BYTE_TOKENS);
    let small =
        small.map_err(|error: ScaleError| Fault::at(file.width.span(), error.to_string()))?;
    Ok(ScaleModel {
        model: small,
        tokens,
    })
}

#[cfg(test)]
mod tests {
    use bace_api::{Job, ScaleModel};

    use crate::Scenario;

    fn job(keys: &str) -> Result<Job, String> {
        let text = format!(
            r#"
name = "scaled"
[[region]]
name = "east"
gpus = 4
gpu = "h100"
price_usd_per_kwh = 0.1
[[job]]
name = "only"
model = "llama-3.1-8b"
arrival_s = 0
iterations = 3
micro_batches = 2
micro_batch = 4
sequence = 512
{keys}
"#
        );
        let scenario = Scenario::parse(&text, "s.toml", &|_| unreachable!("no file named"));
        let scenario = scenario.map_err(|error| error.to_string())?;
        Ok(scenario.jobs[0].clone())
    }

    #[test]
    fn a_job_is_trained_small_and_stays_what_it_is() {
        let plain = job("").unwrap();
        assert_eq!(
            (&plain.scale_model, plain.trained()),
            (&None, plain.clone())
        );
        let scaled = job("scale_model = { width = 64, tokens = 16 }").unwrap();
        assert_eq!(
            Job {
                scale_model: None,
                ..scaled.clone()
            },
            plain
        );
        let Some(ScaleModel { model, tokens }) = &scaled.scale_model else {
            panic!("no scale model");
        };
        assert_eq!(
            (model.layers, model.hidden, model.vocabulary, *tokens),
            (32, 64, 256, 16)
        );
        let trained = scaled.trained();
        assert_eq!(trained.model, *model);
        assert_eq!(trained.boundary_bytes(), 16 * 64 * 2);
        assert_eq!(
            (trained.iterations, trained.micro_batches),
            (plain.iterations, plain.micro_batches)
        );
        assert_eq!(trained.scale_model, None);
    }

    #[test]
    fn errors_name_the_key_and_what_would_be_right() {
        for (keys, told) in [
            (
                "scale_model = { width = 64, tokens = 2049 }",
                "`job[0].scale_model.tokens`: 2049 is more than the 2048 tokens of the job's micro-batch",
            ),
            (
                "scale_model = { width = 4097, tokens = 16 }",
                "`job[0].scale_model.width`: 4097 is more than the model's own width, 4096",
            ),
            (
                "scale_model = { width = 7, tokens = 16 }",
                "`job[0].scale_model.width`: 7 is too narrow for the 4 query heads that share a key head; use at least 8",
            ),
            (
                "scale_model = { width = 64, tokens = 0 }",
                "`job[0].scale_model.tokens`: 0 is out of range",
            ),
            ("scale_model = { width = 64 }", "missing"),
            (
                "scale_model = { width = 64, tokens = 16, layers = 2 }",
                "`job[0].scale_model.layers`: unknown key",
            ),
        ] {
            let error = job(keys).unwrap_err();
            assert!(error.contains(told), "{keys}: {error}");
        }
    }
}
