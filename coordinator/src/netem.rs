//! `bace netem`: a scenario's links as network namespaces and queueing disciplines.

use anyhow::Context;
use bace_engine::Scenario;
use bace_netem::{
    NamespaceName, NetworkName, Owner, Place, Qdiscs, RateQdisc, TcCommand, TcPlan, TimeScale,
};
use bace_socket::kernel::{self, KernelNetwork};

use crate::cli::{NetemCommand, NetemPlanArgs, RateQdiscChoice};
use crate::output::say;
use crate::run::Interrupts;
use crate::scenarios;
use crate::wall;
use crate::wrong_input::WrongInput;

/// Does what `command` says; whether what was asked for is so.
pub fn netem(command: &NetemCommand) -> anyhow::Result<bool> {
    match command {
        NetemCommand::Plan(args) => plan(args),
        NetemCommand::Up { scenario } => load(scenario).and_then(|scenario| up(&scenario)),
        NetemCommand::Down { scenario } => load(scenario).and_then(|scenario| down(&scenario)),
        NetemCommand::Status { scenario } => load(scenario).and_then(|scenario| status(&scenario)),
    }
}

/// The network of `scenario` that belongs to `owner`, on whose links emulated time passes at `scale`.
pub fn plan_of(
    scenario: &Scenario,
    scale: TimeScale,
    owner: Owner,
    qdiscs: Qdiscs,
) -> anyhow::Result<TcPlan> {
    let regions = scenario.regions.iter().map(|region| region.name.clone());
    let regions: Vec<String> = regions.collect();
    let plan_at = |scale| {
        let name = NetworkName::new(&scenario.name, owner);
        TcPlan::new(name, regions.clone(), wall::links(scenario, scale), qdiscs)
    };
    plan_at(scale)
        .map_err(|error| wall::beyond(&error.to_string(), scale, |other| plan_at(other).is_ok()))
}

/// Deletes what runs of `scenario` have left behind that ended without a chance to; how many namespaces.
pub fn remove_of_the_dead(scenario: &Scenario) -> anyhow::Result<usize> {
    let found = of_scenario(scenario)?;
    let dead = |name: &&NamespaceName| match name.network.owner {
        Owner::Kept => false,
        run => !kernel::is_running(run),
    };
    let dead: Vec<_> = found.iter().filter(dead).collect();
    kernel::remove(dead.iter().copied())?;
    Ok(dead.len())
}

fn load(scenario: &str) -> anyhow::Result<std::sync::Arc<Scenario>> {
    Ok(scenarios::load(scenario, None)?.scenario)
}

fn of_scenario(scenario: &Scenario) -> anyhow::Result<Vec<NamespaceName>> {
    let own = NetworkName::new(&scenario.name, Owner::Kept);
    let all = kernel::namespaces()?.into_iter();
    Ok(all
        .filter(|name| name.network.is_of_same_scenario(&own))
        .collect())
}

fn plan(args: &NetemPlanArgs) -> anyhow::Result<bool> {
    let scenario = load(&args.scenario)?;
    let qdiscs = Qdiscs {
        rate: match args.rate_qdisc {
            RateQdiscChoice::Tbf => RateQdisc::Tbf,
            RateQdiscChoice::Htb => RateQdisc::Htb,
        },
        netem: !args.without_netem,
    };
    let plan = plan_of(&scenario, TimeScale::ONE, Owner::Kept, qdiscs)?;
    say!(
        "# {}: what `bace netem up` runs on a kernel {}",
        scenario.name,
        in_words(qdiscs)
    );
    for remark in plan.remarks() {
        say!("# {remark}");
    }
    let commands = plan.commands();
    let mut about = "";
    for command in &commands {
        if command.about != about {
            about = &command.about;
            say!("# {about}");
        }
        say!("{command}");
    }
    say!("# to take it back:");
    for undo in commands
        .iter()
        .rev()
        .filter_map(|command| command.undo.as_ref())
    {
        say!("# {}", TcCommand::shell_line(undo));
    }
    Ok(true)
}

fn in_words(qdiscs: Qdiscs) -> String {
    let rate = qdiscs.rate.name();
    if qdiscs.netem {
        format!("with {rate} and netem")
    } else {
        format!("with {rate} and without netem, so without delay, jitter and loss")
    }
}

fn up(scenario: &Scenario) -> anyhow::Result<bool> {
    kernel::refuse_without_root()?;
    let name = NetworkName::new(&scenario.name, Owner::Kept);
    let plan = plan_of(
        scenario,
        TimeScale::ONE,
        Owner::Kept,
        kernel::probe(&name)?.qdiscs()?,
    )?;
    let found = of_scenario(scenario)?;
    let kept: Vec<_> = found.iter().filter(|found| found.network == name).collect();
    match mark(&kept)? {
        Some(mark) if mark == plan.mark() => {
            say!(
                "{} is up already, {}",
                scenario.name,
                in_words(plan.qdiscs())
            );
            return Ok(true);
        }
        Some(_) => {
            return Err(WrongInput::error(format!(
                "put up {}: it is up with other links than the scenario has now; `bace netem down` takes it down first",
                scenario.name
            )));
        }
        // Whoever began to put it up did not come to the end.
        None => kernel::remove(kept)?,
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime to hear signals")?;
    let mut interrupts = runtime.block_on(async { Interrupts::listen() })?;
    let network = KernelNetwork::up(plan, || runtime.block_on(interrupts.heard()))?;
    say!(
        "{} is up, {}",
        scenario.name,
        in_words(network.plan().qdiscs())
    );
    for remark in network.plan().remarks() {
        say!("  {remark}");
    }
    show_places(network.plan());
    network.keep();
    Ok(true)
}

/// The mark of a network that is complete.
fn mark(namespaces: &[&NamespaceName]) -> anyhow::Result<Option<String>> {
    let hub = namespaces.iter().find(|name| name.place == Place::Hub);
    Ok(hub.map(|hub| kernel::mark_of(hub)).transpose()?.flatten())
}

fn show_places(plan: &TcPlan) {
    for (place, word) in plan.places() {
        say!(
            "  ip netns exec {}  # {word}, {}",
            plan.namespace(place),
            plan.address(place)
        );
    }
}

fn down(scenario: &Scenario) -> anyhow::Result<bool> {
    let found = of_scenario(scenario)?;
    let (used, free): (Vec<_>, Vec<_>) = found
        .iter()
        .partition(|name| kernel::is_running(name.network.owner));
    let count = free.len();
    if count > 0 {
        kernel::refuse_without_root()?;
        kernel::remove(free)?;
    }
    match count {
        0 => say!("{}: nothing was up", scenario.name),
        1 => say!("{}: took 1 namespace down", scenario.name),
        _ => say!("{}: took {count} namespaces down", scenario.name),
    }
    for owner in owners(used) {
        say!("{}: {}; it stays", scenario.name, whose(owner));
    }
    Ok(true)
}

fn owners<'a>(namespaces: impl IntoIterator<Item = &'a NamespaceName>) -> Vec<Owner> {
    let mut owners: Vec<_> = namespaces
        .into_iter()
        .map(|name| name.network.owner)
        .collect();
    owners.sort();
    owners.dedup();
    owners
}

fn whose(owner: Owner) -> String {
    match owner {
        Owner::Kept => "put up by hand".to_owned(),
        Owner::Run(pid) if kernel::is_running(owner) => {
            format!("a run uses a network of its own (process {pid})")
        }
        Owner::Run(pid) => {
            format!(
                "a run that is gone has left its network behind (process {pid}); `bace netem down` removes it"
            )
        }
    }
}

/// Tells what is there; whether the network that was put up by hand is complete and as the scenario says.
fn status(scenario: &Scenario) -> anyhow::Result<bool> {
    let found = of_scenario(scenario)?;
    let kept: Vec<_> = found
        .iter()
        .filter(|name| name.network.owner == Owner::Kept)
        .collect();
    let is_up = match (kept.as_slice(), mark(&kept)?) {
        ([], _) => {
            say!("{} is down", scenario.name);
            false
        }
        (_, None) => {
            say!(
                "{} is up in parts only; `bace netem up` makes it anew",
                scenario.name
            );
            false
        }
        (_, Some(mark)) => match plan_with_mark(scenario, &mark)? {
            Some(plan) => {
                say!("{} is up, {}", scenario.name, in_words(plan.qdiscs()));
                show_places(&plan);
                true
            }
            None => {
                say!(
                    "{} is up with other links than the scenario has now",
                    scenario.name
                );
                false
            }
        },
    };
    for owner in owners(&found)
        .into_iter()
        .filter(|owner| *owner != Owner::Kept)
    {
        say!("{}: {}", scenario.name, whose(owner));
    }
    Ok(is_up)
}

/// The plan that a network was made from.
fn plan_with_mark(scenario: &Scenario, mark: &str) -> anyhow::Result<Option<TcPlan>> {
    for rate in [RateQdisc::Tbf, RateQdisc::Htb] {
        for netem in [false, true] {
            let plan = plan_of(
                scenario,
                TimeScale::ONE,
                Owner::Kept,
                Qdiscs { rate, netem },
            )?;
            if plan.mark() == mark {
                return Ok(Some(plan));
            }
        }
    }
    Ok(None)
}
