//! `profiles/*.toml`: what was measured on a device, as people read it and as programs read it back.

use bace_api::{BoardState, TimesReply};
use bace_models::{
    DeviceKind, DeviceProfile, DeviceTimes, LayerShape, MicroBatchShape, Part, Parts, Percentiles,
    ProfileEntry, ProfileKey, ProfiledDevice, SetUpFit,
};
use serde::{Deserialize, Serialize};

use super::set_up::SetUpTimes;

/// Version of the format.
pub const FORMAT: u32 = 1;

const HEADING: &str = "# What `bace profile` measured on a device; run it again to measure more or anew.\n\
                       # docs/profiles.md explains every key.\n\n";
pub(super) const MICROSECONDS: f64 = 1e6;
pub(super) const PERCENT: f64 = 100.0;

/// A file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    format: u32,
    /// Where all entries were measured.
    pub device: ProfiledDevice,
    /// One for each model and micro-batch shape, sorted.
    #[serde(default, rename = "entry")]
    pub entries: Vec<Entry>,
}

/// What was measured of one model with micro-batches of one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Names under which the model was measured; for people alone.
    pub models: Vec<String>,
    hidden: u32,
    heads: u32,
    kv_heads: u32,
    head_size: u32,
    feed_forward: u32,
    gated: bool,
    vocabulary: u32,
    micro_batch: u32,
    sequence: u32,
    bytes_per_element: u32,
    /// When, UTC, RFC 3339.
    measured: String,
    /// On which machine, in words.
    machine: String,
    /// By which version of this program.
    version: String,
    rounds: u32,
    warm_up_rounds: u32,
    error_percent: f64,
    drift_percent: f64,
    residual_percent: f64,
    step_residual_percent: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    temperature_c: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clock_mhz: Option<f64>,
    /// Why temperature and clock are absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    board_absent: Option<String>,
    layer: PartTimes,
    embedding: PartTimes,
    head: PartTimes,
    stage: PartTimes,
    copy: CopyTimes,
    /// Absent in entries of older versions, which did not measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    set_up: Option<SetUpTimes>,
    /// Why it is absent, unless an older version has measured the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_up_absent: Option<String>,
    /// Peaks of memory beside the scheduler's formula; none where they were not measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<MemoryPeak>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_absent: Option<String>,
}

/// A part's times, microseconds: medians, with the 5th and the 95th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartTimes {
    forward_us: f64,
    forward_p5_us: f64,
    forward_p95_us: f64,
    backward_us: f64,
    backward_p5_us: f64,
    backward_p95_us: f64,
    step_us: f64,
    step_p5_us: f64,
    step_p95_us: f64,
}

/// The times of copies, microseconds, likewise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CopyTimes {
    in_us: f64,
    in_p5_us: f64,
    in_p95_us: f64,
    out_us: f64,
    out_p5_us: f64,
    out_p95_us: f64,
}

/// The peak of memory of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPeak {
    /// Layers of the stage.
    pub layers: u32,
    /// Whether it is the whole model, or stands between two others.
    pub is_whole: bool,
    /// Micro-batches in flight.
    pub in_flight: u32,
    /// Measured, beyond what the process held before.
    pub measured_bytes: u64,
    /// What the scheduler's formula says.
    pub formula_bytes: u64,
}

/// Where an entry comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Names of the model.
    pub models: Vec<String>,
    /// When, UTC, RFC 3339.
    pub measured: String,
    /// On which machine, in words.
    pub machine: String,
}

impl ProfileFile {
    /// A file without entries.
    pub fn of(device: ProfiledDevice) -> Self {
        Self {
            format: FORMAT,
            device,
            entries: Vec::new(),
        }
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it, as words that follow the file's name and a colon.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            format: Option<u32>,
        }

        let versioned: Versioned = toml::from_str(text).map_err(|error| error.to_string())?;
        match versioned.format {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(format!(
                    "`format` = {other}, and this program reads {FORMAT}; move it away and run bace profile again with this program"
                ));
            }
            None => {
                return Err(format!(
                    "it has no `format`; profiles have format = {FORMAT}"
                ));
            }
        }
        let file: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for (place, entry) in file.entries.iter().enumerate() {
            let models = entry.models.join(", ");
            let wrong = |problem: String| format!("entry {} ({models}): {problem}", place + 1);
            let times = entry.times();
            times.check().map_err(|error| wrong(error.to_string()))?;
            let key = entry.key();
            if file.entries[..place].iter().any(|other| other.key() == key) {
                return Err(wrong(
                    "there is an entry of the same model and micro-batch before it".to_owned(),
                ));
            }
        }
        Ok(file)
    }

    /// The file's text.
    pub fn text(&self) -> Result<String, toml::ser::Error> {
        Ok(format!("{HEADING}{}", toml::to_string(self)?))
    }

    /// Takes an entry in, in place of an older one of the same key.
    pub fn merge(&mut self, mut entry: Entry) {
        match self.entries.binary_search_by_key(&entry.key(), Entry::key) {
            Ok(place) => {
                let old = &mut self.entries[place];
                entry.models.append(&mut old.models);
                entry.models.sort();
                entry.models.dedup();
                *old = entry;
            }
            Err(place) => self.entries.insert(place, entry),
        }
    }

    /// What predictions are made from.
    pub fn profile(&self) -> DeviceProfile {
        let entries = self.entries.iter().map(|entry| ProfileEntry {
            key: entry.key(),
            times: entry.times(),
        });
        DeviceProfile {
            device: self.device.clone(),
            entries: entries.collect(),
        }
    }
}

impl Entry {
    /// The entry of what was measured under `key`.
    pub fn of(
        key: &ProfileKey,
        times: &TimesReply,
        set_up: Option<&SetUpFit>,
        origin: Origin,
    ) -> Self {
        let (fit, parts) = (&times.fit, &times.fit.parts);
        let (temperature_c, clock_mhz, board_absent) = match &times.board {
            BoardState::Read {
                temperature_c,
                clock_mhz,
            } => (Some(*temperature_c), Some(*clock_mhz), None),
            BoardState::Absent(reason) => (None, None, Some(reason.clone())),
        };
        let [copy_in, copy_out] = [parts.copy_in_s, parts.copy_out_s].map(microseconds);
        Self {
            models: origin.models,
            hidden: key.model.hidden,
            heads: key.model.heads,
            kv_heads: key.model.kv_heads,
            head_size: key.model.head_size,
            feed_forward: key.model.feed_forward,
            gated: key.model.gated,
            vocabulary: key.model.vocabulary,
            micro_batch: key.shape.sequences,
            sequence: key.shape.sequence,
            bytes_per_element: key.shape.bytes_per_element,
            measured: origin.measured,
            machine: origin.machine,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rounds: fit.rounds,
            warm_up_rounds: times.warm_up_rounds,
            error_percent: rounded(fit.error_share * PERCENT),
            drift_percent: rounded(fit.drift_share * PERCENT),
            residual_percent: rounded(fit.residual_share * PERCENT),
            step_residual_percent: rounded(fit.step_residual_share * PERCENT),
            temperature_c,
            clock_mhz,
            board_absent,
            layer: (&parts.layer).into(),
            embedding: (&parts.embedding).into(),
            head: (&parts.head).into(),
            stage: (&parts.stage).into(),
            copy: CopyTimes {
                in_us: copy_in.median,
                in_p5_us: copy_in.p5,
                in_p95_us: copy_in.p95,
                out_us: copy_out.median,
                out_p5_us: copy_out.p5,
                out_p95_us: copy_out.p95,
            },
            set_up: set_up.map(SetUpTimes::from),
            set_up_absent: None,
            memory: Vec::new(),
            memory_absent: None,
        }
    }

    /// What it holds for.
    pub fn key(&self) -> ProfileKey {
        ProfileKey {
            model: LayerShape {
                hidden: self.hidden,
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_size: self.head_size,
                feed_forward: self.feed_forward,
                gated: self.gated,
                vocabulary: self.vocabulary,
            },
            shape: MicroBatchShape {
                sequences: self.micro_batch,
                sequence: self.sequence,
                bytes_per_element: self.bytes_per_element,
            },
        }
    }

    /// The medians, seconds.
    pub fn times(&self) -> DeviceTimes {
        DeviceTimes {
            parts: Parts {
                layer: self.layer.medians(),
                embedding: self.embedding.medians(),
                head: self.head.medians(),
                stage: self.stage.medians(),
                copy_in_s: self.copy.in_us / MICROSECONDS,
                copy_out_s: self.copy.out_us / MICROSECONDS,
            },
            set_up: self.set_up.map(|times| times.medians()),
        }
    }
}

impl From<&Part<Percentiles>> for PartTimes {
    fn from(part: &Part<Percentiles>) -> Self {
        let [forward, backward, step] =
            [part.forward_s, part.backward_s, part.step_s].map(microseconds);
        Self {
            forward_us: forward.median,
            forward_p5_us: forward.p5,
            forward_p95_us: forward.p95,
            backward_us: backward.median,
            backward_p5_us: backward.p5,
            backward_p95_us: backward.p95,
            step_us: step.median,
            step_p5_us: step.p5,
            step_p95_us: step.p95,
        }
    }
}

impl PartTimes {
    fn medians(&self) -> Part<f64> {
        Part {
            forward_s: self.forward_us / MICROSECONDS,
            backward_s: self.backward_us / MICROSECONDS,
            step_s: self.step_us / MICROSECONDS,
        }
    }
}

/// A time of a file.
pub(super) fn microseconds(seconds: Percentiles) -> Percentiles {
    let of = |seconds: f64| rounded(seconds * MICROSECONDS);
    Percentiles {
        p5: of(seconds.p5),
        median: of(seconds.median),
        p95: of(seconds.p95),
    }
}

/// To three digits behind the point: nanoseconds of a time.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// The file's name for `device`: every part of its identity, so that what differs stands in another file.
pub fn file_name(device: &ProfiledDevice) -> String {
    let kind = match device.kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Cuda => "cuda",
    };
    let threads = device.threads.map(|threads| match threads {
        1 => "1 thread".to_owned(),
        more => format!("{more} threads"),
    });
    let mut parts = vec![kind.to_owned(), device.name.clone()];
    parts.extend(threads);
    parts.extend(
        device
            .driver
            .as_ref()
            .map(|driver| format!("driver {driver}")),
    );
    parts.extend([
        format!("libtorch {}", device.libtorch),
        device.precision.clone(),
    ]);
    let words = parts.join(" ");
    let words = words
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
        .filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    format!("{name}.toml")
}

#[cfg(test)]
pub(super) mod tests {
    use bace_models::{Fit, SetUp};

    use super::*;

    pub fn device() -> ProfiledDevice {
        ProfiledDevice {
            kind: DeviceKind::Cpu,
            name: "AMD EPYC (TM) 7763".to_owned(),
            threads: Some(1),
            driver: None,
            libtorch: "2.13.0".to_owned(),
            precision: "fp32".to_owned(),
        }
    }

    pub fn key(sequences: u32) -> ProfileKey {
        ProfileKey {
            model: LayerShape {
                hidden: 96,
                heads: 3,
                kv_heads: 3,
                head_size: 32,
                feed_forward: 256,
                gated: true,
                vocabulary: 256,
            },
            shape: MicroBatchShape {
                sequences,
                sequence: 64,
                bytes_per_element: 4,
            },
        }
    }

    /// Times whose layer takes `layer_s` forward and twice that backward.
    pub fn times(layer_s: f64) -> TimesReply {
        let part = |seconds: f64| Part {
            forward_s: around(seconds),
            backward_s: around(2.0 * seconds),
            step_s: around(seconds / 2.0),
        };
        TimesReply {
            device: device(),
            fit: Fit {
                parts: Parts {
                    layer: part(layer_s),
                    embedding: part(layer_s / 8.0),
                    head: part(layer_s / 2.0),
                    stage: part(0.0),
                    copy_in_s: around(5e-6),
                    copy_out_s: around(4e-6),
                },
                error_share: 0.01,
                drift_share: -0.002,
                residual_share: 0.03,
                step_residual_share: 0.05,
                rounds: 21,
            },
            warm_up_rounds: 10,
            warm_up_drift_share: 0.004,
            board: BoardState::Absent("a processor has no board of its own".to_owned()),
        }
    }

    /// A set-up whose layer takes `layer_s`, every stage twice that, and the first of a process ten times.
    pub fn set_up(layer_s: f64) -> SetUpFit {
        let parts = SetUp {
            layer_s,
            stage_s: 2.0 * layer_s,
            fresh_s: 10.0 * layer_s,
            ..SetUp::default()
        };
        SetUpFit {
            parts: parts.map(around),
            error_share: 0.02,
            processes: 8,
        }
    }

    /// The text of `file` as versions wrote it that measured no set-up.
    pub fn without_set_up(file: &ProfileFile) -> String {
        let mut older = file.clone();
        for entry in &mut older.entries {
            entry.set_up = None;
        }
        let text = older.text().unwrap();
        assert!(!text.contains("set_up"), "{text}");
        text
    }

    fn around(median: f64) -> Percentiles {
        Percentiles {
            p5: median * 0.9,
            median,
            p95: median * 1.1,
        }
    }

    pub fn entry(model: &str, sequences: u32, layer_s: f64) -> Entry {
        let origin = Origin {
            models: vec![model.to_owned()],
            measured: "2026-01-02T03:04:05Z".to_owned(),
            machine: "some machine".to_owned(),
        };
        Entry::of(
            &key(sequences),
            &times(layer_s),
            Some(&set_up(layer_s)),
            origin,
        )
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut file = ProfileFile::of(device());
        let mut whole = entry("small", 2, 0.000_512_345_6);
        whole.memory.push(MemoryPeak {
            layers: 2,
            is_whole: false,
            in_flight: 3,
            measured_bytes: 3_000_000,
            formula_bytes: 1_000_000,
        });
        file.merge(whole);
        let text = file.text().unwrap();
        assert!(text.contains("forward_us = 512.346\n"), "{text}");
        assert!(text.contains("[[entry.memory]]"), "{text}");
        let read = ProfileFile::parse(&text).unwrap();
        assert_eq!(read, file);
        let times = *read
            .profile()
            .times(&key(2).model.with_layers(9), &key(2).shape)
            .unwrap();
        assert!(
            (times.parts.layer.backward_s - 1024.691e-6).abs() < 1e-15,
            "{times:?}"
        );
        assert!(
            (times.set_up.unwrap().fresh_s - 5123.456e-6).abs() < 1e-15,
            "{times:?}"
        );
    }

    #[test]
    fn an_entry_without_a_set_up_is_read_and_its_times_are_the_same() {
        let mut file = ProfileFile::of(device());
        file.merge(entry("small", 2, 0.001));
        let mut older = ProfileFile::parse(&without_set_up(&file)).unwrap();
        let (times, known) = (older.entries[0].times(), file.entries[0].times());
        assert_eq!(times.set_up, None);
        assert_eq!(times.parts, known.parts);
        // Measured again, it has one.
        older.merge(entry("small", 2, 0.001));
        assert_eq!(older, file);
    }

    #[test]
    fn entries_merge_by_model_and_micro_batch() {
        let mut file = ProfileFile::of(device());
        for entry in [
            entry("small", 4, 1.0),
            entry("small", 2, 1.0),
            entry("other", 4, 3.0),
        ] {
            file.merge(entry);
        }
        let found: Vec<_> = file
            .entries
            .iter()
            .map(|entry| {
                (
                    entry.micro_batch,
                    entry.layer.forward_us,
                    entry.models.join(" "),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (2, 1e6, "small".to_owned()),
                (4, 3e6, "other small".to_owned())
            ]
        );
    }

    #[test]
    fn what_is_no_profile_is_refused_with_the_place() {
        let mut file = ProfileFile::of(device());
        file.merge(entry("small", 2, 0.001));
        let text = file.text().unwrap();
        let refused = |old: &str, new: &str| {
            assert!(text.contains(old), "{text}");
            ProfileFile::parse(&text.replacen(old, new, 1)).unwrap_err()
        };
        assert!(refused("format = 1", "format = 2").contains("this program reads 1; move it away"));
        assert!(refused("format = 1\n", "").contains("no `format`"));
        let unknown = refused("rounds = 21", "round = 21");
        assert!(unknown.contains("unknown field `round`"), "{unknown}");
        let none = refused("forward_us = 1000.0", "forward_us = 0.0");
        assert!(
            none.starts_with("entry 1 (small): a layer's forward"),
            "{none}"
        );
        let less = refused("layer_us = 1000.0", "layer_us = -1.0");
        assert!(
            less.starts_with("entry 1 (small): a layer's set-up"),
            "{less}"
        );
        let entries = text.split_once("[[entry]]").unwrap().1;
        let twice = ProfileFile::parse(&format!("{text}\n[[entry]]{entries}")).unwrap_err();
        assert!(
            twice.contains("entry 2 (small): there is an entry of the same"),
            "{twice}"
        );
    }

    #[test]
    fn a_file_is_named_by_all_that_times_depend_on() {
        assert_eq!(
            file_name(&device()),
            "cpu-amd-epyc-tm-7763-1-thread-libtorch-2.13.0-fp32.toml"
        );
        let gpu = ProfiledDevice {
            kind: DeviceKind::Cuda,
            name: "NVIDIA H100".to_owned(),
            threads: None,
            driver: Some("CUDA 13.0".to_owned()),
            ..device()
        };
        assert_eq!(
            file_name(&gpu),
            "cuda-nvidia-h100-driver-cuda-13.0-libtorch-2.13.0-fp32.toml"
        );
    }
}
