//! `bace bench link --all`: every figure that links have to reach.

use bace_netem::{BitRate, Delay};
use bace_socket::bench::{Figure, LinkPart, LinkPlan, measure_part};
use serde_json::json;

use super::figures::{all_met, goals_table};
use super::{peer, progress};
use crate::cli::{BenchLinkArgs, LinkPartChoice};
use crate::output::say;

/// Measures the parts that are asked for and holds them against their goals.
pub fn link_goals(
    args: &BenchLinkArgs,
    parts: &[LinkPartChoice],
    rates: Vec<BitRate>,
    delays: Vec<Delay>,
) -> anyhow::Result<bool> {
    let plan = LinkPlan {
        rounds: args.repeats,
        message_bytes: (args.message_mib as usize) << 20,
        rates,
        delays,
        program: peer::program()?,
    };
    let line = progress::spinner();
    if !args.json {
        say!("links on {}", crate::machine::describe());
        say!("medians of {} rounds\n", args.repeats);
    }
    let mut measured: Vec<(&str, Vec<Figure>)> = Vec::new();
    for &part in parts {
        let mut each = |what: &str| line.set_message(what.to_owned());
        let (word, part) = part.part();
        let figures = measure_part(part, &plan, &mut each)?;
        if !args.json {
            line.suspend(|| say!("{}\n", goals_table(&figures)));
        }
        measured.push((word, figures));
    }
    line.finish_and_clear();
    let figures: Vec<Figure> = measured.iter().flat_map(|(_, of)| of).cloned().collect();
    if args.json {
        let parts = measured.iter();
        let parts: Vec<_> = parts
            .map(|(part, figures)| json!({"part": part, "figures": figures}))
            .collect();
        let all = json!({
            "machine": crate::machine::describe(),
            "rounds": args.repeats,
            "parts": parts,
            "met": all_met(&figures),
        });
        say!("{all}");
    }
    Ok(all_met(&figures))
}

impl LinkPartChoice {
    fn part(self) -> (&'static str, LinkPart) {
        match self {
            Self::Rate => ("rate", LinkPart::Rate),
            Self::Isolated => ("isolated", LinkPart::Isolated),
            Self::Delay => ("delay", LinkPart::Delay),
            Self::Shared => ("shared", LinkPart::Shared),
            Self::Hogs => ("hogs", LinkPart::Hogs),
            Self::Packet => ("packet", LinkPart::Packet),
        }
    }
}
