//! `bace doctor`: what this machine has, what it is worth, and what size of scenario it can carry.

mod capacity;
mod command;
mod finding;
mod gpus;
mod kernel;
mod machine;
mod measured;
mod sensors;
mod time_scale;
mod training;

pub use command::doctor;
pub use gpus::Gpus;
