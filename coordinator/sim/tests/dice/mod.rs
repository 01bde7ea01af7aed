//! Random scenarios, as text.

use std::fmt::Write;
use std::sync::Arc;

use bace_engine::Scenario;

/// A scenario of its text.
pub fn parse(text: &str) -> Arc<Scenario> {
    let none = |path: &str| Err(format!("there is no {path}"));
    match Scenario::parse(text, "random.toml", &none) {
        Ok(scenario) => Arc::new(scenario),
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// A small generator of numbers (splitmix64), so that a failing seed fails everywhere.
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// A scenario in which every rule has its chance: GPU types, links that are missing, dead, narrow or changing,
    /// series, jobs too large, ties.
    pub fn scenario(&mut self) -> String {
        let mut text = "name = \"random\"\n".to_owned();
        self.policy(&mut text);
        self.types(&mut text);
        let regions = 1 + self.below(6);
        let alike = self.chance(0.5);
        for region in 0..regions {
            self.region(&mut text, region, alike);
        }
        for a in 0..regions {
            for b in a + 1..regions {
                self.link(&mut text, a, b);
            }
        }
        let jobs = if self.chance(0.1) {
            30
        } else {
            1 + self.below(10)
        };
        for job in 0..jobs {
            self.job(&mut text, job);
        }
        text
    }

    fn policy(&mut self, text: &mut String) {
        let share = self.pick(&[1.0, 1.0, 1.0, 0.5, 0.7]);
        let slack = self.pick(&[0.05, 0.05, 0.0, 0.5]);
        let aging = self.pick(&[0.0, 0.0, 0.3]);
        writeln!(
            text,
            "[policy]\nmin_share = {share}\ntime_slack = {slack}\naging_per_hour = {aging}"
        )
        .unwrap();
    }

    fn types(&mut self, text: &mut String) {
        for name in ["x", "y", "z"] {
            let tflops = self.pick(&[1e-7, 1.5e-7, 2e-7, 4e-7]);
            let memory = self.pick(&[0.0012, 0.002, 0.006, 1.0]);
            let (busy, idle) = (self.pick(&[300, 250]), self.pick(&[22, 0, 60]));
            writeln!(
                text,
                "[gpu.{name}]\npeak_tflops = {tflops}\nmfu = 0.5\nmemory_gb = {memory}\nbusy_w = {busy}\nidle_w = {idle}"
            )
            .unwrap();
        }
        for name in ["m", "n"] {
            let layers = 1 + self.below(9);
            let hidden = self.pick(&[32, 64]);
            let vocabulary = self.pick(&[1, 100, 900]);
            let gated = self.chance(0.5);
            writeln!(
                text,
                "[model.{name}]\nlayers = {layers}\nhidden = {hidden}\nheads = 2\nkv_heads = 1\nhead_size = 32\n\
                 feed_forward = 128\ngated = {gated}\nvocabulary = {vocabulary}"
            )
            .unwrap();
        }
    }

    fn region(&mut self, text: &mut String, region: u64, alike: bool) {
        let gpus = self.below(6);
        let gpu = if alike {
            "x"
        } else {
            self.pick(&["x", "y", "z"])
        };
        writeln!(
            text,
            "[[region]]\nname = \"r{region}\"\ngpus = {gpus}\ngpu = \"{gpu}\""
        )
        .unwrap();
        if self.chance(0.4) {
            let daily = self.chance(0.5);
            let mut from = 0;
            let mut steps = Vec::new();
            for _ in 0..=self.below(4) {
                let price = (self.unit() * 100.0).round() / 100.0;
                steps.push(format!(
                    "{{ from_s = {from}, usd_per_kwh = {price}, daily = {daily} }}"
                ));
                from += 1 + self.below(if daily { 20_000 } else { 300 });
            }
            writeln!(text, "price_usd_per_kwh = [{}]", steps.join(", ")).unwrap();
        } else {
            writeln!(
                text,
                "price_usd_per_kwh = {}",
                self.pick(&[0.1, 0.2, 0.2, 0.295])
            )
            .unwrap();
        }
        if self.chance(0.3) {
            writeln!(text, "pue = {}", 1.0 + self.unit()).unwrap();
        }
        if self.chance(0.3) {
            let gbps = self.pick(&[1e-6, 3e-7, 1e-3]);
            let delay = self.pick(&[0.0, 5.0, 400.0]);
            writeln!(text, "fabric_gbps = {gbps}\nfabric_delay_ms = {delay}").unwrap();
        }
    }

    fn link(&mut self, text: &mut String, a: u64, b: u64) {
        if self.chance(0.12) {
            return;
        }
        let delay = self.pick(&[0.0, 10.0, 80.0, 3000.0]);
        if self.chance(0.15) {
            for (from, to) in [(a, b), (b, a)] {
                let rate = self.rate();
                writeln!(
                    text,
                    "[[link]]\nfrom = \"r{from}\"\nto = \"r{to}\"\nbandwidth_mbps = {rate}\none_way_delay_ms = {delay}"
                )
                .unwrap();
            }
        } else {
            let rate = self.rate();
            writeln!(
                text,
                "[[link]]\nbetween = [\"r{a}\", \"r{b}\"]\nbandwidth_mbps = {rate}\none_way_delay_ms = {delay}"
            )
            .unwrap();
        }
        if self.chance(0.1) {
            let (at, rate) = (self.below(2000), self.rate().max(1e-5));
            writeln!(
                text,
                "[[link_change]]\nat_s = {at}\nbetween = [\"r{a}\", \"r{b}\"]\nbandwidth_mbps = {rate}"
            )
            .unwrap();
            if self.chance(0.5) {
                let delay = self.pick(&[0.0, 20.0, 2000.0]);
                writeln!(text, "one_way_delay_ms = {delay}").unwrap();
            }
        }
    }

    /// Mbit/s around what the jobs send, sometimes far off.
    fn rate(&mut self) -> f64 {
        match self.below(10) {
            0 => 0.0,
            1 => 1e-6,
            2 => 1.0,
            3 => 0.001,
            _ => 10.0_f64.powf(-4.5 + 2.5 * self.unit()),
        }
    }

    fn job(&mut self, text: &mut String, job: u64) {
        let arrival = match self.below(3) {
            0 => 0.0,
            1 => self.below(500) as f64,
            _ => self.unit() * 5000.0,
        };
        let (model, sequence) = (self.pick(&["m", "n"]), self.pick(&[1, 16]));
        let (micro_batches, micro_batch) = (1 + self.below(9), 1 + self.below(3));
        let long = self.chance(0.2);
        let iterations = 1 + self.below(if long { 400 } else { 20 });
        let bytes = self.pick(&[2, 4]);
        writeln!(
            text,
            "[[job]]\nname = \"j{job}\"\nmodel = \"{model}\"\narrival_s = {arrival}\niterations = {iterations}\n\
             micro_batches = {micro_batches}\nmicro_batch = {micro_batch}\nsequence = {sequence}\nbytes_per_element = {bytes}"
        )
        .unwrap();
    }
}
