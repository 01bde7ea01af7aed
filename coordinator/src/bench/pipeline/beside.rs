//! Another program's pipeline, trained in turn with our own.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::measured::PipelineRun;
use super::size::{SEED, Size, WARM_UP};

/// Mean losses of both may be apart by this factor: they begin with unlike weights and see unlike batches of one text.
const LOSS_FACTOR: f64 = 1.3;
/// The worker's knobs of AdamW, which no scenario changes.
const ADAMW: [(&str, f64); 5] = [
    ("learning_rate", 1e-3),
    ("beta1", 0.9),
    ("beta2", 0.95),
    ("epsilon", 1e-8),
    ("weight_decay", 0.1),
];

/// What the other program has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BesideRun {
    /// What it ran on, such as its version of torch.
    pub torch: String,
    /// Parameters over all stages.
    pub parameters: u64,
    /// Loss of each iteration, those of the warm-up too, nats a token.
    pub losses: Vec<f64>,
    /// When each iteration ended at the first stage, its step included; seconds of a clock of its own.
    pub ends_s: Vec<f64>,
}

/// What the other program is to train.
#[derive(Debug)]
pub struct BesideTask<'a> {
    /// The program and its arguments.
    pub words: &'a [OsString],
    /// Model and batch.
    pub size: &'a Size,
    /// Layers of each stage.
    pub layers: &'a [u32],
    /// Iterations, those of the warm-up too.
    pub iterations: u32,
    /// `cpu` or `cuda`.
    pub device: &'static str,
    /// Text to train on; absent for the sources of its own torch.
    pub text: Option<&'a Path>,
}

impl BesideTask<'_> {
    /// Runs the program: the task goes to its standard input, the result comes from its standard output.
    pub fn run(&self) -> anyhow::Result<BesideRun> {
        let (program, arguments) = self
            .words
            .split_first()
            .context("run the peer: no program")?;
        let name = program.to_string_lossy();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start the peer {name}"))?;
        let mut input = child.stdin.take().expect("standard input is a pipe");
        // One that does not read its task ends, and its status tells.
        let _ = writeln!(input, "{}", self.json());
        drop(input);
        let output = child.wait_with_output();
        let output = output.with_context(|| format!("wait for the peer {name}"))?;
        if !output.status.success() {
            bail!("run the peer {name}: it ended with {}", output.status);
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let result = said.lines().last().unwrap_or_default();
        serde_json::from_str(result)
            .with_context(|| format!("understand the peer, which said {said}"))
    }

    fn json(&self) -> serde_json::Value {
        let Size { model, shape, .. } = self.size;
        let mut task = json!({
            "model": model,
            "stage_layers": self.layers,
            "sequences": shape.sequences,
            "tokens": shape.sequence,
            "micro_batches": self.size.micro_batches,
            "iterations": self.iterations,
            "seed": SEED,
            "device": self.device,
            "text": self.text,
        });
        for (key, value) in ADAMW {
            task[key] = value.into();
        }
        task
    }
}

impl BesideRun {
    /// Tokens a second after the warm-up, of `tokens` an iteration.
    pub fn tokens_per_s(&self, tokens: u64) -> anyhow::Result<f64> {
        let begin = self.ends_s.get(WARM_UP as usize - 1);
        let measured = self.ends_s.len().saturating_sub(WARM_UP as usize);
        match (begin, self.ends_s.last()) {
            (Some(begin), Some(end)) if end > begin => {
                Ok(tokens as f64 * measured as f64 / (end - begin))
            }
            _ => bail!(
                "measure the peer: it ended {} iterations, of which {WARM_UP} warm it up",
                self.ends_s.len()
            ),
        }
    }

    /// Refuses to compare it with a pipeline that trains another model.
    pub fn check_alike(&self, ours: &PipelineRun) -> anyhow::Result<()> {
        if self.parameters != ours.parameters {
            bail!(
                "compare with the peer: its model has {} parameters, ours {}",
                self.parameters,
                ours.parameters
            );
        }
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let (theirs, own) = (mean(&self.losses), mean(&ours.losses));
        let factor = theirs / own;
        // Nothing is like a loss that is no number.
        if !(LOSS_FACTOR.recip()..=LOSS_FACTOR).contains(&factor) {
            bail!(
                "compare with the peer: its mean loss is {theirs:.3}, ours {own:.3}; they do not train alike"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::BenchModel;

    fn theirs() -> BesideRun {
        BesideRun {
            torch: "2.13.0".to_owned(),
            parameters: 77,
            losses: vec![6.0, 4.0],
            ends_s: vec![100.0, 104.0, 110.0],
        }
    }

    fn ours() -> PipelineRun {
        PipelineRun {
            layers: vec![1, 1],
            parameters: 77,
            losses: vec![5.0, 5.5],
            iterations: Vec::new(),
            tokens_per_s: 30.0,
            workers: Vec::new(),
        }
    }

    #[test]
    fn its_speed_leaves_the_warm_up_out() {
        // Two iterations of 50 tokens in 10 s.
        assert_eq!(theirs().tokens_per_s(50).unwrap(), 10.0);
        let mut short = theirs();
        short.ends_s.truncate(1);
        let error = short.tokens_per_s(50).unwrap_err().to_string();
        assert!(error.contains("it ended 1 iterations"), "{error}");
    }

    #[test]
    fn another_model_is_not_compared() {
        theirs().check_alike(&ours()).unwrap();
        let refused = |change: &dyn Fn(&mut BesideRun)| {
            let mut run = theirs();
            change(&mut run);
            run.check_alike(&ours()).unwrap_err().to_string()
        };
        let error = refused(&|run| run.parameters = 78);
        assert_eq!(
            error,
            "compare with the peer: its model has 78 parameters, ours 77"
        );
        for losses in [vec![9.0], vec![f64::NAN], vec![]] {
            let error = refused(&|run| run.losses.clone_from(&losses));
            assert!(error.contains("do not train alike"), "{error}");
        }
    }

    #[test]
    fn a_peer_is_told_its_task_and_its_failure_is_told() {
        let size = Size::of(BenchModel::Tiny);
        let words = |script: &str| ["sh", "-c", script].map(OsString::from).to_vec();
        let run = |words: &[OsString]| {
            BesideTask {
                words,
                size: &size,
                layers: &[1, 1],
                iterations: 4,
                device: "cpu",
                text: None,
            }
            .run()
        };
        let echo = r#"read task; case $task in *'"iterations":4'*) echo noise
            echo '{"torch":"x","parameters":1,"losses":[2.5],"ends_s":[1.0]}';; esac"#;
        assert_eq!(run(&words(echo)).unwrap().losses, [2.5]);
        let failed = run(&words("exit 3")).unwrap_err().to_string();
        assert!(failed.contains("ended with exit status: 3"), "{failed}");
        let error = run(&words("echo what")).unwrap_err().to_string();
        assert!(error.starts_with("understand the peer"), "{error}");
    }
}
