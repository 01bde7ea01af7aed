//! How a ledger begins: what was run, and on which rung.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of the ledger's format.
pub const FORMAT_VERSION: u32 = 1;

/// Whose seconds a ledger counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockKind {
    /// A simulator's.
    Virtual,
    /// The machine's.
    Wall,
}

/// Who takes the time of compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComputeRung {
    /// Nothing is computed; stages take the emulated GPU's modelled time.
    Modelled,
    /// libtorch computes, and an action ends no earlier than the emulated GPU would have.
    Paced,
    /// libtorch computes and takes as long as it takes.
    Native,
}

impl ComputeRung {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Modelled => "modelled",
            Self::Paced => "paced",
            Self::Native => "native",
        }
    }
}

/// Who takes the time of transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkRung {
    /// No bytes move; the link model gives the time.
    Modelled,
    /// Bytes cross QUIC and are released when the emulated link would have delivered them.
    Shaped,
    /// Bytes cross QUIC, whose datagrams are delayed, queued and lost one by one in user space.
    Packet,
    /// The kernel's queueing disciplines shape the bytes.
    Kernel,
    /// Bytes cross QUIC as fast as they can.
    None,
}

impl NetworkRung {
    /// Its name in ledgers and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Modelled => "modelled",
            Self::Shaped => "shaped",
            Self::Packet => "packet",
            Self::Kernel => "kernel",
            Self::None => "none",
        }
    }

    /// Whether datagrams are given the links' rates and delays, and no clock times messages: all that a link takes beyond them, for
    /// losses and other jobs' turns too, is then told as late.
    pub const fn shapes_datagrams(self) -> bool {
        matches!(self, Self::Packet | Self::Kernel)
    }
}

/// First record of every ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT_VERSION`] of the writer.
    pub format: u32,
    /// The scenario's name.
    pub scenario: String,
    /// blake3 of the scenario file's bytes, hexadecimal.
    pub scenario_hash: String,
    /// blake3 of each file that the scenario reads, hexadecimal, by the name it has there; empty where there are none, and in ledgers
    /// of older programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, String>,
    /// The policy that decides.
    pub policy: String,
    /// Seed of the run.
    pub seed: u64,
    /// Version of the program that wrote it.
    pub version: String,
    /// Machine in words: processor, cores, kernel.
    pub machine: String,
    /// Start of the run, UTC, RFC 3339; absent in simulations, which are the same whenever they run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// Whose seconds.
    pub clock: ClockKind,
    /// Who takes the time of compute.
    pub compute: ComputeRung,
    /// Who takes the time of transfers.
    pub network: NetworkRung,
    /// Iteration model of a simulation: `analytic` or `event`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration_model: Option<String>,
    /// Names of all regions, in scenario order.
    pub regions: Vec<String>,
    /// GPUs of each of `regions` at the start; empty where the writer did not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<u32>,
    /// Directed links between regions at the start; empty where the writer did not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<HeaderLink>,
    /// Whether links are measured before and after the run; absent in simulations and in ledgers of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<Receipts>,
    /// Share of a link's messages that may come more than 1 ms late before the run counts as not valid; absent where
    /// nothing was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_share: Option<f64>,
    /// Emulated seconds in a second of the machine; absent where it is 1, and in simulations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_scale: Option<f64>,
    /// Share of a job's paced actions that may be overruns before the run counts as not valid; absent where nothing was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrun_share: Option<f64>,
    /// What was measured on the device that all GPUs of the run are, or that there is nothing; absent where compute takes the
    /// GPU types' times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Box<ProfileUse>>,
    /// Names of all jobs, in scenario order.
    pub jobs: Vec<String>,
    /// Names of jobs that train a scale model in place of their own; absent in simulations, and where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scale_models: Vec<String>,
}

/// Where the scheduler's times of compute come from where all GPUs are this machine's device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileUse {
    /// From what was measured there.
    Used {
        /// The profile's file.
        path: String,
        /// blake3 of the file's bytes, hexadecimal.
        hash: String,
        /// The device's name.
        device: String,
        /// Which jobs' set-up it does not know, so that no prediction from it holds theirs, and what measures it; words that
        /// follow a colon. Absent where it knows that of all jobs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lacks_set_up: Option<String>,
    },
    /// From the GPU types' formula, for lack of a profile.
    Absent {
        /// Why there is none, and what makes one; words that follow a colon.
        reason: String,
    },
}

impl Header {
    /// Whether it is of a simulation whose iterations take what the formula says, and are not walked.
    pub fn is_by_formula(&self) -> bool {
        self.iteration_model.as_deref() == Some("analytic")
    }

    /// Whether it is made from a profile that knows how long all jobs' stages need before they train.
    pub fn predicts_set_up(&self) -> bool {
        let used = self.profile.as_deref();
        matches!(
            used,
            Some(ProfileUse::Used {
                lacks_set_up: None,
                ..
            })
        )
    }
}

/// Whether a run measures its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receipts {
    /// Every link between regions with workers, before the first job and after the last.
    Full,
    /// None.
    Off,
}

/// A directed link as the scenario gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderLink {
    /// Where the bytes leave.
    pub from: String,
    /// Where they arrive.
    pub to: String,
    /// Capacity, bit/s.
    pub bandwidth_bps: f64,
    /// One-way delay, seconds; absent in ledgers of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_way_delay_s: Option<f64>,
}
