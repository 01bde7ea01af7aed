//! NVIDIA's management library: loaded when it is asked for, and absent with a reason otherwise.

use std::ffi::OsStr;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::board::{EnergyBoard, PowerBoard};
use crate::{Absent, BoardId, Meter, Missing};

/// The whole library, as a source that may be absent.
const NVML: &str = "NVML";
const LIST: &str = "nvidia-smi -L lists the boards and their UUIDs";

/// The loaded library, initialised; boards borrow it.
#[derive(Debug)]
pub(crate) struct Library {
    nvml: Nvml,
    driver: String,
}

impl Library {
    /// Loads `library`: a path, or a name that the system's loader looks for.
    ///
    /// # Errors
    /// When it is not there, or does not find its driver.
    pub fn load(library: &OsStr) -> Result<Self, Absent> {
        let nvml = Nvml::builder().lib_path(library).init();
        let nvml = nvml.map_err(|error| not_loaded(library, &error))?;
        let driver = nvml.sys_driver_version();
        let driver = driver.unwrap_or_else(|error| format!("of an unknown version ({error})"));
        Ok(Self { nvml, driver })
    }

    /// A meter for each of the boards asked for, or why there is none; for every board if `wanted` is absent.
    pub fn meters(&self, wanted: Option<&[BoardId]>) -> Vec<Result<Box<dyn Meter + '_>, Absent>> {
        let all;
        let wanted = match wanted {
            Some(wanted) => wanted,
            None => match self.nvml.device_count() {
                Ok(0) => {
                    let reason = "the driver shows no board";
                    return vec![Err(Absent::new(NVML, Missing::Boards, reason, LIST))];
                }
                Ok(count) => {
                    all = (0..count).map(BoardId::Index).collect::<Vec<_>>();
                    &all
                }
                Err(error) => {
                    let reason = format!("boards cannot be counted: {}", told(&error));
                    return vec![Err(Absent::new(NVML, Missing::Boards, reason, LIST))];
                }
            },
        };
        wanted.iter().map(|board| self.meter(board)).collect()
    }

    fn meter(&self, board: &BoardId) -> Result<Box<dyn Meter + '_>, Absent> {
        let name = format!("{NVML} board {board}");
        let absent = |what: &str, error: &NvmlError| {
            let reason = format!("{what}: {}", told(error));
            Absent::new(&name, Missing::Board(board.clone()), reason, advice(error))
        };
        let device = match board {
            BoardId::Uuid(uuid) => self.nvml.device_by_uuid(uuid.as_str()),
            BoardId::Index(index) => self.nvml.device_by_index(*index),
        };
        let device = device.map_err(|error| absent("it cannot be opened", &error))?;
        let uuid = device.uuid();
        let uuid = uuid.map_err(|error| absent("its UUID cannot be read", &error))?;
        let model = device.name();
        let model = model.unwrap_or_else(|error| format!("of an unknown model ({error})"));
        let driver = &self.driver;
        let description = format!("{model}, driver {driver}");
        match device.total_energy_consumption() {
            Ok(_) => Ok(Box::new(EnergyBoard::new(
                device,
                board.clone(),
                &uuid,
                &description,
            ))),
            Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => {
                let power = device.power_usage();
                power.map_err(|error| {
                    absent(
                        "it has no energy counter, and its power cannot be read",
                        &error,
                    )
                })?;
                Ok(Box::new(PowerBoard::new(
                    device,
                    board.clone(),
                    &uuid,
                    &description,
                )))
            }
            Err(error) => Err(absent("its energy counter cannot be read", &error)),
        }
    }
}

/// An error of NVML in words that follow a colon.
pub(crate) fn told(error: &NvmlError) -> String {
    match error {
        NvmlError::GpuLost => {
            "the GPU is lost: it fell off the bus or cannot be reached".to_owned()
        }
        NvmlError::NotSupported => "the board does not support it".to_owned(),
        NvmlError::NoPermission => "this user has no permission".to_owned(),
        NvmlError::NotFound | NvmlError::InvalidArg => "NVML knows no such board".to_owned(),
        other => other.to_string(),
    }
}

fn advice(error: &NvmlError) -> &'static str {
    match error {
        NvmlError::NoPermission => {
            "run as a user that may use the board, or give the container its device nodes"
        }
        NvmlError::NotFound | NvmlError::InvalidArg => LIST,
        NvmlError::GpuLost => "reset the board, or restart the machine; dmesg tells why",
        _ => "nvidia-smi -q tells what the board supports",
    }
}

fn not_loaded(library: &OsStr, error: &NvmlError) -> Absent {
    let library = library.display();
    let reason = match error {
        NvmlError::LibloadingError(error) => format!("{library} cannot be loaded: {error}"),
        NvmlError::DriverNotLoaded => format!("{library} is there, and no NVIDIA driver is loaded"),
        error => format!("{library} does not start: {}", told(error)),
    };
    Absent::new(
        NVML,
        Missing::Boards,
        reason,
        "install and load the NVIDIA driver, or give the container its GPUs; CPU runs do not need it",
    )
}
