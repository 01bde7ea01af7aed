//! The order of policies.

use bace_ledger::{Figure, Validation};

use crate::made_up::{Run, runs, validation};

fn ranked(policies: &[(&str, f64, &[f64])]) -> Validation {
    let all: Vec<_> = policies
        .iter()
        .map(|&(policy, predicted, measured)| {
            let measured: Vec<Run> = measured
                .iter()
                .map(|&factor| Run::of_one(factor).under(policy))
                .collect();
            runs(&Run::of_one(predicted).under(policy), &measured)
        })
        .collect();
    validation(&all)
}

#[test]
fn policies_are_ranked_by_what_was_predicted_and_measured() {
    let reversed = ranked(&[
        ("a", 1.0, &[3.0, 3.0]),
        ("b", 2.0, &[2.0, 2.0]),
        ("c", 3.0, &[1.0, 1.0]),
    ]);
    let ranking = &reversed.rankings[0];
    assert_eq!(
        (ranking.figure, &ranking.tau_b),
        ("mean_jct_s", &Figure::Known(-1.0))
    );
    assert_eq!(ranking.measured, ["c", "b", "a"]);
    assert!(reversed.render().contains("tau-b -1.00"));
    // All cost the same.
    let cost = &reversed.rankings[2];
    assert!(cost.figure == "cost_usd" && cost.tau_b.known().is_none());
    let tied = ranked(&[("a", 1.0, &[1.0, 1.1]), ("b", 1.05, &[1.02, 1.06])]);
    assert_eq!(tied.rankings[1].tau_b.known(), None);
    assert_eq!(tied.rankings[1].tied, 1);
}
