//! Regions and pairs of regions by name.

use bace_netem::{LinkId, RegionId};
use toml::Spanned;

use super::error::{Fault, suggestion};
use super::types::Region;

/// Regions by name.
pub(super) struct RegionNames<'a>(pub &'a [Region]);

impl RegionNames<'_> {
    /// The region of this name; the error suggests the nearest.
    pub fn find(&self, name: &Spanned<String>) -> Result<RegionId, Fault> {
        self.0
            .iter()
            .position(|region| region.name == *name.get_ref())
            .and_then(RegionId::from_index)
            .ok_or_else(|| {
                let names: Vec<&str> = self.0.iter().map(|region| region.name.as_str()).collect();
                let hint = suggestion(name.get_ref(), &names);
                let message = format!("no region is named `{}`; {hint}", name.get_ref());
                Fault::at(name.span(), message)
            })
    }

    /// The region's name.
    pub fn name(&self, id: RegionId) -> &str {
        &self.0[id.index()].name
    }
}

/// The ends of a link in either form: `between` for both directions, `from` and `to` for one.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    pub between: Option<&'a Spanned<Vec<Spanned<String>>>>,
    pub from: Option<&'a Spanned<String>>,
    pub to: Option<&'a Spanned<String>>,
}

impl Ends<'_> {
    /// The directed links of these ends; `table` is the whole entry.
    pub fn resolve(
        self,
        table: std::ops::Range<usize>,
        regions: &RegionNames<'_>,
    ) -> Result<Vec<LinkId>, Fault> {
        let (both, one, other) = match (self.between, self.from, self.to) {
            (Some(between), None, None) => match between.get_ref().as_slice() {
                [one, other] => (true, one, other),
                _ => {
                    let message = "`between` names two regions, such as [\"a\", \"b\"]";
                    return Err(Fault::at(between.span(), message));
                }
            },
            (None, Some(from), Some(to)) => (false, from, to),
            _ => {
                let message = "a link has either `between` (both directions) or `from` and `to` (one direction)";
                return Err(Fault::at(table, message));
            }
        };
        let link = LinkId::new(regions.find(one)?, regions.find(other)?);
        if link.is_fabric() {
            let message = "a link joins two regions; `fabric_gbps` of a region is its inside";
            return Err(Fault::at(other.span(), message));
        }
        Ok(if both {
            vec![link, link.reversed()]
        } else {
            vec![link]
        })
    }

    /// The name that a message about the pair points at.
    pub fn span(self) -> std::ops::Range<usize> {
        self.between
            .map(Spanned::span)
            .or_else(|| self.to.map(Spanned::span))
            .unwrap_or_default()
    }
}
