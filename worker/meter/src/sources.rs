//! Where sources are looked for, and which there are.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::nvml::Library;
use crate::powercap;
use crate::{Absent, BoardId, Meter, Source, now_ns};

/// Environment variable that names another NVML library: a path, or a name for the system's loader.
pub const NVML_LIBRARY: &str = "BACE_NVML_LIBRARY";
/// Environment variable that names another powercap tree.
pub const POWERCAP: &str = "BACE_POWERCAP";

const USUAL_LIBRARY: &str = "libnvidia-ml.so.1";
const USUAL_POWERCAP: &str = "/sys/class/powercap";

/// Where this machine's sources are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The NVML library.
    pub nvml_library: OsString,
    /// The powercap tree.
    pub powercap: PathBuf,
}

impl Places {
    /// Those of the environment, else the usual ones.
    pub fn from_environment() -> Self {
        let of = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        Self {
            nvml_library: of(NVML_LIBRARY).unwrap_or_else(|| USUAL_LIBRARY.into()),
            powercap: of(POWERCAP).map_or_else(|| USUAL_POWERCAP.into(), PathBuf::from),
        }
    }
}

/// Which boards are of interest; the processors always are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All there are.
    AllBoards,
    /// These, in this order. None need no NVML.
    Boards(Vec<BoardId>),
}

/// Sources of this machine, there and not there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Survey {
    /// Meters that could be read.
    pub sources: Vec<Source>,
    /// Those that are not there.
    pub absent: Vec<Absent>,
}

impl Survey {
    /// Opens everything, reads it once and closes it.
    pub fn take(places: &Places, wanted: &Wanted) -> Self {
        let opened = Opened::new(places, wanted);
        let mut survey = Self::default();
        let meters = opened.meters(&mut survey.absent);
        survey.sources = meters.iter().map(|meter| meter.source().clone()).collect();
        survey
    }
}

/// The library that meters of boards borrow.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    places: &'a Places,
    wanted: &'a Wanted,
    library: Option<Result<Library, Absent>>,
}

impl<'a> Opened<'a> {
    pub fn new(places: &'a Places, wanted: &'a Wanted) -> Self {
        let needless = *wanted == Wanted::Boards(Vec::new());
        Self {
            library: (!needless).then(|| Library::load(&places.nvml_library)),
            places,
            wanted,
        }
    }

    /// All meters, each read once; why others are not there goes to `absent`.
    pub fn meters(&self, absent: &mut Vec<Absent>) -> Vec<Box<dyn Meter + '_>> {
        let domains = powercap::domains(&self.places.powercap).into_iter();
        let mut found: Vec<Result<Box<dyn Meter + '_>, Absent>> = domains
            .map(|domain| domain.map(|domain| Box::new(domain) as Box<dyn Meter>))
            .collect();
        match &self.library {
            None => {}
            Some(Err(reason)) => found.push(Err(reason.clone())),
            Some(Ok(library)) => found.extend(library.meters(match self.wanted {
                Wanted::AllBoards => None,
                Wanted::Boards(boards) => Some(boards),
            })),
        }
        let mut meters = Vec::new();
        for one in found {
            let read = one.and_then(|mut meter| match meter.read(now_ns()) {
                Ok(_) => Ok(meter),
                Err(error) => Err(Absent::unreadable(meter.as_ref(), &error)),
            });
            match read {
                Ok(meter) => meters.push(meter),
                Err(reason) => absent.push(reason),
            }
        }
        meters
    }
}
