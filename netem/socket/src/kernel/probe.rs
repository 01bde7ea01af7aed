//! What this kernel can do, found by trying.

use bace_netem::{NamespaceName, NetworkName, Place, Qdiscs, RateQdisc};

use super::KernelError;
use super::command::run_words;
use super::network::remove;

/// The queueing disciplines of this kernel that serve links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelSupport {
    /// Token bucket filter.
    pub tbf: bool,
    /// Hierarchical token bucket.
    pub htb: bool,
    /// Delay, jitter and loss.
    pub netem: bool,
}

impl KernelSupport {
    /// What to shape links with: tbf rather than htb, since it cuts what exceeds its bucket into frames.
    ///
    /// # Errors
    /// When there is neither.
    pub fn qdiscs(self) -> Result<Qdiscs, KernelError> {
        let rate = match self {
            Self { tbf: true, .. } => RateQdisc::Tbf,
            Self { htb: true, .. } => RateQdisc::Htb,
            _ => return Err(KernelError::NoRateQdisc),
        };
        Ok(Qdiscs {
            rate,
            netem: self.netem,
        })
    }
}

/// Tries each discipline on an interface in a namespace of its own, which is gone afterwards.
///
/// # Errors
/// When this process may not make namespaces, or iproute2 is missing.
pub fn probe(network: &NetworkName) -> Result<KernelSupport, KernelError> {
    let place = Place::Probe;
    let name = NamespaceName {
        network: network.clone(),
        place,
    };
    let probe = Throwaway::make(name)?;
    let about = "trying what the kernel has";
    let name = &probe.0;
    run_words(
        &format!("ip -n {name} link add name try type veth peer name peer"),
        about,
    )?;
    let has = |words: &str| {
        let tried = run_words(&format!("tc -n {name} qdisc add dev {words}"), about);
        match tried {
            Ok(_) => Ok(true),
            Err(KernelError::Command { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    };
    let delete = || run_words(&format!("tc -n {name} qdisc delete dev try root"), about);
    let tbf = has("try root tbf rate 1mbit burst 3028 limit 10000")?;
    if tbf {
        delete()?;
    }
    let htb = has("try root htb default 1")?;
    if htb {
        delete()?;
    }
    let netem = has("try root netem delay 1ms")?;
    Ok(KernelSupport { tbf, htb, netem })
}

/// A namespace that is gone when this is.
pub(super) struct Throwaway(NamespaceName);

impl Throwaway {
    pub fn make(name: NamespaceName) -> Result<Self, KernelError> {
        run_words(
            &format!("ip netns add {name}"),
            "trying whether namespaces are allowed",
        )?;
        Ok(Self(name))
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        if let Err(error) = remove([&self.0]) {
            tracing::error!("failed to {error}");
        }
    }
}
