//! Tests over the whole.

mod scripts;
mod walls;
