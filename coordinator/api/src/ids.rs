//! Indices as types, so that a stage is never taken for a micro-batch.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! index {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The index, to look into a slice.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

index! {
    /// A job, by its place in the scenario, from 0.
    JobId(u32)
}
index! {
    /// A pipeline stage of a job, from 0.
    StageIndex(u32)
}
index! {
    /// A micro-batch of an iteration, from 0.
    MicroBatch(u32)
}
index! {
    /// An iteration of a job, from 0.
    Iteration(u32)
}
index! {
    /// How often a job has been started before, from 0.
    Attempt(u32)
}
index! {
    /// A worker process of a run, from 0.
    WorkerId(u32)
}
index! {
    /// A measurement of a link, by the order in which a run makes them, from 0.
    MeasurementId(u32)
}
