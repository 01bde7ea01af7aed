//! Meters of energy, as runs find them: NVML for GPUs, RAPL for processors.

use bace_meter::{Absent, Places, SourceKind, Survey, Wanted};

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
    let (name, what) = match absent.source.split_once(' ') {
        Some(("NVML", what)) => ("NVML", Some(what)),
        Some(("RAPL", what)) => ("RAPL", Some(what)),
        _ if absent.source == "NVML" => ("NVML", None),
        _ => ("RAPL", None),
    };
    let found = match what {
        Some(what) => format!("{what}: {}", absent.reason),
        None => absent.reason.clone(),
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
                Absent::new("RAPL package-0", "it is for root alone", "run as root"),
                Absent::by_design("RAPL psys", "left out: it holds the packages"),
                Absent::new("NVML", "no library", "install the driver"),
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
            ]
        );
        assert_eq!(found[0].advice.as_deref(), Some("run as root"));
        assert!(!found.iter().any(Finding::stops_a_run));
    }
}
