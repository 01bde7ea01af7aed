//! How a stage's neighbours are found when its job is prepared, and left when it is released.

use anyhow::bail;
use bace_api::{Prepare, StageIndex};
use bace_netem::FlowKey;
use bace_socket::{Connection, Endpoint};
use tokio::sync::oneshot;

use super::{Never, stage_purpose};
use crate::meeting::{Words, be_found, find};
use crate::neighbour::{LinkAccess, Neighbour, Towards};
use crate::peers::Arrival;
use crate::stage::Neighbours;

/// Closes the connections to both neighbours when the job is released, however it ended.
pub fn close_once_released(neighbours: &Neighbours, closed: oneshot::Receiver<Never>) {
    let both = [&neighbours.previous, &neighbours.next];
    let connections: Vec<_> = both
        .into_iter()
        .flatten()
        .map(Neighbour::connection)
        .collect();
    tokio::spawn(async move {
        let _ = closed.await;
        for connection in connections {
            connection.close("the job has ended");
        }
    });
}

/// How a stage finds its neighbours: it connects to the stage behind and is found by the one before.
pub struct Meeting<'a> {
    pub data: &'a Endpoint,
    pub links: &'a LinkAccess,
    pub prepare: &'a Prepare,
}

impl Meeting<'_> {
    pub async fn meet(
        &self,
        previous: oneshot::Receiver<Arrival>,
        closed: &mut oneshot::Receiver<Never>,
    ) -> anyhow::Result<Neighbours> {
        let towards = self.lay_links()?;
        let both = async {
            let [back, on] = towards;
            tokio::try_join!(self.found_by_previous(previous, back), self.find_next(on))
        };
        let (previous, next) = tokio::select! {
            both = both => both?,
            _ = closed => bail!("the job was dropped"),
        };
        Ok(Neighbours { previous, next })
    }

    /// Puts the links to the stage before and to the one behind in place.
    fn lay_links(&self) -> anyhow::Result<[Option<Towards<'_>>; 2]> {
        let Prepare { previous, next, .. } = self.prepare;
        let stage = self.prepare.stage.0;
        let previous = previous.as_ref();
        let next = next.as_ref();
        Ok([
            previous
                .map(|to| self.lay_link(to, StageIndex(stage - 1)))
                .transpose()?,
            next.map(|to| self.lay_link(to, StageIndex(stage + 1)))
                .transpose()?,
        ])
    }

    fn lay_link<'n>(
        &self,
        neighbour: &'n bace_api::Neighbour,
        to: StageIndex,
    ) -> anyhow::Result<Towards<'n>> {
        let flow = FlowKey {
            seed: self.prepare.seed,
            link: neighbour.link_id,
            job: self.prepare.id.0,
            from_stage: self.prepare.stage.0,
            to_stage: to.0,
        };
        let attempt = u64::from(self.prepare.attempt.0);
        Ok(self.links.lay(self.data, neighbour, flow, attempt)?)
    }

    async fn find_next(&self, towards: Option<Towards<'_>>) -> anyhow::Result<Option<Neighbour>> {
        let Some(mut towards) = towards else {
            return Ok(None);
        };
        let stage = self.prepare.stage.0 + 1;
        let (who, words) = (format!("stage {stage}"), self.words(stage));
        let connection = find(self.data, self.links, &mut towards, words, &who).await?;
        self.begin(connection, towards).map(Some)
    }

    async fn found_by_previous(
        &self,
        arrival: oneshot::Receiver<Arrival>,
        towards: Option<Towards<'_>>,
    ) -> anyhow::Result<Option<Neighbour>> {
        let Some(mut towards) = towards else {
            return Ok(None);
        };
        let stage = self.prepare.stage.0 - 1;
        let (who, words) = (format!("stage {stage}"), self.words(stage));
        let connection = be_found(arrival, self.links, &mut towards, words, &who).await?;
        self.begin(connection, towards).map(Some)
    }

    fn begin(&self, connection: Connection, towards: Towards<'_>) -> anyhow::Result<Neighbour> {
        let neighbour = Neighbour::start(connection, towards, self.links, self.prepare)?;
        Ok(neighbour)
    }

    fn words(&self, theirs: u32) -> Words {
        Words {
            own: stage_purpose(self.prepare, self.prepare.stage),
            theirs: stage_purpose(self.prepare, StageIndex(theirs)),
        }
    }
}
