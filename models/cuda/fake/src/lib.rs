//! A CUDA driver for tests: a library of the true one's name, without any GPU, built with the system's C compiler.
//!
//! What belongs here: the fake and how a test loads it. What does not: anything that a program needs; only tests depend on it.

mod build;

pub use build::{FakeCuda, Kind, is_outer};
