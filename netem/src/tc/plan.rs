//! A network of namespaces as a list of commands.
//!
//! One namespace for each region and one, the hub, for the coordinator. Every region has one address, on its loopback
//! interface, and a pair of virtual interfaces to the hub, unshaped, for control. Regions with a link between them have
//! a pair of their own, whose ends are shaped; each routes to the other's address over it. All interfaces are made
//! inside the namespaces, so that the host's own is never touched, and all goes when the namespaces go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::command::TcCommand;
use super::names::{HUB_INTERFACE, MOST_TC_REGIONS, NetworkName, Place, address, fnv1a, interface};
use super::shape::{End, Qdiscs};
use crate::{LinkId, LinkSpec, RegionId, Route};

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// More regions than interfaces are made for.
    #[error(
        "lay out {0} regions as network namespaces: each pair needs interfaces of its own, and there may be at most {MOST_TC_REGIONS}"
    )]
    TooManyRegions(usize),
    /// A link with a number above those that tc takes.
    #[error("shape the link {link} in the kernel: {what}")]
    BeyondTc {
        /// The link's ends, by name.
        link: String,
        /// What of it, and what would be right.
        what: String,
    },
}

/// What makes a scenario's regions and links out of namespaces and queueing disciplines.
#[derive(Debug, Clone)]
pub struct TcPlan {
    name: NetworkName,
    regions: Vec<String>,
    /// As they are now.
    links: BTreeMap<LinkId, LinkSpec>,
    qdiscs: Qdiscs,
}

impl TcPlan {
    /// The network `name` of these regions, by [`RegionId`], and links.
    ///
    /// # Errors
    /// When there are more than [`MOST_TC_REGIONS`], or a link is larger than tc can make it.
    pub fn new(
        name: NetworkName,
        regions: Vec<String>,
        links: BTreeMap<LinkId, LinkSpec>,
        qdiscs: Qdiscs,
    ) -> Result<Self, PlanError> {
        if regions.len() > MOST_TC_REGIONS {
            return Err(PlanError::TooManyRegions(regions.len()));
        }
        let plan = Self {
            name,
            regions,
            links,
            qdiscs,
        };
        for (&link, spec) in &plan.links {
            plan.check(link, spec)?;
        }
        Ok(plan)
    }

    /// What is not quite as the scenario says, since tc cannot make it so: a sentence for each link.
    pub fn remarks(&self) -> Vec<String> {
        let remark =
            |(&link, spec)| self.with_end(link, spec, |end, route| end.remark(route, self.qdiscs));
        self.links.iter().filter_map(remark).collect()
    }

    /// What the network is called.
    pub fn name(&self) -> &NetworkName {
        &self.name
    }

    /// What its links are shaped with.
    pub fn qdiscs(&self) -> Qdiscs {
        self.qdiscs
    }

    /// All namespaces: the hub, then the regions, with a word for each.
    pub fn places(&self) -> impl Iterator<Item = (Place, &str)> {
        let regions = self.region_ids().zip(&self.regions);
        let regions = regions.map(|(region, name)| (Place::Region(region), name.as_str()));
        [(Place::Hub, HUB_INTERFACE)].into_iter().chain(regions)
    }

    /// The one address of a place, inside its namespace.
    pub fn address(&self, place: Place) -> Ipv4Addr {
        address(place)
    }

    /// The namespace of a place.
    pub fn namespace(&self, place: Place) -> String {
        self.name.namespace(place)
    }

    /// All commands in order; the last leaves [`mark`](Self::mark) in the hub, so that only a network that is complete
    /// has it.
    pub fn commands(&self) -> Vec<TcCommand> {
        let mut commands = self.unmarked();
        commands.push(TcCommand::new(
            "the sign that all is there",
            &format!(
                "ip -n {} link set dev lo alias {}",
                self.namespace(Place::Hub),
                self.mark()
            ),
        ));
        commands
    }

    /// Tells this plan from any other of the same name.
    pub fn mark(&self) -> String {
        let lines: Vec<String> = self.unmarked().iter().map(TcCommand::to_string).collect();
        format!("bace-{:016x}", fnv1a(lines.join("\n").as_bytes()))
    }

    /// The commands that give `link` another rate, delay, jitter or loss from now on; none where there is no such link.
    ///
    /// # Errors
    /// When the link is larger than tc can make it; nothing has changed then.
    pub fn change(&mut self, link: LinkId, spec: LinkSpec) -> Result<Vec<TcCommand>, PlanError> {
        let Some(&before) = self.links.get(&link) else {
            return Ok(Vec::new());
        };
        self.check(link, &spec)?;
        self.links.insert(link, spec);
        Ok(self.shape(link, Some(&before), &spec))
    }

    /// A link as it is now.
    pub fn link(&self, link: LinkId) -> Option<&LinkSpec> {
        self.links.get(&link)
    }

    fn unmarked(&self) -> Vec<TcCommand> {
        let mut commands = Vec::new();
        for (place, word) in self.places() {
            self.make_place(&mut commands, place, word);
        }
        for region in self.region_ids() {
            self.lead_to_hub(&mut commands, region);
        }
        let pairs: BTreeSet<_> = self
            .links
            .keys()
            .map(|link| (link.from.min(link.to), link.from.max(link.to)))
            .collect();
        for (one, other) in pairs {
            self.join(&mut commands, one, other);
        }
        commands
    }

    fn region_ids(&self) -> impl Iterator<Item = RegionId> + use<> {
        let regions = u16::try_from(self.regions.len()).expect("a plan has few regions");
        (0..regions).map(RegionId::new)
    }

    fn region(&self, region: RegionId) -> &str {
        &self.regions[region.index()]
    }

    /// The interface that leads to `region`.
    fn interface(&self, region: RegionId) -> String {
        interface(region, self.region(region))
    }

    fn make_place(&self, commands: &mut Vec<TcCommand>, place: Place, word: &str) {
        let (namespace, address) = (self.namespace(place), address(place));
        let about = match place {
            Place::Region(_) => format!("region {word}"),
            Place::Hub | Place::Probe => format!("the {word}, where the coordinator is"),
        };
        let command = |words: String| TcCommand::new(&about, &words);
        commands.extend([
            command(format!("ip netns add {namespace}"))
                .undone_by(&format!("ip netns delete {namespace}")),
            command(format!("ip -n {namespace} address add {address}/32 dev lo")),
            command(format!("ip -n {namespace} link set dev lo up")),
        ]);
    }

    fn lead_to_hub(&self, commands: &mut Vec<TcCommand>, region: RegionId) {
        let about = format!("control of {}, unshaped", self.region(region));
        let ends = [
            (Place::Hub, self.interface(region)),
            (Place::Region(region), HUB_INTERFACE.to_owned()),
        ];
        self.cable(commands, &about, &ends);
    }

    fn join(&self, commands: &mut Vec<TcCommand>, one: RegionId, other: RegionId) {
        let about = format!("{} and {}", self.region(one), self.region(other));
        let ends = [
            (Place::Region(one), self.interface(other)),
            (Place::Region(other), self.interface(one)),
        ];
        self.cable(commands, &about, &ends);
        let there = LinkId::new(one, other);
        for link in [there, there.reversed()] {
            // A direction without a link carries acknowledgements only, as fast as it can.
            if let Some(spec) = self.links.get(&link) {
                commands.extend(self.shape(link, None, spec));
            }
        }
    }

    /// A pair of interfaces and the routes over it.
    fn cable(&self, commands: &mut Vec<TcCommand>, about: &str, ends: &[(Place, String); 2]) {
        let [(one, one_device), (other, other_device)] = ends;
        let [one_ns, other_ns] = [*one, *other].map(|place| self.namespace(place));
        let [one_ip, other_ip] = [*one, *other].map(address);
        let mut add = |words: String| commands.push(TcCommand::new(about, &words));
        add(format!(
            "ip -n {one_ns} link add name {one_device} type veth peer name {other_device} netns {other_ns}"
        ));
        for (namespace, device, here, there) in [
            (&one_ns, one_device, one_ip, other_ip),
            (&other_ns, other_device, other_ip, one_ip),
        ] {
            add(format!("ip -n {namespace} link set dev {device} up"));
            add(format!(
                "ip -n {namespace} route add {there}/32 dev {device} src {here}"
            ));
        }
    }

    fn check(&self, link: LinkId, spec: &LinkSpec) -> Result<(), PlanError> {
        self.with_end(link, spec, |end, route| end.check(route, self.qdiscs))
    }

    fn shape(&self, link: LinkId, before: Option<&LinkSpec>, spec: &LinkSpec) -> Vec<TcCommand> {
        self.with_end(link, spec, |end, route| {
            end.shape(before, route, self.qdiscs)
        })
    }

    /// What `ask` says of the end that sends over `link`.
    fn with_end<T>(
        &self,
        link: LinkId,
        spec: &LinkSpec,
        ask: impl FnOnce(&End<'_>, &Route) -> T,
    ) -> T {
        let end = End {
            about: &format!("{} → {}", self.region(link.from), self.region(link.to)),
            namespace: &self.namespace(Place::Region(link.from)),
            interface: &self.interface(link.to),
        };
        let back = self.links.get(&link.reversed());
        let route = Route {
            there: *spec,
            back: back.copied().unwrap_or(*spec),
        };
        ask(&end, &route)
    }
}
