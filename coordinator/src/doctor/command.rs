//! From the command line to the report.

use bace_socket::bench::LINKS_SHARE;
use serde_json::json;

use super::capacity::{Capacity, Demand};
use super::finding::Finding;
use super::gpus::Gpus;
use super::measured::Measured;
use super::time_scale::{self, Choice};
use super::{kernel, machine, sensors, training};
use crate::bench::{progress, table};
use crate::cli::DoctorArgs;
use crate::output::say;
use crate::scenarios;

/// Looks at everything; whether a run on the CPU works here, and the scenario fits.
pub fn doctor(args: &DoctorArgs) -> anyhow::Result<bool> {
    // First of all, so that a wrong name does not take seconds to be told.
    let loaded = args
        .scenario
        .as_deref()
        .map(|name| scenarios::load(name, None))
        .transpose()?;
    let line = progress::spinner();
    let mut findings = machine::look();
    let (measured, found) = Measured::take(|what| line.set_message(what.to_owned()));
    findings.extend(found);
    line.set_message("libtorch");
    let (worker, found) = training::look();
    findings.push(found);
    line.set_message("GPUs");
    let gpus = Gpus::look();
    findings.extend(gpus.findings(worker.map(|worker| worker.has_cuda)));
    line.set_message("kernel and sensors");
    findings.extend(kernel::look());
    findings.extend(sensors::look());
    line.finish_and_clear();
    let capacity = Capacity::of(&measured, worker);
    let demands = loaded
        .as_ref()
        .map(|loaded| capacity.demands(&loaded.scenario));
    let choices = loaded
        .as_ref()
        .map(|loaded| time_scale::choose(&loaded.scenario, &capacity));
    let runs = !findings.iter().any(Finding::stops_a_run);
    let fits = demands.as_deref().map(fit);
    let name = loaded.as_ref().map(|loaded| loaded.scenario.name.as_str());
    if args.json {
        let scenario = demands.as_deref().map(|demands| {
            json!({
                "name": name,
                "fits": fits,
                "demands": demands.iter().map(Demand::json).collect::<Vec<_>>(),
                "time_scale": loaded.as_ref().map(|loaded| loaded.scenario.compute.time_scale),
                "time_scales": choices.iter().flatten().map(Choice::json).collect::<Vec<_>>(),
            })
        });
        let all = json!({
            "machine": crate::machine::describe(),
            "findings": findings.iter().map(Finding::json).collect::<Vec<_>>(),
            "measured": measured.json(),
            "links_share": LINKS_SHARE,
            "capacity": capacity.json(),
            "cuda": gpus.json(),
            "scenario": scenario,
            "cpu_run_works": runs,
        });
        say!("{all}");
        return Ok(runs && fits != Some(false));
    }
    print_findings(&findings);
    say!("\nThis machine can carry:");
    for line in capacity.lines() {
        say!("- {line}");
    }
    if !runs {
        say!("- no run on the CPU, for what is absent and needed above");
    }
    if let (Some(name), Some(demands)) = (name, &demands) {
        say!("");
        print_demands(name, demands);
        say!(
            "\nEmulated time of {name} may pass here at most this fast, jobs placed by bace-pipe:"
        );
        for choice in choices.iter().flatten() {
            say!("- {}", choice.line());
        }
    }
    Ok(runs && fits != Some(false))
}

/// Whether everything that is known fits.
fn fit(demands: &[Demand]) -> bool {
    demands.iter().all(|demand| demand.fits() != Some(false))
}

fn print_findings(findings: &[Finding]) {
    say!("{}\n", crate::machine::describe());
    let mut table = table(&["what", "", "found"], 3);
    for finding in findings {
        let word = if finding.stops_a_run() {
            "ABSENT"
        } else {
            finding.word()
        };
        table.add_row([finding.name, word, &finding.found]);
    }
    say!("{table}");
    let advised = findings
        .iter()
        .filter_map(|finding| Some((finding.name, finding.advice.as_deref()?)));
    let mut advised = advised.peekable();
    if advised.peek().is_some() {
        say!("\nWhat to do, where it matters:");
    }
    for (name, advice) in advised {
        say!("- {name}: {advice}");
    }
}

fn print_demands(name: &str, demands: &[Demand]) {
    let mut table = table(&["what", "needed", "there is", "share", "fits"], 1);
    for demand in demands {
        let amount = |value: f64| match demand.unit {
            "" => format!("{value}"),
            unit => format!("{value:.2} {unit}"),
        };
        table.add_row([
            demand.what.to_owned(),
            amount(demand.needed),
            demand
                .available
                .map_or_else(|| "unknown".to_owned(), amount),
            demand
                .share()
                .map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 1e2)),
            match demand.fits() {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "unknown",
            }
            .to_owned(),
        ]);
    }
    let unfit = demands.iter().find(|demand| demand.fits() == Some(false));
    match unfit {
        Some(demand) => say!("{name} does not fit: {}; {}", demand.what, demand.advice),
        None => match demands.iter().find(|demand| demand.fits().is_some()) {
            Some(first) => say!("{name} fits; growing, it would first hit: {}", first.what),
            None => say!("whether {name} fits is not known: nothing could be measured"),
        },
    }
    say!("\n{table}");
}
