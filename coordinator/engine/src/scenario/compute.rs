//! How compute is emulated, and how much of it may be too slow.

use bace_api::ComputeRung;
use bace_netem::TimeScale;

use super::error::Fault;
use super::file::{ComputeFile, RungFile};
use super::limits;
use super::types::ComputeSettings;
use super::values::{count, optional};

/// How compute is emulated.
pub(super) fn settings(file: &ComputeFile) -> Result<ComputeSettings, Fault> {
    let default = ComputeSettings::default();
    Ok(ComputeSettings {
        rung: file.rung.map(|rung| match rung {
            RungFile::Modelled => ComputeRung::Modelled,
            RungFile::Paced => ComputeRung::Paced,
            RungFile::Native => ComputeRung::Native,
        }),
        time_scale: optional(&file.time_scale, limits::TIME_SCALE)?
            .and_then(TimeScale::new)
            .unwrap_or(default.time_scale),
        overrun_share: optional(&file.overrun_share, limits::KNOB)?
            .unwrap_or(default.overrun_share),
        lease: match &file.lease {
            Some(lease) => Some(count(lease, limits::LEASE)?),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Scenario, ScenarioError};
    use super::*;

    /// The settings of a scenario with these lines in its table.
    fn settings(lines: &str) -> Result<ComputeSettings, ScenarioError> {
        let text = format!(
            r#"
name = "one"

[compute]
{lines}

[[region]]
name = "here"
gpus = 1
gpu = "a6000"
price_usd_per_kwh = 0.1

[[job]]
name = "a"
model = "gpt2"
arrival_s = 0
iterations = 1
micro_batches = 1
micro_batch = 1
sequence = 64
"#
        );
        let scenario = Scenario::parse(&text, "one.toml", &|_| unreachable!("no file is named"));
        scenario.map(|scenario| scenario.compute)
    }

    fn refused(line: &str) -> String {
        settings(line).unwrap_err().to_string()
    }

    #[test]
    fn every_key_arrives() {
        let all = "rung = \"modelled\"\ntime_scale = 0.25\noverrun_share = 0.5\nlease = 2";
        assert_eq!(
            settings(all).unwrap(),
            ComputeSettings {
                rung: Some(ComputeRung::Modelled),
                time_scale: TimeScale::new(0.25).unwrap(),
                overrun_share: 0.5,
                lease: Some(2),
            }
        );
        for (name, rung) in [
            ("modelled", ComputeRung::Modelled),
            ("paced", ComputeRung::Paced),
            ("native", ComputeRung::Native),
        ] {
            let found = settings(&format!("rung = \"{name}\"")).unwrap().rung;
            assert_eq!((found, rung.name()), (Some(rung), name));
        }
    }

    #[test]
    fn without_keys_the_devices_decide_and_time_is_this_machines() {
        let default = settings("").unwrap();
        assert_eq!(default, ComputeSettings::default());
        assert_eq!((default.rung, default.lease), (None, None));
        assert_eq!(default.time_scale, TimeScale::ONE);
    }

    #[test]
    fn the_ends_of_the_range_are_within_it() {
        for line in [
            "time_scale = 0.001",
            "time_scale = 100_000",
            "lease = 4096",
            "overrun_share = 0",
        ] {
            assert!(settings(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn wrong_values_are_told_with_line_key_and_range() {
        let rung = refused("rung = \"modeled\"");
        assert!(
            rung.starts_with("read one.toml:5:8: `compute.rung`") && rung.contains("`modelled`"),
            "{rung}"
        );
        let range = "is out of range; it has to be a number from 0.001 up to 100000";
        for scale in ["0", "-2", "0.0009", "100_001", "inf", "nan"] {
            let told = refused(&format!("time_scale = {scale}"));
            assert!(
                told.starts_with("read one.toml:5:14: `compute.time_scale`")
                    && told.contains(range),
                "{told}"
            );
        }
        for lease in ["0", "-1", "4097"] {
            let told = refused(&format!("lease = {lease}"));
            assert!(
                told.contains("`compute.lease`") && told.contains("a whole number from 1 to 4096"),
                "{told}"
            );
        }
        let share = refused("overrun_share = -0.1");
        assert!(share.contains("`compute.overrun_share`"), "{share}");
        let unknown = refused("timescale = 2");
        assert!(unknown.contains("did you mean `time_scale`"), "{unknown}");
    }
}
