//! BACE-Pipe, docs/scheduling.md section 3, and its ablations.
//!
//! Choices where the page is silent:
//! - `min_share`·K° is rounded up with a relative slack of 1e-12, so that 0.55 of 20 is 11;
//! - costs, and times without slack, that differ by less than 1e-12 (relative) are ties and go to the path found first;
//! - a job that lost its GPUs and waits again keeps the C of the whole job and its first arrival.

use std::collections::BTreeMap;

use bace_api::{PlacementReason, PriorityTerms, Refusal, Shortfall};

use super::candidates::choose;
use super::pathfinder::{Ways, Wish};
use super::{Choice, ClusterView, Decision, IdleView, PassedOver, Policy, Waiting};
use crate::JobKindId;
use crate::estimate::TIE;

const SECONDS_PER_HOUR: f64 = 3600.0;

/// Bandwidth-aware, cost-efficient placement over several regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacePipe {
    priority: bool,
    pathfinder: bool,
    cost_min: bool,
}

impl Default for BacePipe {
    fn default() -> Self {
        Self {
            priority: true,
            pathfinder: true,
            cost_min: true,
        }
    }
}

impl BacePipe {
    /// Order of arrival instead of priorities; jobs that cannot be placed are passed over.
    #[must_use]
    pub fn without_priority(self) -> Self {
        Self {
            priority: false,
            ..self
        }
    }

    /// Paths of one region only.
    #[must_use]
    pub fn without_pathfinder(self) -> Self {
        Self {
            pathfinder: false,
            ..self
        }
    }

    /// GPUs in path order and the fastest path, whatever it costs.
    #[must_use]
    pub fn without_cost_min(self) -> Self {
        Self {
            cost_min: false,
            ..self
        }
    }

    fn wish<'a>(&self, view: &ClusterView<'a>, waiting: &Waiting) -> Wish<'a> {
        let full = waiting.k_full.unwrap_or(waiting.k_star);
        let share = view.scenario.policy.min_share * f64::from(full) * (1.0 - TIE);
        Wish {
            kind: view.estimates.kind(waiting.kind),
            full,
            least: (share.ceil() as u32).max(waiting.k_min).min(full),
            extend: self.pathfinder,
        }
    }

    /// The waiting job of highest priority that has a path; the earlier of equals.
    fn first_possible(
        &self,
        view: &ClusterView<'_>,
        order: &Order,
        ways: &mut Ways<'_>,
    ) -> Option<usize> {
        // Jobs alike in what they need are possible alike.
        let mut possible: BTreeMap<(JobKindId, u32), bool> = BTreeMap::new();
        let mut best: Option<(usize, f64)> = None;
        for (position, waiting) in view.waiting.iter().enumerate() {
            let priority = order.priority(waiting);
            if best.is_some_and(|(_, known)| known >= priority) {
                continue;
            }
            let wish = self.wish(view, waiting);
            let alike = (waiting.kind, wish.full);
            if *possible.entry(alike).or_insert_with(|| ways.any(&wish)) {
                best = Some((position, priority));
                if !self.priority {
                    break;
                }
            }
        }
        best.map(|(position, _)| position)
    }

    /// Jobs that would have come before `chosen` and have no path, with what they lack.
    fn ahead(
        &self,
        view: &ClusterView<'_>,
        order: &Order,
        ways: &mut Ways<'_>,
        chosen: Option<usize>,
    ) -> Vec<PassedOver> {
        let comes_before = |position: usize, waiting: &Waiting| {
            let Some(chosen) = chosen else {
                return true;
            };
            let (own, other) = (
                order.priority(waiting),
                order.priority(&view.waiting[chosen]),
            );
            own > other || (own == other && position < chosen)
        };
        let mut causes: BTreeMap<(JobKindId, u32), Shortfall> = BTreeMap::new();
        let waiting = view.waiting.iter().enumerate();
        waiting
            .filter(|&(position, waiting)| comes_before(position, waiting))
            .map(|(_, waiting)| {
                let wish = self.wish(view, waiting);
                let alike = (waiting.kind, wish.full);
                let cause = causes.entry(alike).or_insert_with(|| ways.shortfall(&wish));
                PassedOver {
                    job: waiting.job,
                    cause: cause.clone(),
                }
            })
            .collect()
    }
}

impl Policy for BacePipe {
    fn decide(&self, view: &ClusterView<'_>) -> Decision {
        let mut ways = Ways::over(view.scenario, view.cluster, view.estimates);
        let order = Order::of(view, self.priority);
        let best = self.first_possible(view, &order, &mut ways);
        let mut decision = Decision::default();
        if view.explain {
            decision.passed_over = self.ahead(view, &order, &mut ways, best);
        }
        decision.placed = best.and_then(|position| {
            let waiting = &view.waiting[position];
            let wish = self.wish(view, waiting);
            let (path, paths) = choose(view, &mut ways, waiting, &wish, self.cost_min)?;
            Some(Choice {
                job: waiting.job,
                path,
                reason: PlacementReason {
                    k_min: waiting.k_min,
                    k_star: waiting.k_star,
                    k_full: waiting.k_full,
                    priority: self.priority.then(|| order.terms(waiting)),
                    paths,
                },
            })
        });
        decision
    }

    fn full_share(
        &self,
        idle: &IdleView<'_>,
        kind: JobKindId,
        k_min: u32,
        k_star: u32,
    ) -> Result<Option<u32>, Refusal> {
        let mut ways = Ways::over(idle.scenario, idle.cluster, idle.estimates);
        let wish = |stages| Wish {
            kind: idle.estimates.kind(kind),
            full: stages,
            least: stages,
            extend: self.pathfinder,
        };
        let found = (k_min..=k_star)
            .rev()
            .find(|&stages| ways.any(&wish(stages)));
        match found {
            Some(stages) => Ok(Some(stages)),
            None if self.pathfinder => Err(Refusal::Bandwidth {
                needs: k_min,
                stopped: Some(ways.shortfall(&wish(k_min))),
            }),
            None => Err(Refusal::Region {
                needs: k_min,
                has: idle
                    .scenario
                    .regions
                    .iter()
                    .map(|region| region.gpus)
                    .max()
                    .unwrap_or(0),
            }),
        }
    }
}

/// What priorities are measured against at an instant.
#[derive(Debug, Clone, Copy)]
struct Order {
    at_s: f64,
    alpha: f64,
    largest_compute_s: f64,
    largest_demand_bps: f64,
    aging_per_hour: f64,
    by_priority: bool,
}

impl Order {
    fn of(view: &ClusterView<'_>, by_priority: bool) -> Self {
        let largest = |of: fn(&Waiting) -> f64| view.waiting.iter().map(of).fold(0.0, f64::max);
        Self {
            at_s: view.at_s,
            alpha: view.cluster.link_utilisation(),
            largest_compute_s: largest(|waiting| waiting.compute_s),
            largest_demand_bps: largest(|waiting| waiting.demand_bps),
            aging_per_hour: view.scenario.policy.aging_per_hour,
            by_priority,
        }
    }

    fn priority(&self, waiting: &Waiting) -> f64 {
        self.terms(waiting).priority
    }

    fn terms(&self, waiting: &Waiting) -> PriorityTerms {
        let intensity = waiting.compute_s / self.largest_compute_s;
        let sensitivity = waiting.demand_bps / self.largest_demand_bps;
        let aging = self.aging_per_hour * (self.at_s - waiting.arrival_s) / SECONDS_PER_HOUR;
        let own = (1.0 - self.alpha) * (1.0 - intensity) + self.alpha * (1.0 - sensitivity);
        PriorityTerms {
            priority: if self.by_priority { own + aging } else { 0.0 },
            alpha: self.alpha,
            intensity,
            sensitivity,
            aging,
        }
    }
}
