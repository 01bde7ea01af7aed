//! Profiles: what models take on this machine's device, measured and kept, and predictions made from that.

mod chosen;
mod command;
mod file;
mod memory;
mod missing;
mod set_up;
mod wanted;

pub use chosen::{Asked, ChosenProfile, FOLDER, absent, asked_rung};
pub use command::profile;
pub use missing::measure_missing;
