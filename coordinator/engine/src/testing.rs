//! A small world whose figures can be worked out by hand.
//!
//! The model `seven` has 7 layers that take 1 s each (forward and backward) and a head of 0.0026 s; a tensor
//! over a boundary has 1024 bits. With M = 4 its stage times and (M + K − 1)·t are:
//! K = 1: 7.0026, 28.0 · K = 2: 4, 20 · K = 3: 3, 18 · K = 4: 2, 14 · K = 5: 2, 16 · K = 6: 2, 18 · K = 7: 1.0026, 10.03.

use std::fmt::Write;
use std::sync::Arc;

use bace_api::{JobId, Record};

use crate::{Command, Engine, Input, Scenario, Start, policy_by_name};

/// Regions, links and jobs, written as a scenario.
#[derive(Debug, Clone)]
pub(crate) struct World {
    text: String,
    jobs: u32,
}

impl World {
    pub fn new() -> Self {
        let text = r#"
            name = "by hand"
            [gpu.unit]
            peak_tflops = 1.4784e-7
            mfu = 1.0
            memory_gb = 48
            busy_w = 300
            idle_w = 100
            [gpu.small]
            peak_tflops = 1.4784e-7
            mfu = 1.0
            memory_gb = 0.001
            busy_w = 300
            idle_w = 100
            [gpu.half]
            peak_tflops = 0.7392e-7
            mfu = 1.0
            memory_gb = 48
            busy_w = 300
            idle_w = 100
            [model.seven]
            layers = 7
            hidden = 64
            heads = 1
            kv_heads = 1
            head_size = 64
            feed_forward = 64
            gated = false
            vocabulary = 1
        "#;
        Self {
            text: text.to_owned(),
            jobs: 0,
        }
    }

    /// A region of `gpus` GPUs of type `gpu` at `price` $/kWh.
    pub fn region(mut self, name: &str, gpus: u32, gpu: &str, price: f64) -> Self {
        let written = writeln!(
            self.text,
            "[[region]]\nname = \"{name}\"\ngpus = {gpus}\ngpu = \"{gpu}\"\nprice_usd_per_kwh = {price}"
        );
        written.expect("strings take all text");
        self
    }

    /// A link of `bps` bit/s and 0.5 s, both directions.
    pub fn link(mut self, a: &str, b: &str, bps: f64) -> Self {
        let mbps = bps / 1e6;
        let written = writeln!(
            self.text,
            "[[link]]\nbetween = [\"{a}\", \"{b}\"]\nbandwidth_mbps = {mbps}\none_way_delay_ms = 500"
        );
        written.expect("strings take all text");
        self
    }

    /// A job of `seven` with M = 4.
    pub fn job(self, name: &str, arrival_s: f64, iterations: u32) -> Self {
        self.job_of(name, arrival_s, iterations, 4)
    }

    /// A job of `seven` with this M.
    pub fn job_of(
        mut self,
        name: &str,
        arrival_s: f64,
        iterations: u32,
        micro_batches: u32,
    ) -> Self {
        self.jobs += 1;
        let written = writeln!(
            self.text,
            "[[job]]\nname = \"{name}\"\nmodel = \"seven\"\narrival_s = {arrival_s}\niterations = {iterations}\n\
             micro_batches = {micro_batches}\nmicro_batch = 1\nsequence = 1\nbytes_per_element = 2"
        );
        written.expect("strings take all text");
        self
    }

    /// More lines of the file.
    pub fn and(mut self, lines: &str) -> Self {
        self.text.push_str(lines);
        self.text.push('\n');
        self
    }

    pub fn scenario(&self) -> Arc<Scenario> {
        let none = |path: &str| Err(format!("there is no {path}"));
        Arc::new(Scenario::parse(&self.text, "by-hand.toml", &none).unwrap())
    }

    /// An engine that was told of all jobs at 0 s and has settled.
    pub fn settled(&self, policy: &str) -> Engine {
        let mut engine = Engine::new(self.scenario(), policy_by_name(policy).unwrap());
        for job in 0..self.jobs {
            engine.handle(0.0, Input::Submitted(JobId(job)));
        }
        engine.settle(0.0);
        engine
    }
}

/// The jobs started since the last call, with their paths: `a: eu 2, us 1`.
pub(crate) fn starts(engine: &mut Engine) -> Vec<String> {
    let scenario = engine.scenario().clone();
    let mut lines = Vec::new();
    for start in start_commands(engine) {
        let path = start.placement.path.iter().map(|part| {
            let name = &scenario.regions[part.region.index()].name;
            format!("{name} {}", part.gpus)
        });
        let path: Vec<String> = path.collect();
        let name = &scenario.jobs[start.job.index()].name;
        lines.push(format!("{name}: {}", path.join(", ")));
    }
    lines
}

/// The start commands since the last call.
pub(crate) fn start_commands(engine: &mut Engine) -> Vec<Start> {
    std::iter::from_fn(|| engine.poll_command())
        .filter_map(|command| match command {
            Command::Start(start) => Some(*start),
            _ => None,
        })
        .collect()
}

/// The records since the last call.
pub(crate) fn records(engine: &mut Engine) -> Vec<Record> {
    std::iter::from_fn(|| engine.poll_record()).collect()
}
