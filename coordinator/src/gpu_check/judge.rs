//! Verdicts from what workers and runs say of themselves, as JSON.

use serde_json::Value;

use super::verdict::Check;

/// Most that a loss on a GPU may differ from the CPU's, or a pipeline's from one process's, in fp32, relative.
const FP32_TOLERANCE: f64 = 1e-4;
/// The same in bf16, whose kernels may add in any order: its numbers have 8 bits.
const BF16_TOLERANCE: f64 = 1e-2;
/// Most by which a counter's joules may differ from those of workers and what belongs to none, relative.
const ENERGY_TOLERANCE: f64 = 1e-3;

/// What `bace-worker parity` compared on `device`.
pub fn compared(device: &str, compared: &Value) -> Vec<Check> {
    let difference = |name: &str, value: &Value, tolerance: f64| {
        let name = format!("{device}: {name}");
        let Some(worst) = value["worst_relative"].as_f64() else {
            return Check::is(name, false, format!("no losses to compare in {value}"));
        };
        let bits = match value["bit_identical"].as_bool() {
            Some(true) => ", bit-identical",
            Some(false) => ", other bits",
            None => "",
        };
        let found = format!("losses differ by {worst:.2e}{bits}; at most {tolerance:.0e}");
        Check::is(name, worst <= tolerance, found)
    };
    let pipeline = &compared["pipeline"];
    let transfer = &compared["transfer"];
    let understood = compared["out_of_memory"]["understood"].as_str();
    vec![
        difference("fp32 as on the CPU", &compared["parity"], FP32_TOLERANCE),
        difference(
            "fp32 pipeline as one process",
            &pipeline["fp32"],
            FP32_TOLERANCE,
        ),
        difference(
            "bf16 pipeline as one process",
            &pipeline["bf16"],
            BF16_TOLERANCE,
        ),
        Check::is(
            format!("{device}: tensors to the device and back"),
            transfer["bit_exact"] == true,
            format!("{} tensors", transfer["tensors"]),
        ),
        Check::is(
            format!("{device}: short memory is told"),
            understood.is_some(),
            understood.map_or_else(
                || format!("not understood: {}", compared["out_of_memory"]["said"]),
                str::to_owned,
            ),
        ),
    ]
}

/// The summary of a run that was expected to finish.
pub fn run(name: &str, summary: &Value) -> Check {
    let jobs = summary["jobs"].as_array().map_or(0, Vec::len);
    let left = ["refused", "waiting"].map(|key| summary[key].as_array().map_or(0, Vec::len));
    let unfinished = summary["jobs"].as_array().into_iter().flatten();
    let unfinished = unfinished
        .filter(|job| job["finish_s"].as_f64().is_none())
        .count();
    let mean = summary["mean_jct_s"].as_f64();
    let found = match mean {
        Some(mean) => format!("{jobs} jobs, {unfinished} unfinished, mean JCT {mean:.2} s"),
        None => format!("{jobs} jobs, {unfinished} unfinished"),
    };
    let finished = jobs > 0 && unfinished == 0 && left == [0, 0];
    Check::is(name, finished && mean.is_some(), found)
}

/// Whether joules of workers and those of nobody add up to what each meter counted; GPUs have to be metered where
/// `needs_gpu_meter` says so.
pub fn energy(physical: &Value, needs_gpu_meter: bool) -> Vec<Check> {
    let none = Vec::new();
    let meters = physical["meters"].as_array().unwrap_or(&none);
    // What emulated GPUs would have drawn is computed and not counted.
    let counted = meters.iter().filter(|meter| meter["source"] != "model");
    let mut checks: Vec<Check> = counted.map(conserved).collect();
    let has_gpu = meters.iter().any(|meter| {
        let source = meter["source"].as_str().unwrap_or_default();
        source.starts_with("nvml")
    });
    if !has_gpu {
        let absent = physical["absent"].as_array().unwrap_or(&none).iter();
        let reasons: Vec<_> = absent
            .map(|absent| format!("{}: {}", words(&absent["meter"]), words(&absent["reason"])))
            .collect();
        let reason = match reasons.is_empty() {
            true => "the run names no meter".to_owned(),
            false => reasons.join("; "),
        };
        checks.push(match needs_gpu_meter {
            true => Check::is("energy of GPUs", false, reason),
            false => Check::left_out("energy of GPUs", reason),
        });
    }
    checks
}

fn conserved(meter: &Value) -> Check {
    let name = format!("energy of {}", words(&meter["meter"]));
    let joules = ["energy_j", "attributed_j", "unattributed_j"].map(|key| meter[key].as_f64());
    let [Some(counted), Some(attributed), Some(unattributed)] = joules else {
        return Check::left_out(name, format!("not all of it is known: {meter}"));
    };
    let gap = (attributed + unattributed - counted).abs();
    Check::is(
        name,
        gap <= ENERGY_TOLERANCE * counted.abs(),
        format!(
            "{counted:.3} J counted, {attributed:.3} J of workers and {unattributed:.3} J of nobody"
        ),
    )
}

fn words(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::verdict::Verdict::{self, Failed, LeftOut, Passed};
    use super::*;

    fn verdicts(checks: &[Check]) -> Vec<Verdict> {
        checks.iter().map(|check| check.verdict).collect()
    }

    #[test]
    fn differences_are_held_against_their_tolerances() {
        let found = |parity: f64, bf16: f64, exact: bool, understood: Value| {
            verdicts(&compared(
                "cuda:0",
                &json!({
                    "parity": {"worst_relative": parity},
                    "pipeline": {
                        "fp32": {"worst_relative": 0.0, "bit_identical": true},
                        "bf16": {"worst_relative": bf16, "bit_identical": false},
                    },
                    "transfer": {"tensors": 32, "bit_exact": exact},
                    "out_of_memory": {"said": "no", "understood": understood},
                }),
            ))
        };
        assert_eq!(found(1e-4, 1e-2, true, json!("20 MiB")), [Passed; 5]);
        assert_eq!(
            found(1.1e-4, 1.1e-2, false, Value::Null),
            [Failed, Passed, Failed, Failed, Failed]
        );
        let nothing = verdicts(&compared("cuda:0", &json!({})));
        assert_eq!(nothing, [Failed; 5]);
    }

    #[test]
    fn a_run_has_to_finish_all_jobs() {
        let run = |summary: Value| run("native", &summary).verdict;
        let job = json!({"finish_s": 3.0});
        assert_eq!(
            run(json!({"jobs": [job], "refused": [], "waiting": [], "mean_jct_s": 3.0})),
            Passed
        );
        assert_eq!(
            run(json!({"jobs": [job, {"finish_s": null}], "mean_jct_s": 3.0})),
            Failed
        );
        assert_eq!(
            run(json!({"jobs": [job], "refused": ["b"], "mean_jct_s": 3.0})),
            Failed
        );
        assert_eq!(run(json!({"jobs": []})), Failed);
    }

    #[test]
    fn joules_have_to_add_up() {
        let meter = |attributed: f64| {
            json!({"meter": "gpu GPU-1", "source": "nvml_energy",
                   "energy_j": 1000.0, "attributed_j": attributed, "unattributed_j": 400.0})
        };
        let judged = |meters: Vec<Value>, needed| {
            verdicts(&energy(
                &json!({"meters": meters, "absent": [{"meter": "NVML", "reason": "no driver"}]}),
                needed,
            ))
        };
        assert_eq!(judged(vec![meter(600.9)], true), [Passed]);
        assert_eq!(judged(vec![meter(601.1)], true), [Failed]);
        assert_eq!(judged(vec![], true), [Failed]);
        assert_eq!(judged(vec![], false), [LeftOut]);
        assert!(
            energy(
                &json!({"meters": [], "absent": [{"meter": "NVML", "reason": "no driver"}]}),
                false
            )[0]
            .found
            .contains("no driver")
        );
    }
}
