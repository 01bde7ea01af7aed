//! `bace bench pipeline`: what a native pipeline takes where nothing shapes its links.

mod beside;
mod command;
mod measured;
mod show;
mod size;

pub use command::pipeline;
