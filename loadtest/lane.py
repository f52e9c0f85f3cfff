"""`lane`: what a till waits for, at a busy chain's rate: identify, quote, and a receipt until its points by line.

In: rates, seconds, runs. Out: percentiles as medians of the runs, each on fresh servers; what each part of a request costs each server; and
a saturation curve: the same mix at rising rates, until it only queues.

Requests are sent on a clock (lane_tills.py), so what waits is counted. All of it, the tills too, shares this machine.
"""

from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from msgspec import Struct

from loadtest.lane_place import Measured, Place, place
from loadtest.lane_tills import MEMBERS, Phase
from loadtest.report import Goal, Report, TableOf

KINDS = ("identify", "quote", "receipt")

GOALS_MS = {"identify": 10.0, "quote": 10.0, "receipt": 50.0}
"""What the 99th percentile may be: a cashier does not notice it, and the receipt is still being printed."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9, "max": 100.0}

PUBLISHED_MS = (100.0, 250.0)
"""What Eagle Eye, the one maker that publishes a figure, gives as its average."""

WARM_S, WARM_SHARE = 4.0, 0.5
COST_S = 6.0
STEP_S = 8.0
STEPS = (0.25, 0.5, 0.75, 1.0, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0)
"""Of the curve, in parts of the rate that the goals are for."""

KNEE_MS = 250.0
"""Beyond this the system only queues: the curve ends with the first step of which a 99th percentile is."""

SERVED_MIN = 0.999
"""Of a step's requests so many have an answer, or it is beyond the knee as well."""


class Size(NamedTuple):
    """Of the installation: partitions, all worked on by one worker, and gateways."""

    partitions: int
    gateways: int


class Step(Struct, frozen=True):
    """One point of the curve: all requests a second, the 99th and the middle latency by kind, and the part that was answered."""

    per_s: float
    p50_ms: dict[str, float]
    p99_ms: dict[str, float]
    answered: float

    @property
    def holds(self) -> bool:
        """Whether the goals are reached at this rate."""
        return self.answered >= SERVED_MIN and all(self.p99_ms[kind] <= most for kind, most in GOALS_MS.items())

    @property
    def queues(self) -> bool:
        """Whether this rate is beyond the knee."""
        return self.answered < SERVED_MIN or max(self.p99_ms.values()) > KNEE_MS


def run(
    rates: dict[str, float], seconds: float, runs: int, size: Size, progress: Callable[[str], None], *, curve: bool
) -> tuple[Report, list[Step]]:
    """All of it; `rates` are requests a second by kind. The curve is empty unless it is asked for.

    Raises:
        VoidRunError: something did not start, or ended.
    """
    found: list[Measured] = []
    costs: dict[str, dict[str, float]] = {}
    steps: list[Step] = []
    for number in range(runs):
        with place(*size) as here:
            here.run(Phase(scaled(rates, WARM_SHARE), WARM_S))
            found.append(here.run(Phase(rates, seconds)))
            shown = "  ".join(f"{kind} {found[-1].ms(kind, 99.0):.1f}" for kind in KINDS)
            progress(f"run {number + 1}/{runs}  p99 ms: {shown}")
            if number == runs - 1:
                costs = costs_us(here, rates)
                steps = saturation(here, rates, progress) if curve else []
    asked = {"rates": rates, "seconds": seconds, "runs": runs, **size._asdict()}
    return report(asked, found, costs, steps), steps


def scaled(rates: dict[str, float], share: float) -> dict[str, float]:
    return {kind: rate * share for kind, rate in rates.items()}


def costs_us(here: Place, rates: dict[str, float]) -> dict[str, dict[str, float]]:
    """CPU microseconds of one request of each kind by server: what the servers took while only that kind came, at its rate."""
    found = {}
    for kind in KINDS:
        measured = here.run(Phase({kind: rates[kind]}, COST_S))
        count = measured.latencies[kind].total_count
        found[kind] = {name: round(seconds / count * 1e6) for name, seconds in measured.cpu_s.items()}
    return found


def saturation(here: Place, rates: dict[str, float], progress: Callable[[str], None]) -> list[Step]:
    """The mix at rising rates, up to the first that is beyond the knee."""
    steps: list[Step] = []
    for share in STEPS:
        steps.append(step_of(here.run(Phase(scaled(rates, share), STEP_S)), sum(rates.values()) * share))
        progress(f"{steps[-1].per_s:,.0f} requests/s: p99 ms {steps[-1].p99_ms}")
        if steps[-1].queues:
            break
    return steps


def step_of(measured: Measured, per_s: float) -> Step:
    """A phase as a point of the curve."""
    count = sum(histogram.total_count for histogram in measured.latencies.values())
    p50, p99 = ({kind: measured.ms(kind, at) for kind in KINDS} for at in (50.0, 99.0))
    return Step(per_s, p50, p99, 1 - measured.failed.total() / count)


def report(asked: dict[str, Any], runs: list[Measured], costs: dict[str, dict[str, float]], steps: list[Step]) -> Report:
    """Medians, goals, and what stands beside them."""
    latencies = {kind: {name: median(run.ms(kind, at) for run in runs) for name, at in PERCENTILES.items()} for kind in KINDS}
    requests = sum(histogram.total_count for run in runs for histogram in run.latencies.values())
    failed = sum(run.failed.total() for run in runs)
    goals = [Goal(f"{kind} p99, ms", most, latencies[kind]["p99"], at_most=True) for kind, most in GOALS_MS.items()]
    goals.append(Goal("requests answered, part of all", 1.0, 1 - failed / requests))
    late = {name: median(run.late.get_value_at_percentile(at) / 1000 for run in runs) for name, at in PERCENTILES.items()}
    cores = {name: round(median(run.cpu_s[name] / run.seconds for run in runs), 3) for name in runs[0].cpu_s}
    figures = {
        "latency_ms": latencies,
        "p99_ms_of_each_run": {kind: [run.ms(kind, 99.0) for run in runs] for kind in KINDS},
        "requests": requests,
        "failed": failed,
        "sent_late_ms": late,
        "cores_used": cores,
        "cpu_us_per_request": costs,
        "curve": steps,
        "goals_hold_up_to_per_s": max((step.per_s for step in steps if step.holds), default=None),
        "knee_per_s": max((step.per_s for step in steps if not step.queues), default=None),
        "published_average_ms": {"Eagle Eye": PUBLISHED_MS},
    }
    rows = [
        [kind, f"{asked['rates'][kind]:,.0f}", *(f"{latencies[kind][name]:,.1f}" for name in PERCENTILES), f"{GOALS_MS[kind]:g}"]
        for kind in KINDS
    ]
    parts = list(cores)
    cost_rows = [[kind, *(f"{costs[kind][part]:,}" for part in parts)] for kind in costs]
    cost_rows.append(["cores used by all together", *(f"{cores[part]:.2f}" for part in parts)])
    tables = [
        TableOf("From the moment it was due to its answer, ms", ["request", "per s", *PERCENTILES, "p99 goal"], rows),
        TableOf("CPU, µs a request where only its kind comes", ["request", *parts], cost_rows),
    ]
    if steps:
        curve_rows = [[f"{step.per_s:,.0f}", *(f"{step.p99_ms[kind]:,.1f}" for kind in KINDS), f"{step.answered:.2%}"] for step in steps]
        tables.append(TableOf("Saturation: p99 by rate, ms", ["requests/s", *KINDS, "answered"], curve_rows))
    notes = [
        f"medians of {asked['runs']} runs of {asked['seconds']:g} s on fresh servers; Poisson arrivals, {MEMBERS:,} members; why: "
        f"{next((run.why for run in runs if run.why), 'nothing failed')}",
        f"tills sent {late['p99']:.1f} ms late at p99, which is counted; they took {cores['tills']:.2f} cores of this machine",
        f"Eagle Eye publishes an average of {PUBLISHED_MS[0]:g} to {PUBLISHED_MS[1]:g} ms, over a network; here is none",
    ]
    return Report("lane", asked, figures, goals, tables, notes)
