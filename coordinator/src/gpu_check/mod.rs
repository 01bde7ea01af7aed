//! `bace gpu-check`: whether this machine's GPUs do what the CPU does, and what runs on them are worth.

mod command;
mod energy;
mod judge;
mod verdict;

pub use command::gpu_check;
