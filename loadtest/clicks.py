"""`clicks`: how long a page waits for an offer, from the page view to the trigger; and how many page views a worker takes.

In: a rate, seconds, runs, how many page views for the comparison. Out: percentiles as medians of the runs, each on fresh servers, with
twenty offers in force (twenty_offers.toml), eighteen of them scored by models that were taught; rates, and their ratio.

    tillstream  `tillstream worker --role offers`: features, registry, twenty offers, consent, caps, budgets, control groups
    faust       a stock Faust agent: one Redis round trip and one `predict_proba_one` an event, and nothing of the rest
                (contend_clicks_faust.py says what it leaves out)

For the comparison `clickstream` is filled first, and a contender consumes it to its end; the clock runs from the first record that reaches
its code to the last one taken. Servers and pages share this machine with what is measured.
"""

import time
from collections.abc import Callable
from itertools import islice
from statistics import median
from typing import Any, NamedTuple

from confluent_kafka import Producer

from loadtest.clicks_load import MEMBERS, STRANGERS, page_views
from loadtest.clicks_pages import ClickPhase
from loadtest.clicks_place import Measured, Shop, filled, shop
from loadtest.contender import Result, VoidRunError, contend
from loadtest.lane import PERCENTILES
from loadtest.load import PARTITIONS
from loadtest.report import Goal, Report, TableOf
from tillstream.sinks.writer import PRODUCER
from tillstream.streams.topics import CLICKSTREAM

GOAL_MS = 50.0
"""What the 99th percentile may be: the page is still being drawn."""

TIMES_FAUST = 5.0

WARM_S, WARM_SHARE = 4.0, 0.5

PEER_SHARE = 10
"""The peer gets a tenth of the page views: rates are compared."""

PEER_MIN = 200

SPREAD_MS = 30_000
"""Page views of the comparison are of the half minute before it: what is older than five minutes would trigger nothing."""

SEED = 23
FLUSH_S = 60.0


class Contender(NamedTuple):
    """One way of doing the work; `share`: the part of the page views that it gets is one in so many."""

    name: str
    module: str
    share: int


CONTENDERS = (
    Contender("tillstream", "loadtest.contend_clicks_tillstream", 1),
    Contender("faust", "loadtest.contend_clicks_faust", PEER_SHARE),
)


def run(per_s: float, seconds: float, runs: int, pages: int, partitions: int, progress: Callable[[str], None]) -> Report:
    """All of it.

    Raises:
        VoidRunError: something did not start, or ended, or told a trigger that it should not have.
    """
    found: list[Measured] = []
    rates: dict[str, list[Result]] = {contender.name: [] for contender in CONTENDERS}
    for number in range(runs):
        with shop(partitions) as here:
            found.append(measured(here, ClickPhase(per_s, seconds)))
        took = f"p50 {found[-1].ms(50.0):.1f} ms, p99 {found[-1].ms(99.0):.1f} ms"
        progress(f"run {number + 1}/{runs}  {found[-1].triggers:,} triggers, {took}")
        for contender in CONTENDERS:
            result = compete(contender, max(min(PEER_MIN, pages), pages // contender.share))
            rates[contender.name].append(result)
            progress(f"run {number + 1}/{runs}  {contender.name:<10}  {result.rate:>10,.0f} page views/s")
    return report({"per_s": per_s, "seconds": seconds, "runs": runs, "pages": pages, "partitions": partitions}, found, rates)


def measured(here: Shop, phase: ClickPhase) -> Measured:
    """One phase on a worker that is warm."""
    here.run(ClickPhase(phase.per_s * WARM_SHARE, min(WARM_S, phase.seconds)))
    done = here.run(phase)
    if done.repeats or not done.triggers:
        raise VoidRunError(f"{done.triggers:,} triggers, {done.repeats:,} of them again: the run is void")
    return done


def compete(contender: Contender, pages: int) -> Result:
    """One contender on fresh servers."""
    with filled(PARTITIONS) as servers:
        preload(servers.broker.address, pages)
        where = ("--kafka", servers.broker.address, "--redis", servers.cache.address)
        return contend(contender.module, *where, "--receipts", str(pages))


def preload(kafka: str, pages: int) -> None:
    """Fills `clickstream`.

    Raises:
        VoidRunError: Kafka did not acknowledge it.
    """
    producer = Producer({**PRODUCER, "bootstrap.servers": kafka})
    begins_ms = round(time.time() * 1000) - SPREAD_MS
    for number, page in enumerate(islice(page_views(SEED), pages)):
        producer.produce(CLICKSTREAM, page.at(begins_ms + number * SPREAD_MS // pages), page.visitor.encode())
        producer.poll(0)
    if producer.flush(FLUSH_S):
        raise VoidRunError("Kafka did not take the page views")


def report(asked: dict[str, Any], runs: list[Measured], rates: dict[str, list[Result]]) -> Report:
    """Medians, goals, and what stands beside them."""
    latency = {name: median(run.ms(at) for run in runs) for name, at in PERCENTILES.items()}
    rate = {name: median(result.rate for result in each) for name, each in rates.items()}
    times = rate["tillstream"] / rate["faust"]
    goals = [
        Goal("page view to trigger p99, ms", GOAL_MS, latency["p99"], at_most=True),
        Goal("page views a second / stock Faust", TIMES_FAUST, times),
    ]
    late = {name: median(run.late.get_value_at_percentile(at) / 1000 for run in runs) for name, at in PERCENTILES.items()}
    cores = {name: round(median(run.cpu_s[name] / run.seconds for run in runs), 3) for name in runs[0].cpu_s}
    cpu_us = {name: round(median(run.cpu_s[name] / run.pages * 1e6 for run in runs)) for name in runs[0].cpu_s}
    figures: dict[str, Any] = {
        "latency_ms": latency,
        "p99_ms_of_each_run": [run.ms(99.0) for run in runs],
        "page_views": sum(run.pages for run in runs),
        "triggers": sum(run.triggers for run in runs),
        "sent_late_ms": late,
        "cores_used": cores,
        "cpu_us_per_page_view": cpu_us,
        "times_faust": round(times, 2),
    }
    for name, each in rates.items():
        figures[name] = {
            "page_views": each[0].receipts,
            "page_views_per_s": [round(result.rate) for result in each],
            "median_page_views_per_s": round(rate[name]),
            "cpu_us_per_page_view": round(median(result.cpu_s / result.receipts * 1e6 for result in each), 1),
            "starved_share": round(median(result.starved_s / result.seconds for result in each), 2),
            "rss_peak_mib": round(max(result.rss_mib for result in each)),
        }
    return Report("clicks", asked, figures, goals, tables(asked, figures), notes(asked, figures))


def tables(asked: dict[str, Any], figures: dict[str, Any]) -> list[TableOf]:
    """For people."""
    latency = [f"{asked['per_s']:,.0f}", *(f"{figures['latency_ms'][name]:,.1f}" for name in PERCENTILES), f"{GOAL_MS:g}"]
    costs = [
        ["CPU, µs a page view", *(f"{value:,}" for value in figures["cpu_us_per_page_view"].values())],
        ["cores used", *(f"{value:.2f}" for value in figures["cores_used"].values())],
    ]
    own = figures["tillstream"]["median_page_views_per_s"]
    rows = []
    for contender in CONTENDERS:
        each = figures[contender.name]
        rate = each["median_page_views_per_s"]
        took = [f"{1e6 / rate:,.0f}", f"{each['cpu_us_per_page_view']:,.0f}", f"{each['starved_share']:.0%}"]
        rows.append([contender.name, f"{each['page_views']:,}", f"{rate:,.0f}", *took, f"{own / rate:.2f}", f"{each['rss_peak_mib']:,}"])
    columns = ["contender", "page views", "per s", "µs each", "CPU µs", "starved", "× own", "MiB"]
    return [
        TableOf("From the moment a page view was due to its trigger, ms", ["per s", *PERCENTILES, "p99 goal"], [latency]),
        TableOf("What that takes", ["", *figures["cores_used"]], costs),
        TableOf("All that a worker can take", columns, rows),
    ]


def notes(asked: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    """What to know when reading them."""
    return [
        f"medians of {asked['runs']} runs of {asked['seconds']:g} s on fresh servers; Poisson arrivals, {MEMBERS + STRANGERS:,} visitors",
        f"{figures['triggers']:,} of {figures['page_views']:,} page views led to a trigger, each told once",
        f"page views were sent {figures['sent_late_ms']['p99']:.1f} ms late at p99, which is counted",
        f"faust had {figures['faust']['page_views']:,} page views and is compared by rate; it scores one offer, decides nothing",
        "starved: how much of the time the main thread was ready and had no CPU; much of that, and the rates say little",
    ]
