//! The events of Chrome's trace-event format that traces use.

use std::borrow::Cow;
use std::fmt::Display;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::nanos::Nanos;

/// A line of the trace.
#[derive(Debug, Serialize)]
#[serde(tag = "ph")]
pub(super) enum Event<'a> {
    /// What a process or a thread is called, or where it stands.
    #[serde(rename = "M")]
    Metadata(Metadata<'a>),
    /// Something with a begin and an end on a thread; within another, or apart from it.
    #[serde(rename = "X")]
    Slice(Slice<'a>),
    /// An arrow leaves the slice that is open here.
    #[serde(rename = "s")]
    FlowBegin(Flow),
    /// It passes through the slice that is open here.
    #[serde(rename = "t")]
    FlowStep(Flow),
    /// It ends at the slice that is open here.
    #[serde(rename = "f")]
    FlowEnd(Flow),
    /// Something begins that may overlap others of its name.
    #[serde(rename = "b")]
    AsyncBegin(Async<'a>),
    /// It ends.
    #[serde(rename = "e")]
    AsyncEnd(Async<'a>),
    /// A quantity from here on.
    #[serde(rename = "C")]
    Counter(Counter<'a>),
    /// Something without length.
    #[serde(rename = "i")]
    Instant(Instant<'a>),
}

/// Where an event belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Place {
    pub pid: u32,
    pub tid: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct Metadata<'a> {
    pub name: &'static str,
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    pub args: Meaning<'a>,
}

/// What metadata says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Meaning<'a> {
    Name(&'a str),
    SortIndex(u32),
}

#[derive(Debug, Serialize)]
pub(super) struct Slice<'a> {
    pub name: Cow<'a, str>,
    pub cat: Kind,
    #[serde(flatten)]
    pub place: Place,
    pub ts: Nanos,
    pub dur: Nanos,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cname: Option<&'static str>,
    pub args: Args<'a>,
}

/// What a slice is, by which a viewer can filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Job,
    SetUp,
    Iteration,
    Forward,
    Backward,
    Step,
    Wait,
    Send,
    Carried,
    InFlight,
    Arrival,
    Decision,
    Outcome,
    Change,
}

impl Kind {
    /// Its colour among the names that chrome://tracing knows; Perfetto colours by name instead.
    pub fn colour(self) -> Option<&'static str> {
        match self {
            Self::Forward => Some("rail_response"),
            Self::Backward => Some("rail_animation"),
            Self::Step => Some("rail_load"),
            Self::Wait => Some("grey"),
            Self::Send => Some("terrible"),
            Self::SetUp => Some("startup"),
            Self::Carried => Some("thread_state_running"),
            Self::InFlight => Some("thread_state_sleeping"),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Flow {
    pub name: &'static str,
    pub cat: &'static str,
    #[serde(serialize_with = "hexadecimal")]
    pub id: u64,
    #[serde(flatten)]
    pub place: Place,
    pub ts: Nanos,
    /// `e` where an arrow ends at the slice that is open, and not at the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bp: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Async<'a> {
    pub name: &'a str,
    pub cat: Kind,
    pub id2: Local,
    #[serde(flatten)]
    pub place: Place,
    pub ts: Nanos,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cname: Option<&'static str>,
    pub args: Args<'a>,
}

/// A number within its process: what has one of the whole file, Perfetto shows beside all processes.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Local {
    #[serde(serialize_with = "hexadecimal")]
    pub local: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Counter<'a> {
    pub name: &'a str,
    pub pid: u32,
    pub ts: Nanos,
    pub args: Quantity<'a>,
}

/// A value with its unit.
#[derive(Debug)]
pub(super) struct Quantity<'a> {
    pub unit: &'a str,
    pub value: f64,
}

impl Serialize for Quantity<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map([(self.unit, self.value)])
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Instant<'a> {
    pub name: Cow<'a, str>,
    pub cat: Kind,
    #[serde(flatten)]
    pub place: Place,
    pub ts: Nanos,
    /// `t`: it belongs to its thread.
    pub s: &'static str,
    pub args: Args<'a>,
}

/// What a viewer shows of an event that is clicked on; times are emulated seconds.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Args<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iteration: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_stage: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Part of it that was spent waiting for the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_wait_s: Option<f64>,
    /// Part of it that the emulated GPU would not have taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excess_s: Option<f64>,
    /// How much later it shows than the ledger says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_s: Option<f64>,
    /// Part of it in which the link served other jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_s: Option<f64>,
    /// How long behind its due time it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'a str>,
    /// Why, as data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_way_delay_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
}

/// Ids are texts in the format, with hexadecimal digits.
fn hexadecimal<S: Serializer>(id: &u64, to: S) -> Result<S::Ok, S::Error> {
    let text: &dyn Display = &format_args!("{id:#x}");
    to.collect_str(text)
}
