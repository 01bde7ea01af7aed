//! The scenario file as it is written: every key once, values with their place in the text.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use bace_api::Schedule;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use toml::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScenarioFile {
    pub name: Spanned<String>,
    pub seed: Option<Spanned<i64>>,
    #[serde(default)]
    pub gpu: BTreeMap<Spanned<String>, GpuFile>,
    #[serde(default)]
    pub region: Vec<RegionFile>,
    #[serde(default)]
    pub link: Vec<Spanned<LinkFile>>,
    #[serde(default)]
    pub model: BTreeMap<Spanned<String>, Spanned<ModelFile>>,
    #[serde(default)]
    pub job: Vec<JobFile>,
    #[serde(default)]
    pub draw: DrawFile,
    #[serde(default)]
    pub policy: PolicyFile,
    #[serde(default)]
    pub network: NetworkFile,
    #[serde(default)]
    pub compute: ComputeFile,
    #[serde(default)]
    pub link_change: Vec<Spanned<LinkChangeFile>>,
    #[serde(default)]
    pub gpu_change: Vec<GpuChangeFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GpuFile {
    pub peak_tflops: Spanned<f64>,
    pub mfu: Spanned<f64>,
    pub memory_gb: Spanned<f64>,
    pub busy_w: Spanned<f64>,
    pub idle_w: Spanned<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegionFile {
    pub name: Spanned<String>,
    pub gpus: Spanned<i64>,
    pub gpu: Spanned<String>,
    pub price_usd_per_kwh: Spanned<SeriesFile<PriceStep>>,
    pub carbon_g_per_kwh: Option<Spanned<SeriesFile<CarbonStep>>>,
    pub pue: Option<Spanned<f64>>,
    pub fabric_gbps: Option<Spanned<f64>>,
    pub fabric_delay_ms: Option<Spanned<f64>>,
    pub host_shares: Option<Spanned<Vec<Spanned<f64>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkFile {
    pub between: Option<Spanned<Vec<Spanned<String>>>>,
    pub from: Option<Spanned<String>>,
    pub to: Option<Spanned<String>>,
    pub bandwidth_mbps: Spanned<f64>,
    pub one_way_delay_ms: Spanned<f64>,
    pub jitter_ms: Option<Spanned<f64>>,
    pub jitter: Option<Spanned<JitterFile>>,
    pub loss: Option<Spanned<f64>>,
    pub loss_model: Option<Spanned<LossModelFile>>,
    #[serde(default)]
    pub accounting: AccountingFile,
    #[serde(default)]
    pub sharing: SharingFile,
    pub burst_credit_mb: Option<Spanned<f64>>,
    pub sustained_mbps: Option<Spanned<f64>>,
    pub queue_kb: Option<Spanned<f64>>,
    pub trace: Option<Spanned<TraceFile>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum JitterFile {
    Uniform,
    Normal,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LossModelFile {
    Goodput,
    Mathis,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AccountingFile {
    #[default]
    Payload,
    Ip,
    Ethernet,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SharingFile {
    #[default]
    PerJob,
    PerFlow,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkChangeFile {
    pub at_s: Spanned<f64>,
    pub between: Option<Spanned<Vec<Spanned<String>>>>,
    pub from: Option<Spanned<String>>,
    pub to: Option<Spanned<String>>,
    pub bandwidth_mbps: Option<Spanned<f64>>,
    pub one_way_delay_ms: Option<Spanned<f64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GpuChangeFile {
    pub at_s: Spanned<f64>,
    pub region: Spanned<String>,
    pub gpus: Spanned<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelFile {
    pub layers: Spanned<i64>,
    pub hidden: Spanned<i64>,
    pub heads: Spanned<i64>,
    pub kv_heads: Option<Spanned<i64>>,
    pub head_size: Option<Spanned<i64>>,
    pub feed_forward: Spanned<i64>,
    pub gated: bool,
    pub vocabulary: Spanned<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobFile {
    pub name: Spanned<String>,
    pub model: Spanned<String>,
    pub arrival_s: Spanned<f64>,
    pub iterations: Spanned<i64>,
    pub micro_batches: Spanned<i64>,
    pub micro_batch: Spanned<i64>,
    pub sequence: Spanned<i64>,
    pub bytes_per_element: Option<Spanned<i64>>,
    #[serde(default)]
    pub schedule: Schedule,
    pub learning_rate: Option<Spanned<f64>>,
    pub scale_model: Option<ScaleModelFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScaleModelFile {
    pub width: Spanned<i64>,
    pub tokens: Spanned<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrawFile {
    pub arrival_gap_s: Option<Spanned<f64>>,
    pub tokens: Option<Spanned<Vec<Spanned<i64>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFile {
    pub min_share: Option<Spanned<f64>>,
    pub time_slack: Option<Spanned<f64>>,
    pub aging_per_hour: Option<Spanned<f64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ComputeFile {
    pub rung: Option<RungFile>,
    pub time_scale: Option<Spanned<f64>>,
    pub overrun_share: Option<Spanned<f64>>,
    pub lease: Option<Spanned<i64>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RungFile {
    Modelled,
    Paced,
    Native,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkFile {
    pub backend: Option<BackendFile>,
    pub congestion: Option<CongestionFile>,
    pub receipt_error: Option<Spanned<f64>>,
    pub receipt_error_ms: Option<Spanned<f64>>,
    pub late_share: Option<Spanned<f64>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BackendFile {
    Virtual,
    Packet,
    Kernel,
    None,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CongestionFile {
    Bbr,
    Cubic,
    Fixed,
}

/// A number, a list of steps or the name of a CSV file.
#[derive(Debug)]
pub(super) enum SeriesFile<S> {
    Constant(f64),
    Steps(Vec<Spanned<S>>),
    Csv(CsvFile),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CsvFile {
    pub csv: Spanned<String>,
    #[serde(default)]
    pub daily: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PriceStep {
    from_s: f64,
    usd_per_kwh: f64,
    #[serde(default)]
    daily: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CarbonStep {
    from_s: f64,
    g_per_kwh: f64,
    #[serde(default)]
    daily: bool,
}

/// What a link gives over time: a list of steps or the name of a CSV file.
#[derive(Debug)]
pub(super) enum TraceFile {
    Steps(Vec<Spanned<TraceStep>>),
    Csv(TraceCsvFile),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceCsvFile {
    pub csv: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceStep {
    pub at_s: Spanned<f64>,
    pub bandwidth_mbps: Spanned<f64>,
    pub one_way_delay_ms: Option<Spanned<f64>>,
}

/// What the two kinds of steps have in common; their keys differ, since keys carry units.
pub(super) trait StepFile {
    /// Key of the value, and column of a CSV file.
    const VALUE_KEY: &'static str;
    fn start_s(&self) -> f64;
    fn value(&self) -> f64;
    fn daily(&self) -> bool;
}

impl StepFile for PriceStep {
    const VALUE_KEY: &'static str = "usd_per_kwh";
    fn start_s(&self) -> f64 {
        self.from_s
    }
    fn value(&self) -> f64 {
        self.usd_per_kwh
    }
    fn daily(&self) -> bool {
        self.daily
    }
}

impl StepFile for CarbonStep {
    const VALUE_KEY: &'static str = "g_per_kwh";
    fn start_s(&self) -> f64 {
        self.from_s
    }
    fn value(&self) -> f64 {
        self.g_per_kwh
    }
    fn daily(&self) -> bool {
        self.daily
    }
}

// By hand, since an untagged enum forgets which form was meant and where it went wrong.
impl<'de, S: StepFile + Deserialize<'de>> Deserialize<'de> for SeriesFile<S> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeriesVisitor(PhantomData))
    }
}

struct SeriesVisitor<S>(PhantomData<S>);

impl<'de, S: StepFile + Deserialize<'de>> Visitor<'de> for SeriesVisitor<S> {
    type Value = SeriesFile<S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a number, a list of {{ from_s, {} }} or {{ csv = \"FILE\" }}",
            S::VALUE_KEY
        )
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(SeriesFile::Constant(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(SeriesFile::Constant(value as f64))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(SeriesFile::Steps)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        CsvFile::deserialize(MapAccessDeserializer::new(map)).map(SeriesFile::Csv)
    }
}

impl<'de> Deserialize<'de> for TraceFile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TraceVisitor)
    }
}

struct TraceVisitor;

impl<'de> Visitor<'de> for TraceVisitor {
    type Value = TraceFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a list of {{ at_s, bandwidth_mbps }}, each with `one_way_delay_ms` if that changes too, or {{ csv = \"FILE\" }}"
        )
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(TraceFile::Steps)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        TraceCsvFile::deserialize(MapAccessDeserializer::new(map)).map(TraceFile::Csv)
    }
}
