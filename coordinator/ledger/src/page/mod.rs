//! A run as one page that needs nothing else: no network, no scripts.
//!
//! `html` puts sections together, each of which makes views of a ledger; templates and the style sheet stand in `templates`.

mod axis;
mod causes;
mod decisions;
mod dollars;
mod drawing;
mod head;
mod html;
mod iteration;
mod jct;
mod jobs;
mod lanes;
mod links;
mod lost;
mod table;
mod timeline;
mod words;

pub use dollars::Spending;
pub use html::{Page, RepeatedRuns};
pub use iteration::IterationChoice;
