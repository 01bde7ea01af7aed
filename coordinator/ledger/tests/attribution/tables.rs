//! How attributions read.

use bace_ledger::{Attributed, Figure, Measured, Predicted, render_attribution};
use serde_json::json;

use crate::made_up::{MadeUp, receive, span};

/// Two stages of which the second waits for the link for `carried_s`.
fn made_up(carried_s: f64) -> MadeUp {
    let to_s = 2.0 + carried_s;
    MadeUp::new(&["x", "y"], to_s + 1.0)
        .iteration(
            0,
            0,
            [0.0, 2.0],
            vec![span("F0", 0.0, 2.0), span("SA0", 2.0, 2.0)],
        )
        .iteration(
            1,
            0,
            [0.0, to_s],
            vec![receive("RA0", [0.0, to_s], [2.0, to_s, 0.0, to_s])],
        )
}

#[test]
fn measured_stands_beside_predicted() {
    let attributed = Attributed::Real {
        measured: Measured(made_up(7.0).attribution()),
        predicted: Figure::Known(Predicted(made_up(5.0).attribution())),
    };
    let text = render_attribution(&attributed);
    assert_eq!(
        text,
        "\
Where stage-time went, measured beside predicted: every second of every stage, from its job's
placement until its GPU was free.

job  went to             measured (stage-s)    (%)  predicted (stage-s)    (%)
───────────────────────────────────────────────────────────────────────────────
a    all                               20.0  100.0                 16.0  100.0
     forward                            2.0   10.0                  2.0   12.5
     schedule bubble                    9.0   45.0                  7.0   43.8
     link serialisation                 7.0   35.0                  5.0   31.2
     host overhead                      2.0   10.0                  2.0   12.5

stage, % of its time  time (s)   fwd  bubble  link  host
─────────────────────────────────────────────────────────
a 0 x                     10.0  20.0    70.0   0.0  10.0
  predicted                8.0  25.0    62.5   0.0  12.5
a 1 y                     10.0   0.0    20.0  70.0  10.0
  predicted                8.0   0.0    25.0  62.5  12.5

waited for (stage-s)  link
───────────────────────────
x → y                 7.00
  predicted           5.00
"
    );
    let json = attributed.to_json();
    let job = &json["measured"]["jobs"][0];
    assert_eq!(job["name"], "a");
    assert_eq!(job["seconds"]["link_serialisation_s"], 7.0);
    assert_eq!(
        job["links"],
        json!([{"from": "x", "to": "y", "link_serialisation_s": 7.0, "propagation_s": 0.0, "queued_s": 0.0,
            "receive_late_s": 0.0}])
    );
    let stage = &job["attempts"][0]["stages"][1];
    assert_eq!(
        (&stage["stage"], &stage["region"]),
        (&json!(1), &json!("y"))
    );
    assert_eq!(stage["seconds"]["bubble_s"], 2.0);
    let predicted = &json["predicted"]["jobs"][0]["seconds"];
    assert_eq!(predicted["link_serialisation_s"], 5.0);
    assert_eq!(json["unknown"], json!(null));
}

#[test]
fn a_simulation_has_one_side() {
    let attributed = Attributed::Simulated(Predicted(made_up(7.0).attribution()));
    let text = render_attribution(&attributed);
    assert!(!text.contains("measured"), "{text}");
    assert!(text.contains("predicted (stage-s)"), "{text}");
    let json = attributed.to_json();
    assert_eq!(json["measured"], json!(null));
    assert_eq!(json["unknown"], json!(null));
}

#[test]
fn what_is_not_known_is_said_and_not_shown() {
    let bare = MadeUp::new(&["x"], 3.0).bare_iteration(0, 0, [0.0, 2.0]);
    let attributed = Attributed::Real {
        measured: Measured(bare.attribution()),
        predicted: Figure::Unknown("the folder holds no scenario.toml".into()),
    };
    let text = render_attribution(&attributed);
    assert_eq!(
        text,
        "\
Where stage-time went, measured: every second of every stage, from its job's placement until its GPU
was free.

! Where the time of job a went is unknown: its ledger holds iterations and not their actions: they
  were left out, or an older program wrote it.
"
    );
    let json = attributed.to_json();
    assert_eq!(
        json["unknown"]["predicted"],
        "the folder holds no scenario.toml"
    );
    assert_eq!(json["measured"]["jobs"][0]["seconds"], json!(null));
}

/// Beside nothing, no prediction is missed.
#[test]
fn a_missing_prediction_is_said_beside_what_was_measured() {
    let attributed = Attributed::Real {
        measured: Measured(made_up(7.0).attribution()),
        predicted: Figure::Unknown("the folder holds no scenario.toml".into()),
    };
    let text = render_attribution(&attributed);
    let note = "! No prediction stands beside: the folder holds no scenario.toml.\n";
    assert!(text.ends_with(note), "{text}");
}

#[test]
fn a_prediction_of_another_placement_is_not_set_beside() {
    let elsewhere =
        MadeUp::new(&["z"], 3.0).iteration(0, 0, [0.0, 3.0], vec![span("F0", 0.0, 3.0)]);
    let attributed = Attributed::Real {
        measured: Measured(made_up(7.0).failed().attribution()),
        predicted: Figure::Known(Predicted(elsewhere.attribution())),
    };
    let text = render_attribution(&attributed);
    assert_eq!(
        text,
        "\
Where stage-time went, measured beside predicted: every second of every stage, from its job's
placement until its GPU was free.

job  went to          measured (stage-s)    (%)  predicted (stage-s)    (%)
────────────────────────────────────────────────────────────────────────────
a    all                            4.00  100.0                 3.00  100.0
     forward                        2.00   50.0                 3.00  100.0
     schedule bubble                2.00   50.0                 0.00    0.0

stage, % of its time  time (s)    fwd  bubble
──────────────────────────────────────────────
a 0 x                     2.00  100.0     0.0
a 1 y                     2.00    0.0   100.0

! Job a: the time up to 2.000 s is told; it did not finish, and what its stages did after the last
  iteration that all of them ended is not recorded.
! Job a: its prediction has no such start with stages in the same regions.
"
    );
}
