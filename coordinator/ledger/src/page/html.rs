//! The whole page.

use askama::Template;

use super::causes::Causes;
use super::decisions::Decisions;
use super::dollars::{DollarsView, Spending};
use super::head::Head;
use super::iteration::{IterationChoice, Pipeline};
use super::jct::Jct;
use super::links::LinksView;
use super::table::TableView;
use super::timeline::Timeline;
use super::words::Side;
use crate::{Figure, LedgerError, Measured, Predicted, RunLog, Summary};

/// What a page is made of.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    /// The run that the page tells of.
    pub log: &'a RunLog,
    /// The same in figures.
    pub summary: &'a Summary,
    /// Its prediction, or why there is none; absent where the run is a simulation itself.
    pub predicted: Option<Figure<Predicted<&'a RunLog>>>,
    /// Runs whose job completion times are set beside their predictions: each policy's repeats. Empty for a simulation.
    pub policies: &'a [RepeatedRuns],
    /// What was spent when, or why that is not known.
    pub spending: Figure<&'a Spending>,
    /// Which iteration to draw; the median one of the longest job where absent.
    pub iteration: Option<&'a IterationChoice>,
}

/// Repeated runs of one policy, and what is predicted of each.
#[derive(Debug, Clone)]
pub struct RepeatedRuns {
    /// The policy.
    pub policy: String,
    /// Its runs.
    pub measured: Vec<Measured<Summary>>,
    /// Its prediction, or why there is none.
    pub predicted: Figure<Predicted<Summary>>,
}

#[derive(Template)]
#[template(path = "page.html")]
struct Html {
    head: Head,
    side: Side,
    /// The rung of the prediction; absent where there is none.
    other: Option<Side>,
    jobs: TableView,
    timeline: Figure<Timeline>,
    pipeline: Figure<Pipeline>,
    causes: Figure<Causes>,
    /// Absent for a simulation.
    jct: Option<Figure<Jct>>,
    links: Figure<LinksView>,
    dollars: Figure<DollarsView>,
    decisions: Figure<Decisions>,
}

impl Page<'_> {
    /// The page as HTML.
    ///
    /// # Errors
    /// If an iteration is asked for that is not there, or a picture cannot be laid out.
    pub fn html(&self) -> Result<String, LedgerError> {
        let side = Side::of(&self.log.header);
        let predicted = self.predicted.as_ref().map(|predicted| {
            predicted
                .clone()
                .map(|log| Predicted(log.0.summary.clone()))
        });
        let predicted_log = self
            .predicted
            .clone()
            .map(|predicted| predicted.map(|log| log.0));
        let known = predicted_log.as_ref().and_then(Figure::known);
        let html = Html {
            head: Head::of(self.summary, &side, predicted.as_ref()),
            other: known.map(|log| Side::of(&log.header)),
            jobs: super::jobs::jobs(self.summary, &side, predicted.as_ref()),
            causes: Causes::of(self.log, known.copied(), &side),
            timeline: Timeline::of(self.log, self.summary, &side),
            pipeline: Pipeline::of(self.log, predicted_log, self.iteration)?,
            jct: match side.is_measured() {
                true => Some(Jct::of(self.policies)?),
                false => None,
            },
            links: LinksView::of(self.summary, &side),
            dollars: DollarsView::of(self.spending.clone(), &side)?,
            decisions: Decisions::of(self.log),
            side,
        };
        html.render()
            .map_err(|error| LedgerError::Undrawable(error.to_string()))
    }
}
