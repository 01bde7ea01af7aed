//! RAPL, the energy counters of processors, as the kernel's powercap shows them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::counter::{Counter, Health};
use crate::meter::{Meter, ReadError, Source, SourceKind};
use crate::{Absent, Missing, Place};

/// Sources of this kind as they may be absent.
const RAPL: &str = "RAPL";
const ELSEWHERE: &str = "the kernel shows the zone and not its counter; measure energy elsewhere";
/// Zones of processors, Intel's and AMD's alike. `intel-rapl-mmio:` shows the same packages a second time.
const ZONES: &str = "intel-rapl:";
/// Longest text of a counter: 20 digits and a line break.
const COUNTER_BYTES: usize = 32;
/// How often the counters change, ns.
const REFRESH_NS: u64 = 1_000_000;

/// One domain of a processor.
#[derive(Debug)]
pub(crate) struct Domain {
    file: File,
    path: PathBuf,
    place: Place,
    source: Source,
    counter: Counter,
}

/// A zone of the tree.
#[derive(Debug)]
struct Zone {
    /// `intel-rapl:0` or `intel-rapl:0:1`.
    id: String,
    /// `package-0`, `dram`, `core`, `uncore`, `psys`.
    name: String,
    folder: PathBuf,
}

/// The domains below `root` that count each joule once: packages, and memory, which is not part of its package. Cores and
/// uncore are parts of their package, and psys holds everything else; they are left out.
pub(crate) fn domains(root: &Path) -> Vec<Result<Domain, Absent>> {
    let mut unknown = Vec::new();
    let zones = match zones(root, &mut unknown) {
        Ok(zones) if zones.is_empty() && unknown.is_empty() => return vec![Err(none(root, None))],
        Ok(zones) => zones,
        Err(error) => return vec![Err(none(root, Some(&error)))],
    };
    let mut domains: Vec<_> = unknown.into_iter().map(Err).collect();
    for zone in &zones {
        let top = zone.id.matches(':').count() == 1;
        let name = match (top, zone.name.as_str()) {
            (true, name) if name.starts_with("package") => name.to_owned(),
            (true, "psys") => {
                let reason =
                    "left out: the whole platform, which holds the packages that are counted";
                let psys = format!("{RAPL} psys");
                domains.push(Err(Absent::by_design(psys, Missing::Nothing, reason)));
                continue;
            }
            (false, "dram") => match parent(&zones, zone) {
                Some(package) => format!("{} dram", package.name),
                None => format!("{} dram", zone.id),
            },
            (true, other) => {
                let reason = format!("left out: zone {} is no package that is known", zone.id);
                let other = format!("{RAPL} {other}");
                domains.push(Err(Absent::by_design(other, Missing::Nothing, reason)));
                continue;
            }
            // Cores and uncore are in their package already.
            (false, _) => continue,
        };
        domains.push(Domain::open(&zone.folder, &name));
    }
    domains
}

fn parent<'a>(zones: &'a [Zone], part: &Zone) -> Option<&'a Zone> {
    let (package, _) = part.id.rsplit_once(':')?;
    zones.iter().find(|zone| zone.id == package)
}

/// All zones, by id; parts lie within their package's folder, and mostly beside it as well. Those that do not tell what they
/// are go to `unknown`.
fn zones(root: &Path, unknown: &mut Vec<Absent>) -> std::io::Result<Vec<Zone>> {
    let mut zones: Vec<Zone> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut found = zones_in(root)?;
    while let Some((id, folder)) = found.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let source = format!("{RAPL} {id}");
        let name = folder.join("name");
        match fs::read_to_string(&name) {
            Ok(name) => zones.push(Zone {
                id,
                name: name.trim().to_owned(),
                folder: folder.clone(),
            }),
            Err(error) => unknown.push(unreadable(&source, &name, &error)),
        }
        match zones_in(&folder) {
            Ok(parts) => found.extend(parts),
            Err(error) => unknown.push(unreadable(&source, &folder, &error)),
        }
    }
    zones.sort_by(|one, two| one.id.cmp(&two.id));
    Ok(zones)
}

/// Ids and folders of the zones right below `folder`.
fn zones_in(folder: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut zones = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // An id that is no text is none of these.
        let id = entry.file_name().into_string().unwrap_or_default();
        if id.starts_with(ZONES) && id.len() > ZONES.len() {
            zones.push((id, entry.path()));
        }
    }
    Ok(zones)
}

impl Domain {
    fn open(folder: &Path, name: &str) -> Result<Self, Absent> {
        let absent = format!("{RAPL} {name}");
        let number = |file: &str| {
            let path = folder.join(file);
            let text =
                fs::read_to_string(&path).map_err(|error| unreadable(&absent, &path, &error))?;
            let number = text.trim().parse::<u64>();
            number.map_err(|_| no_number(&absent, &path, &text))
        };
        let range = number("max_energy_range_uj")?;
        let path = folder.join("energy_uj");
        number("energy_uj")?;
        let file = File::open(&path).map_err(|error| unreadable(&absent, &path, &error))?;
        Ok(Self {
            file,
            place: Place::Processor,
            source: Source {
                name: format!("rapl {name}"),
                kind: SourceKind::Rapl,
                unit: "uJ",
                resolution: 1.0,
                refresh_ns: Some(REFRESH_NS),
                provenance: format!(
                    "RAPL energy counter of {name} through {}; it changes about every 1 ms, in steps of the hardware of \
                     15 to 61 uJ, and begins anew after {:.0} J",
                    path.display(),
                    range as f64 / 1e6
                ),
            },
            counter: Counter::new(vec![u128::from(range)], 1),
            path,
        })
    }
}

impl Meter for Domain {
    fn source(&self) -> &Source {
        &self.source
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn read(&mut self, now_ns: u64) -> Result<u64, ReadError> {
        let path = self.path.display();
        let mut bytes = [0; COUNTER_BYTES];
        // At the beginning each time: the kernel makes the text anew.
        let length = self.file.read_at(&mut bytes, 0);
        let length = length.map_err(|error| ReadError(format!("{path}: {error}")))?;
        let text = std::str::from_utf8(&bytes[..length]).unwrap_or_default();
        let raw = text.trim().parse();
        let raw = raw.map_err(|_| ReadError(format!("{path} holds no number")))?;
        Ok(self.counter.advance(raw, now_ns))
    }

    fn health(&self) -> Health {
        self.counter.health()
    }
}

fn none(root: &Path, error: Option<&std::io::Error>) -> Absent {
    let reason = match error {
        Some(error) if error.kind() == ErrorKind::NotFound => {
            format!("the kernel shows no {}", root.display())
        }
        Some(error) => format!("{} cannot be read: {error}", root.display()),
        None => format!("no zone {ZONES}N in {}", root.display()),
    };
    if is_virtual_machine() {
        Absent::new(
            RAPL,
            Missing::Processor,
            format!(
                "{reason}; this is a virtual machine, whose host keeps the processor's counters"
            ),
            "measure on the host, or on hardware",
        )
    } else {
        Absent::new(
            RAPL,
            Missing::Processor,
            reason,
            "modprobe intel_rapl_msr; processors before 2011 (Intel) or 2017 (AMD) have no counter",
        )
    }
}

/// Whether the processor says that it is not a real one.
fn is_virtual_machine() -> bool {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

fn unreadable(source: &str, path: &Path, error: &std::io::Error) -> Absent {
    if error.kind() == ErrorKind::PermissionDenied {
        return Absent::new(
            source,
            Missing::Processor,
            format!("{} is for root alone", path.display()),
            "kernels hide it, since energy tells what others compute (CVE-2020-8694): run as root, or chmod o+r it on a \
             machine that is yours alone",
        );
    }
    Absent::new(
        source,
        Missing::Processor,
        format!("{} cannot be read: {error}", path.display()),
        ELSEWHERE,
    )
}

fn no_number(source: &str, path: &Path, text: &str) -> Absent {
    let held: String = text.trim().chars().take(COUNTER_BYTES).collect();
    Absent::new(
        source,
        Missing::Processor,
        format!("{} holds `{held}`, no number", path.display()),
        ELSEWHERE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_for_root_alone_says_what_to_do() {
        let forbidden = std::io::Error::from(ErrorKind::PermissionDenied);
        let absent = unreadable("RAPL package-0", Path::new("/x/energy_uj"), &forbidden);
        assert_eq!(absent.reason, "/x/energy_uj is for root alone");
        let advice = absent.advice.unwrap();
        assert!(advice.contains("chmod o+r"), "{advice}");
    }
}
