//! Placements worked out by hand, on the world of [`crate::testing`].

use bace_api::{JobId, PlacementReason, Record};

use crate::testing::{World, records, start_commands, starts};
use crate::{Engine, Estimates, Input};

fn k_star(world: &World) -> u32 {
    let scenario = world.scenario();
    let micro_batches = scenario.jobs[0].micro_batches;
    Estimates::of(&scenario)
        .best_stages(JobId(0), micro_batches)
        .unwrap()
}

fn refusals(engine: &mut Engine) -> Vec<String> {
    let reasons = records(engine)
        .into_iter()
        .filter_map(|record| match record {
            Record::Refused { job, reason, .. } => Some(format!("{job}: {reason}")),
            _ => None,
        });
    reasons.collect()
}

fn passed_over(engine: &mut Engine) -> Vec<String> {
    let reasons = records(engine)
        .into_iter()
        .filter_map(|record| match record {
            Record::PassedOver { job, reason, .. } => Some(format!("{job}: {reason}")),
            _ => None,
        });
    reasons.collect()
}

/// What became of every path looked at.
fn outcomes(engine: &mut Engine) -> Vec<String> {
    let reasons = records(engine)
        .into_iter()
        .filter_map(|record| match record {
            Record::Placed { reason, .. } => serde_json::from_value::<PlacementReason>(reason).ok(),
            _ => None,
        });
    let outcomes = reasons.flat_map(|reason| reason.paths).map(|path| {
        let outcome = serde_json::to_value(path.outcome).unwrap();
        outcome["outcome"].as_str().unwrap().to_owned()
    });
    outcomes.collect()
}

fn finish(engine: &mut Engine, at_s: f64, job: u32) {
    engine.handle(at_s, Input::Finished(JobId(job)));
    engine.settle(at_s);
}

/// Regions of 2, 1 and 1 GPUs in a triangle of links.
fn triangle(ab: f64, ac: f64, bc: f64) -> World {
    World::new()
        .region("a", 2, "unit", 0.3)
        .region("b", 1, "unit", 0.2)
        .region("c", 1, "unit", 0.1)
        .link("a", "b", ab)
        .link("a", "c", ac)
        .link("b", "c", bc)
}

#[test]
fn k_star_is_the_fastest_within_gpus_layers_and_memory() {
    let one = |gpus, micro_batches| {
        let world = World::new().region("a", gpus, "unit", 0.1);
        k_star(&world.job_of("j", 0.0, 1, micro_batches))
    };
    // (M + K − 1)·t: 28.0, 20, 18, 14, 16, 18, 10.03.
    assert_eq!(
        [1, 2, 3, 4, 5, 6, 7, 9].map(|gpus| one(gpus, 4)),
        [1, 2, 3, 4, 4, 4, 7, 7]
    );
    // One micro-batch cannot be pipelined: 7.0026, 8, 9, 8, ...
    assert_eq!(one(9, 1), 1);
    // 16 bytes of 172 160 parameters do not fit two GPUs of a megabyte: 3·3 and more from there on.
    let small = World::new().region("a", 4, "small", 0.1);
    assert_eq!(k_star(&small.job_of("j", 0.0, 1, 1)), 4);
}

#[test]
fn a_path_follows_the_widest_link_and_ties_go_to_more_gpus() {
    let mut engine = triangle(10e3, 5e3, 10e3)
        .job("j", 0.0, 1)
        .settled("bace-pipe");
    // From a: b by the widest link, then c. The paths from b and c cost as much and come later.
    assert_eq!(starts(&mut engine), ["j: a 2, b 1, c 1"]);
    let mut engine = triangle(5e3, 10e3, 10e3)
        .job("j", 0.0, 1)
        .settled("bace-pipe");
    assert_eq!(starts(&mut engine), ["j: a 2, c 1, b 1"]);
}

#[test]
fn a_link_too_narrow_for_more_stages_limits_the_share() {
    // Three stages send 1024 bits every 3 s, four every 2 s: 341.3 and 512 bit/s.
    let with = |bps| {
        let mut engine = triangle(bps, bps, bps)
            .job("j", 0.0, 1)
            .settled("bace-pipe");
        starts(&mut engine)
    };
    assert_eq!(with(512.0), ["j: a 2, b 1, c 1"]);
    // From a it stops at b, from c at a, where power costs less than in b.
    assert_eq!(with(511.0), ["j: c 1, a 2"]);
    // Two stages, every 4 s: the 5 % that the delay costs are allowed, and c is cheaper.
    assert_eq!(with(341.0), ["j: c 1, a 1"]);
    assert_eq!(with(255.0), ["j: a 2"]);
}

#[test]
fn both_directions_of_a_link_count() {
    let one_way = |back: f64| {
        let lines = format!(
            "[[link]]\nfrom = \"a\"\nto = \"b\"\nbandwidth_mbps = 1\none_way_delay_ms = 1\n\
             [[link]]\nfrom = \"b\"\nto = \"a\"\nbandwidth_mbps = {back}\none_way_delay_ms = 1"
        );
        let world = World::new()
            .region("a", 2, "unit", 0.3)
            .region("b", 2, "unit", 0.2);
        starts(&mut world.and(&lines).job("j", 0.0, 1).settled("bace-pipe"))
    };
    assert_eq!(one_way(512e-6), ["j: a 2, b 2"]);
    assert_eq!(one_way(300e-6), ["j: b 2"]);
}

#[test]
fn jobs_that_can_never_run_are_refused_with_the_reason() {
    let world = |gpus: u32, bps: f64| {
        World::new()
            .region("a", gpus, "small", 0.3)
            .region("b", 1, "small", 0.2)
            .link("a", "b", bps)
            .job("j", 0.0, 1)
    };
    let told = |world: World, policy| refusals(&mut world.settled(policy));
    assert_eq!(
        told(world(1, 1e6), "bace-pipe"),
        ["j: its weights, gradients and optimizer state need 3 GPUs and the scenario has 2"]
    );
    assert_eq!(
        told(world(2, 340.0), "bace-pipe"),
        [
            "j: no path over the idle cluster gives it the 3 GPUs it needs: between a and b it needs 341.3 bit/s and 340.0 bit/s are left"
        ]
    );
    assert_eq!(
        told(world(2, 1e6), "no-pathfinder"),
        ["j: it needs 3 GPUs in one region and the largest has 2"]
    );
    assert_eq!(told(world(2, 1e6), "bace-pipe"), [""; 0]);
    // The baselines know no K°: the job waits for ever.
    assert_eq!(told(world(2, 1e6), "ldf"), [""; 0]);
}

#[test]
fn gpus_beyond_one_a_region_go_where_power_is_cheap() {
    let world = |a: f64, b: f64| {
        World::new()
            .region("a", 3, "unit", a)
            .region("b", 3, "unit", b)
            .link("a", "b", 1e6)
            .job("j", 0.0, 1)
    };
    // K* = 4 of 6 GPUs. The fastest path and its reverse tie, so the first found is taken.
    assert_eq!(
        starts(&mut world(0.3, 0.1).settled("bace-pipe")),
        ["j: a 1, b 3"]
    );
    assert_eq!(
        starts(&mut world(0.1, 0.3).settled("bace-pipe")),
        ["j: a 3, b 1"]
    );
    assert_eq!(
        starts(&mut world(0.2, 0.2).settled("bace-pipe")),
        ["j: a 3, b 1"]
    );
    assert_eq!(
        starts(&mut world(0.3, 0.1).settled("no-cost-min")),
        ["j: a 3, b 1"]
    );

    let outcomes = |a, b, policy| outcomes(&mut world(a, b).settled(policy));
    assert_eq!(outcomes(0.1, 0.3, "bace-pipe"), ["chosen", "tied"]);
    assert_eq!(outcomes(0.2, 0.2, "bace-pipe"), ["chosen", "tied"]);
    assert_eq!(outcomes(0.3, 0.1, "no-cost-min"), ["chosen", "tied"]);
}

#[test]
fn a_cheaper_path_may_be_a_little_slower() {
    // Region c alone holds K* = 4 stages at 14 s an iteration; a and b together take 2·0.5 s of delay more.
    let world = |slack: f64| {
        World::new()
            .region("c", 4, "unit", 0.3)
            .region("a", 2, "unit", 0.1)
            .region("b", 2, "unit", 0.1)
            .link("a", "b", 1e6)
            .and(&format!("[policy]\ntime_slack = {slack}"))
    };
    let job = |world: World| starts(&mut world.job("j", 0.0, 1).settled("bace-pipe"));
    assert_eq!(job(world(0.05)), ["j: c 4"]);
    assert_eq!(job(world(0.08)), ["j: a 2, b 2"]);
    let outcomes = |slack| outcomes(&mut world(slack).job("j", 0.0, 1).settled("bace-pipe"));
    assert_eq!(outcomes(0.05), ["chosen", "too_slow", "too_slow"]);
    assert_eq!(outcomes(0.08), ["dearer", "chosen", "tied"]);
}

#[test]
fn short_jobs_go_first_and_who_cannot_be_placed_is_passed_over() {
    let world = World::new()
        .region("a", 4, "unit", 0.1)
        .job("long", 0.0, 30)
        .job("short", 0.0, 3)
        .job("middle", 0.0, 20);
    let mut engine = world.settled("bace-pipe");
    assert_eq!(starts(&mut engine), ["short: a 4"]);
    assert_eq!(
        passed_over(&mut engine),
        [
            r#"long: {"cause":"gpus","free":0,"needs":4}"#,
            r#"middle: {"cause":"gpus","free":0,"needs":4}"#
        ]
    );
    finish(&mut engine, 42.0, 1);
    assert_eq!(starts(&mut engine), ["middle: a 4"]);
    assert_eq!(passed_over(&mut engine), [""; 0], "a reason is told once");

    let mut engine = world.settled("no-priority");
    assert_eq!(starts(&mut engine), ["long: a 4"]);
}

#[test]
fn a_placement_tells_the_terms_of_its_priority() {
    // `wide` takes 512 bit/s of 1000.
    let world = World::new()
        .region("a", 3, "unit", 0.1)
        .region("b", 1, "unit", 0.1)
        .link("a", "b", 1000.0)
        .job("wide", 0.0, 1)
        .job("next", 0.0, 2);
    let mut engine = world.settled("bace-pipe");
    assert_eq!(starts(&mut engine), ["wide: a 3, b 1"]);
    let alpha = engine.cluster().link_utilisation();
    assert!((alpha - 0.512).abs() < 1e-12);
    let placed = |engine: &mut Engine| {
        let reasons = records(engine)
            .into_iter()
            .filter_map(|record| match record {
                Record::Placed { reason, .. } => Some(reason),
                _ => None,
            });
        let reasons: Vec<_> = reasons.collect();
        reasons[0]["priority"].clone()
    };
    // At its placement nothing ran; it had half of the largest C and all of the largest D.
    let terms = placed(&mut engine);
    assert_eq!(terms["alpha"], 0.0);
    assert_eq!(terms["intensity"], 0.5);
    assert_eq!(terms["sensitivity"], 1.0);
    assert_eq!(terms["priority"], 0.5);
}

#[test]
fn waiting_can_be_made_to_count() {
    let world = |aging: f64| {
        World::new()
            .region("a", 4, "unit", 0.1)
            .and(&format!("[policy]\naging_per_hour = {aging}"))
            .job("first", 0.0, 1)
            .job("long", 0.0, 30)
            .job("short", 7200.0, 3)
    };
    let second = |world: World| {
        let mut engine = Engine::new(
            world.scenario(),
            crate::policy_by_name("bace-pipe").unwrap(),
        );
        engine.handle(0.0, Input::Submitted(JobId(0)));
        engine.handle(0.0, Input::Submitted(JobId(1)));
        engine.settle(0.0);
        starts(&mut engine);
        engine.handle(7200.0, Input::Finished(JobId(0)));
        engine.handle(7200.0, Input::Submitted(JobId(2)));
        engine.settle(7200.0);
        starts(&mut engine)
    };
    assert_eq!(second(world(0.0)), ["short: a 4"]);
    // 1 − I is 0 and 0.9; two hours at 0.46 make 0.92.
    assert_eq!(second(world(0.46)), ["long: a 4"]);
}

#[test]
fn a_part_of_the_share_can_do() {
    let world = |share: f64| {
        World::new()
            .region("a", 4, "unit", 0.1)
            .region("b", 2, "unit", 0.1)
            .and(&format!("[policy]\nmin_share = {share}"))
            .job("j", 0.0, 1)
            .job("k", 0.0, 2)
    };
    // K* = K° = 4 in region a; half of it is what b has.
    assert_eq!(starts(&mut world(1.0).settled("bace-pipe")), ["j: a 4"]);
    assert_eq!(
        starts(&mut world(0.5).settled("bace-pipe")),
        ["j: a 4", "k: b 2"]
    );
    assert_eq!(starts(&mut world(0.51).settled("bace-pipe")), ["j: a 4"]);
}

#[test]
fn unequal_gpus_get_unequal_layers() {
    let world = World::new()
        .region("a", 1, "half", 0.1)
        .region("b", 2, "unit", 0.1)
        .link("a", "b", 1e6)
        .job("j", 0.0, 1);
    let mut engine = world.settled("bace-pipe");
    let start = &start_commands(&mut engine)[0];
    // A layer takes 2 s in a and 1 s in b. From a: 1, 3 and 3 layers, 3.0026 s with the head. From b: 3, 3 and 1, 3 s.
    assert_eq!(start.placement.layers, [3, 3, 1]);
    let times: Vec<f64> = start
        .stage_seconds
        .iter()
        .map(|stage| stage.micro_batch_s)
        .collect();
    assert_eq!(times[..2], [3.0, 3.0]);
    assert!((times[2] - 2.0 * 1.002_597).abs() < 1e-6);
    // M + K − 1 = 6 slots and the delay there and back.
    assert!((start.iteration_s - 19.0).abs() < 1e-12);
    assert_eq!(start.rates[0], 100e9);
    assert!((start.rates[1] - 1024.0 / 3.0).abs() < 1e-9);
}

/// Regions of 2, 4 and 3 GPUs; a is cheapest, then c, then b.
fn three(ab: f64, ac: f64, bc: f64) -> World {
    World::new()
        .region("a", 2, "unit", 0.1)
        .region("b", 4, "unit", 0.3)
        .region("c", 3, "unit", 0.2)
        .link("a", "b", ab)
        .link("a", "c", ac)
        .link("b", "c", bc)
        .job("j", 0.0, 1)
        .job("k", 0.0, 1)
}

#[test]
fn lcf_takes_the_cheapest_region() {
    let mut engine = three(1e6, 1e6, 1e6).settled("lcf");
    // K* = 7: every job takes all that the cheapest region has left.
    assert_eq!(starts(&mut engine), ["j: a 2", "k: c 3"]);
}

#[test]
fn ldf_takes_the_emptiest_region() {
    let mut engine = three(1e6, 1e6, 1e6).settled("ldf");
    assert_eq!(starts(&mut engine), ["j: b 4", "k: c 3"]);
}

#[test]
fn cr_lcf_adds_regions_by_price() {
    let mut engine = three(1e6, 1e6, 1e6).settled("cr-lcf");
    // K* = 7 of 9: a, c and two of b, which leaves two of b for the next.
    assert_eq!(starts(&mut engine), ["j: a 2, c 3, b 2", "k: b 2"]);
}

#[test]
fn cr_ldf_follows_the_widest_links() {
    let mut engine = three(1e6, 2e6, 3e6).settled("cr-ldf");
    assert_eq!(starts(&mut engine), ["j: b 4, c 3", "k: a 2"]);
    let mut engine = three(4e6, 2e6, 3e6).settled("cr-ldf");
    assert_eq!(starts(&mut engine), ["j: b 4, a 2, c 1", "k: c 2"]);
}

#[test]
fn baselines_ignore_bandwidth_but_not_its_absence_and_block_the_queue() {
    let mut engine = three(1.0, 1.0, 1.0).settled("cr-lcf");
    assert_eq!(starts(&mut engine), ["j: a 2, c 3, b 2", "k: b 2"]);
    let mut engine = three(1e6, 0.0, 1e6).settled("cr-lcf");
    assert_eq!(starts(&mut engine), [""; 0]);
    let told = passed_over(&mut engine);
    assert!(told[0].starts_with(r#"j: {"cause":"bandwidth","from":"a","has_bps":0.0"#));
    assert_eq!(told[1], r#"k: {"cause":"behind","job":"j"}"#);
}
