//! Verdicts from what workers and runs say of themselves, as JSON.

use serde_json::Value;

use super::verdict::Check;

/// Most that a loss on a GPU may differ from the CPU's, or a pipeline's from one process's, in fp32, relative.
const FP32_TOLERANCE: f64 = 1e-4;
/// The same in bf16, whose kernels may add in any order: its numbers have 8 bits.
const BF16_TOLERANCE: f64 = 1e-2;

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

/// The summary of a run that was expected to finish, with losses that are numbers; a paced one also to be valid.
pub fn run(name: &str, is_paced: bool, summary: &Value) -> Check {
    let jobs = summary["jobs"].as_array().map_or(0, Vec::len);
    let left = ["refused", "waiting"].map(|key| summary[key].as_array().map_or(0, Vec::len));
    let unfinished = summary["jobs"].as_array().into_iter().flatten();
    let unfinished = unfinished
        .filter(|job| job["finish_s"].as_f64().is_none())
        .count();
    let mean = summary["mean_jct_s"].as_f64();
    let losses = summary["jobs"].as_array().into_iter().flatten();
    let lossless = losses
        .filter(|job| ["loss_first", "loss_last"].map(|key| job[key].is_f64()) != [true; 2])
        .count();
    let mut found = format!("{jobs} jobs, {unfinished} unfinished, {lossless} without losses");
    found.extend(mean.map(|mean| format!(", mean JCT {mean:.2} s")));
    let is_valid = !is_paced || summary["valid"] != false;
    if is_paced {
        found.push_str(&format!(", {} overruns", words(&summary["overruns"])));
    }
    if !is_valid {
        let reasons = summary["invalid_reasons"].as_array().into_iter().flatten();
        let reasons: Vec<_> = reasons.map(words).collect();
        found.push_str(&format!(", not valid: {}", reasons.join("; ")));
    }
    let finished = jobs > 0 && unfinished == 0 && left == [0, 0];
    Check::is(
        name,
        finished && mean.is_some() && lossless == 0 && is_valid,
        found,
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

    use super::super::verdict::Verdict::{self, Failed, Passed};
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
        let run = |summary: Value| run("native", false, &summary).verdict;
        let job = json!({"finish_s": 3.0, "loss_first": 5.5, "loss_last": 5.0});
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
        // What is no number has none in JSON.
        let diverged = json!({"finish_s": 3.0, "loss_first": 5.5, "loss_last": null});
        assert_eq!(run(json!({"jobs": [diverged], "mean_jct_s": 3.0})), Failed);
    }

    #[test]
    fn a_paced_run_has_to_be_valid_and_tells_its_overruns() {
        let judged = |is_paced, valid: bool| {
            let summary = json!({
                "jobs": [{"finish_s": 3.0, "loss_first": 5.5, "loss_last": 5.0}],
                "mean_jct_s": 3.0, "overruns": 7, "valid": valid,
                "invalid_reasons": if valid { vec![] } else { vec!["too many overruns"] },
            });
            run("run", is_paced, &summary)
        };
        let paced = judged(true, false);
        assert_eq!(paced.verdict, Failed);
        assert_eq!(
            paced.found,
            "1 jobs, 0 unfinished, 0 without losses, mean JCT 3.00 s, 7 overruns, not valid: too many overruns"
        );
        let fitting = judged(true, true);
        assert_eq!(fitting.verdict, Passed);
        assert!(fitting.found.ends_with("7 overruns"), "{}", fitting.found);
        assert_eq!(judged(false, false).verdict, Passed);
    }
}
