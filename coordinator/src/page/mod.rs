//! `bace report --html`: what a page is made of, from a run's folder or a validation's.

mod command;
mod folder;
mod spending;

pub use command::write_page;
pub use folder::Folder;
