//! Meters of energy, as runs find them: NVML for GPUs, RAPL for processors.

use bace_meter::{Absent, Missing, Places, SourceKind, Survey, Wanted};

use super::finding::Finding;

/// Meters; a run without them reports the modelled energy alone.
pub fn look() -> Vec<Finding> {
    findings(&Survey::take(
        &Places::from_environment(),
        &Wanted::AllBoards,
    ))
}

fn findings(survey: &Survey) -> Vec<Finding> {
    let present = survey.sources.iter().map(|source| {
        let found = format!("{}: {}", source.name, source.provenance);
        match source.kind {
            SourceKind::NvmlEnergy => Finding::present("NVML", found),
            SourceKind::NvmlPower => Finding::limited(
                "NVML",
                found,
                "boards from Volta on have an energy counter; on this one expect an error of some percent",
            ),
            SourceKind::Rapl | SourceKind::Model => Finding::present("RAPL", found),
        }
    });
    present.chain(survey.absent.iter().map(absent)).collect()
}

fn absent(absent: &Absent) -> Finding {
    let name = match absent.missing {
        Missing::Board(_) | Missing::Boards => "NVML",
        Missing::Processor | Missing::Nothing => "RAPL",
        Missing::All => "meters",
    };
    // A source may also be called by its kind as meters are: `nvml GPU-…`.
    let found = match absent.source.split_once(' ') {
        None => absent.reason.clone(),
        Some((_, what)) => format!("{what}: {}", absent.reason),
    };
    match &absent.advice {
        Some(advice) => Finding::absent(name, found, advice.as_str()),
        // Left out on purpose: nothing is missing.
        None => Finding::present(name, found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn what_is_absent_says_what_to_do_and_what_is_left_out_is_not_missed() {
        let survey = Survey {
            sources: Vec::new(),
            absent: vec![
                Absent::new(
                    "RAPL package-0",
                    Missing::Processor,
                    "it is for root alone",
                    "run as root",
                ),
                Absent::by_design(
                    "RAPL psys",
                    Missing::Nothing,
                    "left out: it holds the packages",
                ),
                Absent::new("NVML", Missing::Boards, "no library", "install the driver"),
                Absent::new(
                    "nvml GPU-1",
                    Missing::Boards,
                    "it cannot be read",
                    "see nvidia-smi",
                ),
            ],
        };
        let found = findings(&survey);
        let lines: Vec<_> = found
            .iter()
            .map(|finding| (finding.name, finding.state, finding.found.as_str()))
            .collect();
        assert_eq!(
            lines,
            [
                ("RAPL", State::Absent, "package-0: it is for root alone"),
                (
                    "RAPL",
                    State::Present,
                    "psys: left out: it holds the packages"
                ),
                ("NVML", State::Absent, "no library"),
                ("NVML", State::Absent, "GPU-1: it cannot be read"),
            ]
        );
        assert_eq!(found[0].advice.as_deref(), Some("run as root"));
        assert!(!found.iter().any(Finding::stops_a_run));
    }
}
