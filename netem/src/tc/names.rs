//! What namespaces, interfaces and addresses of an emulated network are called.

use std::fmt;
use std::net::Ipv4Addr;

use crate::RegionId;

/// Most regions of a network that the kernel emulates: each pair has interfaces of its own, and 32 regions have 496
/// pairs.
pub const MOST_TC_REGIONS: usize = 32;

/// What all namespaces of this program begin with.
const PREFIX: &str = "bace";
/// Letters of a scenario's name that namespaces show; the rest only shows in a hash.
const SCENARIO_LETTERS: usize = 40;
/// Letters of an interface's name: the kernel's 16 bytes end in a zero.
const INTERFACE_LETTERS: usize = 15;
/// The interface of a region's namespace that leads to the hub.
pub(super) const HUB_INTERFACE: &str = "hub";

/// Whose network it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// It was put up by hand and stays until it is taken down.
    Kept,
    /// The run with this process id, which takes it down.
    Run(u32),
}

/// What a namespace is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Where the coordinator is; it reaches all regions, unshaped.
    Hub,
    /// Where the workers of a region are.
    Region(RegionId),
    /// Where it is tried what the kernel has.
    Probe,
}

/// Names all that one network is made of: `bace-SCENARIO-up-…` or `bace-SCENARIO-PID-…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetworkName {
    /// The scenario's name, made fit for a file name.
    scenario: String,
    /// Whose it is.
    pub owner: Owner,
}

impl NetworkName {
    /// The network of this scenario and owner.
    pub fn new(scenario: &str, owner: Owner) -> Self {
        let kept: String = sanitised(scenario).take(SCENARIO_LETTERS).collect();
        let scenario = if kept == scenario {
            kept
        } else {
            // Names that differ only in what was left out stay apart.
            format!("{kept}-{:08x}", fnv1a(scenario.as_bytes()) as u32)
        };
        Self { scenario, owner }
    }

    /// The name of a namespace.
    pub fn namespace(&self, place: Place) -> String {
        NamespaceName {
            network: self.clone(),
            place,
        }
        .to_string()
    }

    /// Whether both are networks of one scenario.
    pub fn is_of_same_scenario(&self, other: &Self) -> bool {
        self.scenario == other.scenario
    }
}

/// The name of a namespace that this program has made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamespaceName {
    /// What it is a part of.
    pub network: NetworkName,
    /// What it is for.
    pub place: Place,
}

impl NamespaceName {
    /// What `text` names, if this program could have given that name.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?.strip_prefix('-')?;
        let (rest, place) = rest.rsplit_once('-')?;
        let (scenario, owner) = rest.rsplit_once('-')?;
        let place = match place {
            "hub" => Place::Hub,
            "probe" => Place::Probe,
            region => Place::Region(RegionId::new(region.strip_prefix('r')?.parse().ok()?)),
        };
        let owner = match owner {
            "up" => Owner::Kept,
            pid => Owner::Run(pid.parse().ok()?),
        };
        let network = NetworkName {
            scenario: scenario.to_owned(),
            owner,
        };
        let name = Self { network, place };
        // `r01` and `+7` read as numbers too.
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}-{}-", self.network.scenario)?;
        match self.network.owner {
            Owner::Kept => write!(f, "up-")?,
            Owner::Run(pid) => write!(f, "{pid}-")?,
        }
        match self.place {
            Place::Hub => write!(f, "hub"),
            Place::Region(region) => write!(f, "{region}"),
            Place::Probe => write!(f, "probe"),
        }
    }
}

/// The interface that leads to a region: its number, so that names differ, and what fits of its name.
pub(super) fn interface(region: RegionId, name: &str) -> String {
    let text = format!("{}-{name}", region.index());
    sanitised(&text).take(INTERFACE_LETTERS).collect()
}

/// An address in 198.18.0.0/15, which RFC 2544 sets apart for measuring networks, so that no host needs it for
/// anything else; it exists in namespaces only. Regions count from 198.18.1.1.
pub(super) fn address(place: Place) -> Ipv4Addr {
    match place {
        Place::Hub | Place::Probe => Ipv4Addr::new(198, 18, 0, 1),
        Place::Region(region) => {
            let number = u8::try_from(region.index() + 1).expect("there are few regions");
            Ipv4Addr::new(198, 18, 1, number)
        }
    }
}

/// `text` with what is neither an ASCII letter or digit nor `-` or `_` replaced.
fn sanitised(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().map(|c| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    })
}

/// The 64-bit FNV-1a hash: it has to be the same in every run, and keeps nobody from anything.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
