//! Tests over the whole.

mod actions;
mod bad_days;
mod bad_input;
mod bench;
mod browser;
mod cluster;
mod commands;
mod cuda;
mod harness;
mod held_out;
mod hosts;
mod joining;
mod kernel;
mod ladder;
mod metering;
mod page;
mod parity;
mod profiles;
mod receipts;
mod rough;
mod runs;
mod scale_models;
mod scripts;
mod time_scale;
mod trace;
mod walls;
