//! Whether a run's joules add up, from the records of its ledger.

use bace_api::{EnergyColumn, MeterTotalRecord, PhysicalEnergyRecord, Record};

use super::verdict::Check;

/// Most by which a counter's joules may differ from those of workers and what belongs to none, relative.
const TOLERANCE: f64 = 1e-3;
const UJ_PER_J: f64 = 1e6;

/// A run whose ledger has been read.
#[derive(Debug, Clone, Copy)]
pub struct MeteredRun<'a> {
    /// What the report calls it.
    pub name: &'a str,
    /// Its ledger.
    pub records: &'a [Record],
    /// UUIDs of the boards that were asked for; none on the CPU.
    pub boards: &'a [String],
    /// Whether workers compute on every one of them: with several boards, the jobs may need fewer.
    pub all_compute: bool,
}

impl MeteredRun<'_> {
    /// Whether what each meter counted is more than nothing and the sum of what workers are charged with and what belongs to
    /// nobody, and whether workers on each board were charged with anything.
    pub fn checks(&self) -> Vec<Check> {
        let meters = self.records.iter().filter_map(|record| match record {
            Record::Meter(meter) if meter.column == EnergyColumn::Physical => Some(&meter.meter),
            _ => None,
        });
        let mut checks: Vec<Check> = meters.map(|meter| self.conserved(meter)).collect();
        if checks.is_empty() && self.boards.is_empty() {
            let name = format!("{}: energy", self.name);
            checks.push(Check::left_out(name, self.why_absent("")));
        }
        checks.extend(self.boards.iter().map(|board| self.charged(board)));
        checks
    }

    fn conserved(&self, meter: &str) -> Check {
        let name = format!("{}: energy of {meter}", self.name);
        let Some(total) = self.total(meter) else {
            return Check::is(name, false, "the ledger does not say what it counted");
        };
        if let Some(at_s) = total.lost_at_s {
            let reason = total.lost_reason.as_deref().unwrap_or("no reason is told");
            let found = format!("it could not be read any more from {at_s:.1} s on: {reason}");
            return Check::is(name, false, found);
        }
        let workers_uj: u64 = self.shares(meter).map(|share| share.energy_uj).sum();
        let [counted, workers, nobodys] =
            [total.energy_uj, workers_uj, total.unattributed_uj].map(|uj| uj as f64 / UJ_PER_J);
        let gap = (workers + nobodys - counted).abs();
        Check::is(
            name,
            total.energy_uj > 0 && gap <= TOLERANCE * counted,
            format!(
                "{counted:.3} J counted, {workers:.3} J of workers and {nobodys:.3} J of nobody"
            ),
        )
    }

    /// Whether workers on a board were charged with joules of it.
    fn charged(&self, uuid: &str) -> Check {
        let name = format!("{}: workers' energy on {uuid}", self.name);
        let meter = format!("nvml {uuid}");
        if self.total(&meter).is_none() {
            return Check::is(name, false, self.why_absent(uuid));
        }
        let device_s: f64 = self.shares(&meter).map(|share| share.device_s).sum();
        let energy_uj: u64 = self.shares(&meter).map(|share| share.energy_uj).sum();
        if device_s == 0.0 && !self.all_compute {
            return Check::left_out(name, "no worker computed on it");
        }
        let joules = energy_uj as f64 / UJ_PER_J;
        let found = format!("{joules:.3} J within {device_s:.2} s of computing");
        Check::is(name, energy_uj > 0, found)
    }

    fn total(&self, meter: &str) -> Option<&MeterTotalRecord> {
        self.records.iter().find_map(|record| match record {
            Record::MeterTotal(total) if total.meter == meter => Some(total),
            _ => None,
        })
    }

    fn shares(&self, meter: &str) -> impl Iterator<Item = &PhysicalEnergyRecord> {
        self.records.iter().filter_map(move |record| match record {
            Record::PhysicalEnergy(share) if share.meter == meter => Some(share),
            _ => None,
        })
    }

    /// Why the meter of `board`, or any where it is empty, is not there.
    fn why_absent(&self, board: &str) -> String {
        let absent = self.records.iter().filter_map(|record| match record {
            Record::MeterAbsent(absent) => Some(absent),
            _ => None,
        });
        let concerned = absent.filter(|one| one.meter.ends_with(board) || one.meter == "NVML");
        let reasons: Vec<_> = concerned
            .map(|absent| format!("{}: {}", absent.meter, absent.reason))
            .collect();
        match reasons.is_empty() {
            true => "the run names no meter of it".to_owned(),
            false => reasons.join("; "),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::verdict::Verdict::{self, Failed, LeftOut, Passed};
    use super::*;

    fn judged(lines: &[Value], boards: &[&str], all_compute: bool) -> Vec<Verdict> {
        let records = lines.iter().cloned().map(serde_json::from_value);
        let records: Vec<Record> = records.map(Result::unwrap).collect();
        let boards: Vec<_> = boards.iter().map(|&board| board.to_owned()).collect();
        let run = MeteredRun {
            name: "paced run",
            records: &records,
            boards: &boards,
            all_compute,
        };
        run.checks().iter().map(|check| check.verdict).collect()
    }

    fn meter(meter: &str) -> Value {
        json!({"kind": "meter", "at_s": 0.0, "meter": meter, "source": "nvml_energy", "column": "physical",
               "unit": "mJ", "resolution": 1.0, "provenance": "p"})
    }

    fn share(meter: &str, device_s: f64, energy_uj: u64) -> Value {
        json!({"kind": "physical_energy", "at_s": 5.0, "meter": meter, "worker": "w0", "device_s": device_s,
               "energy_uj": energy_uj})
    }

    fn total(meter: &str, energy_uj: u64, unattributed_uj: u64) -> Value {
        json!({"kind": "meter_total", "at_s": 9.0, "meter": meter, "from_s": 0.0, "to_s": 9.0,
               "energy_uj": energy_uj, "unattributed_uj": unattributed_uj, "readings": 90})
    }

    #[test]
    fn shares_have_to_add_up_to_what_was_counted() {
        let of = |share_uj| {
            let name = "nvml GPU-1";
            let lines = [
                meter(name),
                share(name, 1.0, share_uj),
                share(name, 1.0, 100_000_000),
                total(name, 1_000_000_000, 400_000_000),
            ];
            judged(&lines, &["GPU-1"], true)
        };
        assert_eq!(of(500_000_000), [Passed, Passed]);
        assert_eq!(of(500_900_000), [Passed, Passed]);
        assert_eq!(of(501_100_000), [Failed, Passed]);
        // A share that is missing from the ledger.
        assert_eq!(of(0), [Failed, Passed]);
    }

    #[test]
    fn a_counter_that_stood_still_or_was_lost_passes_nothing() {
        let name = "nvml GPU-1";
        let still = [meter(name), share(name, 1.0, 0), total(name, 0, 0)];
        assert_eq!(judged(&still, &["GPU-1"], true), [Failed, Failed]);
        let unread = [meter(name), share(name, 1.0, 5)];
        assert_eq!(judged(&unread, &[], true), [Failed]);
        let mut lost = total(name, 5, 0);
        lost["lost_at_s"] = json!(3.0);
        assert_eq!(
            judged(&[meter(name), share(name, 1.0, 5), lost], &[], true),
            [Failed]
        );
    }

    #[test]
    fn every_board_asked_for_is_metered_and_charges_its_workers() {
        let (one, other) = ("nvml GPU-1", "nvml GPU-2");
        let lines = [
            meter(one),
            meter(other),
            share(one, 1.0, 600),
            total(one, 1000, 400),
            total(other, 1000, 1000),
        ];
        let boards = ["GPU-1", "GPU-2"];
        assert_eq!(
            judged(&lines, &boards, true),
            [Passed, Passed, Passed, Failed]
        );
        assert_eq!(
            judged(&lines, &boards, false),
            [Passed, Passed, Passed, LeftOut]
        );
        let third = judged(&lines, &["GPU-1", "GPU-3"], false);
        assert_eq!(third, [Passed, Passed, Passed, Failed]);
    }

    #[test]
    fn without_a_meter_the_cpu_is_left_out_and_a_gpu_fails_with_the_reason() {
        let lines = [
            json!({"kind": "meter_absent", "at_s": 0.0, "meter": "RAPL", "reason": "a virtual machine"}),
            json!({"kind": "meter_absent", "at_s": 0.0, "meter": "NVML", "reason": "no driver"}),
        ];
        assert_eq!(judged(&lines, &[], true), [LeftOut]);
        assert_eq!(judged(&lines, &["GPU-1"], false), [Failed]);
        let records = lines.map(|line| serde_json::from_value(line).unwrap());
        let run = MeteredRun {
            name: "native run",
            records: &records,
            boards: &["GPU-1".to_owned()],
            all_compute: false,
        };
        assert_eq!(run.checks()[0].found, "NVML: no driver");
    }
}
