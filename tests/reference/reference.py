#!/usr/bin/env python3
"""docs/scheduling.md in `analytic` mode, written a second time to check the first.

Reads a scenario as JSON on standard input and prints placements, times and costs as JSON. It is written for
plainness: everything is recomputed from the formulas at every step, nothing is cached, and no code or structure is
shared with the engine. Input: {"policy", "settings", "regions", "links", "jobs", "link_changes"}; units as
the keys say. The standard library is all it needs.
"""

import json
import math
import sys

INFINITY = math.inf
TIE = 1e-12
SLACK = 1e-9


class World:
    def __init__(self, data):
        self.regions = data["regions"]
        self.jobs = data["jobs"]
        self.settings = data["settings"]
        self.policy = data["policy"]
        self.capacity = {(l["from"], l["to"]): l["bps"] for l in data["links"]}
        self.delay = {(l["from"], l["to"]): l["delay_s"] for l in data["links"]}
        self.changes = data.get("link_changes", [])
        self.free = [r["gpus"] for r in self.regions]
        self.flows = {}  # link -> list of (job, demand)
        self.running = {}
        self.waiting = []
        self.results = {}
        self.refused = []

    def speed(self, r):
        return self.regions[r]["flops"] * self.regions[r]["mfu"]

    # --- section 1 -------------------------------------------------------

    def tokens(self, j):
        return j["micro_batch"] * j["sequence"]

    def tensor_bits(self, j):
        return 8 * self.tokens(j) * j["model"]["hidden"] * j["bytes_per_element"]

    def layer_weights(self, m):
        h, n, kv, q, f = m["hidden"], m["heads"], m["kv_heads"], m["head_size"], m["feed_forward"]
        return h * n * q + 2 * h * kv * q + n * q * h + (3 if m["gated"] else 2) * h * f

    def k_min(self, j):
        m = j["model"]
        parameters = m["layers"] * self.layer_weights(m) + 2 * m["hidden"] * m["vocabulary"]
        memory = min(r["memory_bytes"] for r in self.regions)
        return -(-16 * parameters // memory)

    def stage_time(self, j, layers, last, speed):
        m, tau = j["model"], self.tokens(j)
        layer = tau * (2 * self.layer_weights(m) + 2 * j["sequence"] * m["heads"] * m["head_size"])
        head = tau * 2 * m["hidden"] * m["vocabulary"] if last else 0
        return 3 * (layers * layer + head) / speed

    def split(self, j, speeds):
        """Layers of each stage: dynamic programming over suffixes, then the largest first entries."""
        stages, total = len(speeds), j["model"]["layers"]
        best = [[INFINITY] * (total + 1) for _ in range(stages)]
        for i in range(stages - 1, -1, -1):
            for layers in range(1, total + 1):
                if i == stages - 1:
                    best[i][layers] = self.stage_time(j, layers, True, speeds[i])
                    continue
                for own in range(1, layers):
                    value = max(self.stage_time(j, own, False, speeds[i]), best[i + 1][layers - own])
                    best[i][layers] = min(best[i][layers], value)
        limit = best[0][total] * (1 + TIE)
        cut, left = [], total
        for i in range(stages - 1):
            for own in range(left - (stages - 1 - i), 0, -1):
                if self.stage_time(j, own, False, speeds[i]) <= limit and best[i + 1][left - own] <= limit:
                    cut.append(own)
                    left -= own
                    break
        cut.append(left)
        times = [self.stage_time(j, c, i == stages - 1, speeds[i]) for i, c in enumerate(cut)]
        return cut, times

    def t(self, j, stages, speed):
        key = ("t", stages)
        if key not in j:
            j[key] = max(self.split(j, [1.0] * stages)[1])
        return j[key] / speed

    def slowest(self, regions=None):
        return min(self.speed(r) for r in (range(len(self.regions)) if regions is None else regions))

    def k_star(self, j):
        fabric = min(r["fabric_bps"] for r in self.regions)
        top = min(j["model"]["layers"], sum(r["gpus"] for r in self.regions))
        values = []
        for k in range(self.k_min(j), top + 1):
            slot = self.t(j, k, self.slowest())
            if k > 1:
                slot = max(slot, self.tensor_bits(j) / fabric)
            values.append(((j["micro_batches"] + k - 1) * slot, k))
        if not values:
            return None
        least = min(v for v, _ in values)
        return min(k for v, k in values if v <= least * (1 + TIE))

    # --- sections 2 and 4 ------------------------------------------------

    def shares(self, link):
        flows = self.flows.get(link, [])
        left, shares = self.capacity.get(link, 0), {}
        for count, (job, demand) in enumerate(sorted(flows, key=lambda f: f[1])):
            shares[job] = min(demand, left / (len(flows) - count))
            left -= shares[job]
        return shares

    def one_way(self, link):
        capacity = self.capacity.get(link, 0)
        rest = capacity - sum(self.shares(link).values())
        return rest if rest > SLACK * capacity else 0

    def residual(self, u, v):
        return min(self.one_way((u, v)), self.one_way((v, u)))

    def links_of(self, path):
        for (u, _), (v, _) in zip(path, path[1:]):
            yield (u, v)
            yield (v, u)

    def placed_t(self, j, path):
        speeds = [self.speed(r) for r, n in path for _ in range(n)]
        return max(self.split(j, speeds)[1])

    def iteration(self, j, path, stage_t, share):
        stages = sum(n for _, n in path)
        bits, slot, delay = self.tensor_bits(j), stage_t, 0.0
        for i, (r, n) in enumerate(path):
            if n > 1:
                slot = max(slot, bits / self.regions[r]["fabric_bps"])
                delay += (n - 1) * self.regions[r]["fabric_delay_s"]
            if i + 1 < len(path):
                slot = max(slot, bits / share if share > 0 else INFINITY)
                delay += self.delay[(r, path[i + 1][0])]
        return (j["micro_batches"] + stages - 1) * slot + 2 * delay

    def price(self, r, at):
        return series_at(self.regions[r]["price"], at)

    # --- section 3 -------------------------------------------------------

    def extend(self, path):
        """The next region of a greedy path and the residual towards it."""
        choices = [v for v in range(len(self.regions)) if v not in path and self.free[v] > 0]
        if not choices:
            return None
        v = min(choices, key=lambda v: (-self.residual(path[-1], v), -self.free[v], v))
        return v, self.residual(path[-1], v)

    def find_path(self, j, start, full, least):
        bits = self.tensor_bits(j)

        def fits(residual, limit):
            return residual > 0 and bits / residual <= limit * (1 + SLACK)

        path, residuals = [start], []
        while sum(self.free[r] for r in path) < full and self.policy != "no-pathfinder":
            extension = self.extend(path)
            if extension is None:
                break
            v, residual = extension
            k = min(full, sum(self.free[r] for r in path) + self.free[v])
            if not fits(residual, self.t(j, k, self.slowest(path + [v]))):
                break
            path.append(v)
            residuals.append(residual)
        cap = sum(self.free[r] for r in path)
        if cap < least:
            return None
        k = min(full, cap)
        if not all(fits(r, self.t(j, k, self.slowest(path))) for r in residuals):
            return None
        return path, k, min(residuals, default=INFINITY)

    def paths(self, j, full, least):
        for start in range(len(self.regions)):
            if self.free[start] > 0:
                found = self.find_path(j, start, full, least)
                if found:
                    yield found

    def k_full(self, j, capacity):
        """On the idle cluster with GPUs as configured and links of this capacity."""
        saved = self.free, self.flows, self.capacity
        self.free, self.flows, self.capacity = [r["gpus"] for r in self.regions], {}, capacity
        found = None
        for k in range(j["k_star"], self.k_min(j) - 1, -1):
            if any(True for _ in self.paths(j, k, k)):
                found = k
                break
        self.free, self.flows, self.capacity = saved
        return found

    def best_to_come(self, j):
        """Each link's largest capacity from the job's arrival on."""
        best = dict(self.capacity)
        for c in self.changes:
            if c["at_s"] > j["arrival_s"]:
                best[(c["from"], c["to"])] = max(best[(c["from"], c["to"])], c["bps"])
        return best

    def least(self, j):
        share = math.ceil(self.settings["min_share"] * j["k_full"] * (1 - TIE))
        return max(share, self.k_min(j))

    def distribute(self, path, k, at):
        gpus = {r: 1 for r in path}
        left = k - len(path)
        for r in sorted(path, key=lambda r: (self.price(r, at), path.index(r))):
            more = min(left, self.free[r] - 1)
            gpus[r] += more
            left -= more
        return [(r, gpus[r]) for r in path]

    def fill(self, path, k):
        placed = []
        for r in path:
            n = min(k, self.free[r])
            k -= n
            if n:
                placed.append((r, n))
        return placed

    def bace_choice(self, j, at):
        cost_min = self.policy != "no-cost-min"
        candidates = []
        for path, k, residual in self.paths(j, j["k_full"], self.least(j)):
            placed = self.distribute(path, k, at) if cost_min else self.fill(path, k)
            stage_t = self.placed_t(j, placed)
            share = min(self.tensor_bits(j) / stage_t, residual)
            period = self.iteration(j, placed, stage_t, share)
            watts = sum(n * self.regions[r]["busy_w"] * self.regions[r]["pue"] * self.price(r, at)
                        for r, n in placed)
            candidates.append((period, watts * j["iterations"] * period, placed))
        if not candidates:
            return None
        best = min(c[0] for c in candidates)
        slack = self.settings["time_slack"] if cost_min else 0
        near = [c for c in candidates if c[0] <= best * (1 + slack) * (1 + TIE)]
        if not cost_min:
            return near[0][2]
        least = min(c[1] for c in near)
        return next(c[2] for c in near if c[1] <= least * (1 + TIE))

    def priority(self, j, at):
        def compute(j):
            k = j["k_full"]
            return j["iterations"] * (j["micro_batches"] + k - 1) * self.t(j, k, self.slowest())

        def demand(j):
            return self.tensor_bits(j) / self.t(j, j["k_full"], self.slowest())

        used = sum(sum(self.shares(link).values()) for link in self.capacity)
        total = sum(self.capacity.values())
        alpha = used / total if total else 0
        i = compute(j) / max(compute(o) for o in self.waiting)
        s = demand(j) / max(demand(o) for o in self.waiting)
        hours = (at - j["arrival_s"]) / 3600
        return (1 - alpha) * (1 - i) + alpha * (1 - s) + self.settings["aging_per_hour"] * hours

    # --- section 5 -------------------------------------------------------

    def baseline_choice(self, j, at):
        low, best = self.k_min(j), j["k_star"]
        everywhere = range(len(self.regions))
        if self.policy == "lcf":
            regions = [r for r in everywhere if self.free[r] >= low]
            regions = sorted(regions, key=lambda r: (self.price(r, at), r))[:1]
        elif self.policy == "ldf":
            regions = sorted(everywhere, key=lambda r: (-self.free[r], r))[:1]
        elif self.policy == "cr-lcf":
            regions = []
            for r in sorted(everywhere, key=lambda r: (self.price(r, at), r)):
                if self.free[r] > 0 and sum(self.free[o] for o in regions) < best:
                    regions.append(r)
        else:
            regions = sorted(everywhere, key=lambda r: (-self.free[r], r))[:1]
            while sum(self.free[r] for r in regions) < best:
                extension = self.extend(regions)
                if extension is None:
                    break
                regions.append(extension[0])
        k = min(best, sum(self.free[r] for r in regions))
        if k < low:
            return None
        placed = self.fill(regions, k)
        if any(self.residual(u, v) == 0 for (u, _), (v, _) in zip(placed, placed[1:])):
            return None
        return placed

    # --- the run ---------------------------------------------------------

    def is_bace(self):
        return self.policy in ("bace-pipe", "no-priority", "no-pathfinder", "no-cost-min")

    def arrive(self, j):
        j["k_star"] = self.k_star(j)
        if j["k_star"] is not None and self.is_bace():
            j["k_full"] = self.k_full(j, self.capacity)
            if j["k_full"] is None and self.k_full(j, self.best_to_come(j)) is not None:
                j["k_full"] = self.k_min(j)
        if j["k_star"] is None or self.is_bace() and j["k_full"] is None:
            self.refused.append(j["name"])
        else:
            self.waiting.append(j)

    def look_again(self):
        for j in self.waiting:
            if self.is_bace():
                j["k_full"] = self.k_full(j, self.capacity) or self.k_min(j)

    def place_all(self, at):
        while self.waiting:
            order = sorted(self.waiting, key=lambda j: (j["arrival_s"], j["id"]))
            if self.is_bace() and self.policy != "no-priority":
                priorities = {j["id"]: self.priority(j, at) for j in order}
                order.sort(key=lambda j: -priorities[j["id"]])
            if not self.is_bace():
                order = order[:1]
            for j in order:
                placed = self.bace_choice(j, at) if self.is_bace() else self.baseline_choice(j, at)
                if placed:
                    self.start(j, placed, at)
                    break
            else:
                return

    def start(self, j, placed, at):
        self.waiting = [o for o in self.waiting if o["id"] != j["id"]]
        speeds = [self.speed(r) for r, n in placed for _ in range(n)]
        cut, times = self.split(j, speeds)
        for r, n in placed:
            self.free[r] -= n
        for link in self.links_of(placed):
            self.flows.setdefault(link, []).append((j["id"], self.tensor_bits(j) / max(times)))
        self.running[j["id"]] = {
            "job": j, "path": placed, "times": times, "done": 0.0, "since": at, "period": None,
            "end": INFINITY,
        }
        self.results[j["id"]] = {
            "name": j["name"], "k": len(times), "k_star": j["k_star"],
            "path": [[self.regions[r]["name"], n] for r, n in placed],
            "layers": cut, "start_s": at, "energy_j": 0.0, "cost_usd": 0.0,
        }

    def update(self, at):
        for run in self.running.values():
            share = min((self.shares(l)[run["job"]["id"]] for l in self.links_of(run["path"])),
                        default=INFINITY)
            period = self.iteration(run["job"], run["path"], max(run["times"]), share)
            if run["period"] is not None and abs(period - run["period"]) <= TIE * period \
                    or period == run["period"]:
                continue
            self.account(run, at)
            run["period"] = period
            left = run["job"]["iterations"] - run["done"]
            run["end"] = at + left * period

    def account(self, run, at):
        """Progress, joules and dollars since the last change of the period."""
        begin, run["since"] = run["since"], at
        if run["period"] is None or at <= begin:
            return
        result = self.results[run["job"]["id"]]
        run["done"] += (at - begin) / run["period"]
        regions = [r for r, n in run["path"] for _ in range(n)]
        for r, stage in zip(regions, run["times"]):
            region = self.regions[r]
            busy = run["job"]["micro_batches"] * stage / run["period"]
            watts = busy * region["busy_w"] + (1 - busy) * region["idle_w"]
            result["energy_j"] += watts * (at - begin)
            result["cost_usd"] += watts * region["pue"] * integral(region["price"], begin, at) / 3.6e6

    def finish(self, run, at):
        self.account(run, at)
        j = run["job"]
        del self.running[j["id"]]
        for r, n in run["path"]:
            self.free[r] += n
        for link in self.links_of(run["path"]):
            self.flows[link] = [f for f in self.flows[link] if f[0] != j["id"]]
        self.results[j["id"]].update(finish_s=at, jct_s=at - j["arrival_s"])

    def run(self):
        arrivals = sorted(self.jobs, key=lambda j: (j["arrival_s"], j["id"]))
        changes = sorted(self.changes, key=lambda c: c["at_s"])
        while True:
            moments = [run["end"] for run in self.running.values()]
            moments += [j["arrival_s"] for j in arrivals[:1]] + [c["at_s"] for c in changes[:1]]
            moments = [m for m in moments if m < INFINITY]
            if not moments:
                break
            at = min(moments)
            limit = at * (1 + TIE)
            for run in [r for r in self.running.values() if r["end"] <= limit]:
                self.finish(run, at)
            while changes and changes[0]["at_s"] <= limit:
                change = changes.pop(0)
                link = (change["from"], change["to"])
                self.capacity[link], self.delay[link] = change["bps"], change["delay_s"]
            self.look_again()
            while arrivals and arrivals[0]["arrival_s"] <= limit:
                self.arrive(arrivals.pop(0))
            self.place_all(at)
            self.update(at)
        jobs = [r for _, r in sorted(self.results.items()) if "finish_s" in r]
        return {"jobs": jobs, "refused": self.refused,
                "waiting": [j["name"] for j in sorted(self.waiting, key=lambda j: (j["arrival_s"], j["id"]))]}


def series_at(series, at):
    if series["daily"]:
        at = at % 86400
    return [value for begin, value in series["steps"] if begin <= at][-1]


def integral(series, begin, end):
    """Step by step from one change of the series to the next."""
    total, at = 0.0, begin
    while at < end:
        day = math.floor(at / 86400) * 86400 if series["daily"] else 0
        changes = [day + b for b, _ in series["steps"]] + ([day + 86400] if series["daily"] else [])
        until = min([c for c in changes if c > at] + [end])
        until = min(until, end)
        total += series_at(series, (at + until) / 2) * (until - at)
        at = until
    return total


def main():
    answers = []
    for data in json.load(sys.stdin):
        for number, job in enumerate(data["jobs"]):
            job["id"] = number
        answers.append(World(data).run())
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
