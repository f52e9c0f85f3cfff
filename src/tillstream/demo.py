"""`tillstream demo`: the whole system on this machine, real receipts, and what became of them."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from importlib.resources import as_file, files
from typing import Any

from tillstream.config import Config, load_program
from tillstream.demo_page import visit
from tillstream.demo_till import sell, take_sale
from tillstream.errors import TillstreamError, UsageError
from tillstream.histories import Event, Faults, History, named
from tillstream.installation import Installation, gateway_of
from tillstream.progress import Watch
from tillstream.sending import Sender
from tillstream.sinks.archive import counts, points_given
from tillstream.sinks.clickhouse import connect as connect_clickhouse
from tillstream.sinks.directory import Directory
from tillstream.sinks.redis import Redis, connect
from tillstream.streams.roles import STATS_EVERY_S
from tillstream.streams.stats import percentile_ms, read_stats
from tillstream.top_member import explain_top
from tillstream.verify import verify

LOOK_EVERY_S = 0.1
PACED_EVENTS = 1_000
PACED_RATE = 200.0
"""The history's end is sent at the pace of a busy chain's tills, events a second: what a till waits for shows there, not in the burst."""
STUCK_S = 60.0
"""Without any progress for this long, the demo gives up and says so."""

FAULTS_SHOWN = ("duplicates", "returns", "returns_before_sale", "returns_without_member", "late")

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


def find_history(receipts: int, say: Say) -> tuple[History, str]:
    """The Complete Journey, or, where it is not installed, generated receipts; and the demo's program for it."""
    faults = Faults()
    try:
        return named("complete-journey", receipts, faults), "demo.toml"
    except UsageError as missing:
        say(f"{missing}; going on with generated receipts")
        return named("generated", receipts, faults), "demo-generated.toml"


def run_demo(receipts: int, say: Say, progress: Progress, finish: Callable[[Config, dict[str, Any]], None]) -> None:
    """Runs the demo; `finish` gets the figures while the installation is still running."""
    started = time.monotonic()
    history, program = find_history(receipts, say)
    say("starting the servers: broker, Redis, ClickHouse, four workers")
    with as_file(files("tillstream").joinpath(program)) as path:
        installation = Installation(path)
        with installation as config:
            figures = asyncio.run(feed(config, installation, history, progress))
            peaks = {role: worker.peak_mib() for role, worker in installation.workers.items()}
            finish(config, {**figures, "workers_peak_mib": peaks, "seconds": round(time.monotonic() - started, 1)})


async def feed(config: Config, installation: Installation, history: History, progress: Progress) -> dict[str, Any]:
    """Sends the history, waits until it is through, and collects the figures."""
    client = connect(config.redis)
    watch = Watch(config, client)
    sender, directory = Sender(config), Directory(client)
    total = 0

    async def send_through(what: str, events: Iterable[Event], rate: float | None) -> tuple[int, float]:
        """Sends events and waits until ClickHouse has them; how many, and the seconds that it took."""
        started = time.monotonic()
        sent = await asyncio.to_thread(sender.send, events, rate, lambda count: progress(f"sending, {what}", count, 0))
        nonlocal total
        total += sent

        async def left() -> int:
            outcomes = (await read_stats(client)).outcomes
            seen = sum(count for status, count in outcomes.items() if status != "taken_up")
            done = seen + await directory.parked_count()
            # For the eye only: a return that is parked twice is one, so it need not add up.
            progress(f"posted, {what}", min(done, total), total)
            return (await watch.behind()).total

        await until_none(left, installation)
        await asyncio.sleep(STATS_EVERY_S)
        return sent, time.monotonic() - started - STATS_EVERY_S

    try:
        enrolments = list(history.enrolments)
        sender.send(enrolments)
        await until_none(lambda: not_enrolled(client, enrolments), installation)
        held_back: deque[Event] = deque()
        burst, burst_s = await send_through("burst", without_end(history.receipts, held_back), None)
        buckets = Counter((await read_stats(client)).latency_buckets)
        sale = take_sale(held_back)
        visited, sold = (None, None) if sale is None else await page_and_till(config, sale, member_of(sale, enrolments))
        paced, _ = await send_through("at a till's pace", held_back, PACED_RATE)
        stats = await read_stats(client)
        return {
            "events": burst + paced + (sale is not None),
            "enrolled": len(enrolments),
            "burst": {"events": burst, "seconds": round(burst_s, 2), "events_per_second": round(burst / burst_s)},
            "paced": {"events": paced, "events_per_second": PACED_RATE},
            "latency_ms": {"burst": percentiles(buckets), "paced": percentiles(Counter(stats.latency_buckets) - buckets)},
            "outcomes": stats.outcomes,
            "on_the_page": visited,
            "at_a_till": sold,
            **await collect(config, client, history),
        }
    finally:
        watch.close()
        await client.aclose()


async def page_and_till(config: Config, sale: Event, member_id: str | None) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """A visit of the sale's member to the shop's page, where it is enrolled, then the sale; through a gateway, started for them."""
    with gateway_of(config) as address:
        return None if member_id is None else await visit(address, member_id), await sell(address, sale)


def member_of(sale: Event, enrolments: list[Event]) -> str | None:
    """The member whose identity a sale brings, by the enrolments; None: nobody of them."""
    return next((e["data"]["member_id"] for e in enrolments if sale["data"]["member"] in e["data"].get("identities", [])), None)


async def collect(config: Config, client: Redis, history: History) -> dict[str, Any]:
    """What the finished system says of itself."""
    clickhouse = connect_clickhouse(config.clickhouse)
    report = await verify(config, client, clickhouse)
    top = explain_top(clickhouse, load_program(config.program))
    return {
        "faults": fault_counts(history),
        "history": counts(clickhouse)._asdict(),
        "points": points_given(clickhouse),
        "top_member": None if top is None else {**top._asdict(), "lines": [line._asdict() for line in top.lines]},
        "verify": report.as_json(),
    }


def fault_counts(history: History) -> dict[str, int]:
    """What was injected into the history."""
    summary = getattr(history.receipts, "summary", None)
    return {} if summary is None else {name: getattr(summary, name) for name in FAULTS_SHOWN}


def without_end(events: Iterable[Event], end: deque[Event]) -> Iterator[Event]:
    """All events but the last `PACED_EVENTS`, which are left in `end`."""
    for event in events:
        end.append(event)
        if len(end) > PACED_EVENTS:
            yield end.popleft()


def percentiles(buckets: Counter[int]) -> dict[str, float]:
    """From the till's record to the points in Redis, milliseconds."""
    return {name: round(percentile_ms(buckets, share), 1) for name, share in (("p50", 0.5), ("p99", 0.99))}


async def not_enrolled(client: Redis, enrolments: list[dict[str, Any]]) -> int:
    """Identities that have yet to reach the index."""
    wanted = sum(len(event["data"].get("identities", [])) for event in enrolments)
    there = 0
    async for key in client.scan_iter(match="{i*}:identities"):
        there += await client.hlen(key)
    return max(0, wanted - there)


async def until_none(left: Callable[[], Awaitable[int]], installation: Installation) -> None:
    """Waits until nothing is `left`, however long it takes, as long as it becomes less.

    Raises:
        TillstreamError: a worker died, or it has not become less for `STUCK_S` seconds.
    """
    least, deadline = await left(), time.monotonic() + STUCK_S
    while (now := await left()) > 0:
        installation.check_workers()
        if now < least:
            least, deadline = now, time.monotonic() + STUCK_S
        if time.monotonic() > deadline:
            raise TillstreamError(f"nothing came through for {STUCK_S:.0f} s; the workers' last words: {last_words(installation)}")
        await asyncio.sleep(LOOK_EVERY_S)


def last_words(installation: Installation) -> str:
    return " | ".join(line for worker in installation.workers.values() for line in worker.log_tail())
