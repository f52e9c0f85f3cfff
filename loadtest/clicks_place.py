"""Where `clicks` runs: an embedded broker and Redis, fresh, with members, purchases, champions and the program in them.

In: partitions; phases. Out: what became of the page views, and what each server used of the processor meanwhile.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from hdrh.histogram import HdrHistogram
from redis import Redis as Client

from loadtest.clicks_load import PROGRAM, champions, facts, program, purchases
from loadtest.clicks_pages import DIGITS, US_MAX, ClickPhase, ClicksTold
from loadtest.contender import ROOT, VoidRunError
from loadtest.lane_place import LOOK_EVERY_S, cpu_of, hear, say
from loadtest.load import IDENTITY_KEY
from tillstream.config import Config
from tillstream.embedded.broker import Broker
from tillstream.embedded.process import Server
from tillstream.embedded.redis import Redis
from tillstream.installation import SESSION_MS, WorkerProcess
from tillstream.models.features.purchases import encode_purchases
from tillstream.schemas.publishing import published
from tillstream.sinks.checkpoints import CheckpointStore
from tillstream.sinks.directory import Directory
from tillstream.sinks.features import ACCOUNTS_S, PURCHASES, VISITS
from tillstream.sinks.redis import connect, load_library
from tillstream.streams.groups import partition_of
from tillstream.streams.programs import publish
from tillstream.streams.topics import ensure_topics

AHEAD_S = 0.3
"""From the word to the beginning of a phase."""

TAKEN_S = 120.0
"""Longer than a worker needs to join and to take what has come; then the run is void."""

TOLD_S = 0.5
"""Triggers of the last batch are with their listener by then."""


class Measured(NamedTuple):
    """One phase: histograms of microseconds; page views; triggers that are not repeats, and repeats; CPU seconds by part; its length."""

    latencies: HdrHistogram
    late: HdrHistogram
    pages: int
    triggers: int
    repeats: int
    cpu_s: dict[str, float]
    seconds: float

    def ms(self, percentile: float) -> float:
        """A percentile of the latencies, milliseconds."""
        return round(self.latencies.get_value_at_percentile(percentile) / 1000, 2)


class Shop:
    """The servers, by name, and the process that sends page views and listens."""

    def __init__(self, servers: dict[str, Server], pages: "subprocess.Popen[str]", redis_url: str, partitions: int) -> None:
        self.servers = servers
        self.pages = pages
        self.redis_url = redis_url
        self.partitions = partitions
        self.sent = 0

    def run(self, phase: ClickPhase) -> Measured:
        """One phase, until everything that was sent has been taken.

        Raises:
            VoidRunError: a process has ended, or was not through in time.
        """
        say(self.pages, msgspec.json.encode(phase).decode())
        hear(self.pages)
        begins = time.time() + AHEAD_S
        say(self.pages, str(begins))
        time.sleep(max(0.0, begins - time.time()))
        before, started = self.cpu_s(), time.monotonic()
        self.sent += int(hear(self.pages))
        seconds, after = time.monotonic() - started, self.cpu_s()
        wait_taken(self.redis_url, self.partitions, self.sent)
        time.sleep(TOLD_S)
        say(self.pages, "end")
        told = msgspec.json.decode(hear(self.pages), type=ClicksTold)
        latencies, late = HdrHistogram(1, US_MAX, DIGITS), HdrHistogram(1, US_MAX, DIGITS)
        latencies.decode_and_add(told.latencies)
        late.decode_and_add(told.late)
        cpu = {name: after[name] - before[name] for name in before} | {"pages": told.cpu_s}
        return Measured(latencies, late, told.pages, told.triggers, told.repeats, cpu, seconds)

    def cpu_s(self) -> dict[str, float]:
        """What each server has used so far, all its threads."""
        return {name: cpu_of(server) for name, server in self.servers.items()}


def wait_taken(redis_url: str, partitions: int, count: int) -> None:
    """Waits until so many page views are in the states of visitors.

    Raises:
        VoidRunError: they are not in time.
    """
    deadline = time.monotonic() + TAKEN_S
    with Client.from_url(redis_url) as client:
        while (taken := sum(int(client.hget(VISITS.meta(number), "offset") or -1) + 1 for number in range(partitions))) < count:  # type: ignore[arg-type]
            if time.monotonic() > deadline:
                raise VoidRunError(f"of {count:,} page views {taken:,} were taken within {TAKEN_S:.0f} s")
            time.sleep(LOOK_EVERY_S)


def config_of(kafka: str, redis_url: str, partitions: int) -> Config:
    """The configuration of a worker here."""
    return Config(
        kafka=kafka, kafka_transactions=False, redis=redis_url, program=str(PROGRAM), identity_key=IDENTITY_KEY, partitions=partitions,
        session_ms=SESSION_MS, poll_interval_ms=SESSION_MS, log_level="error",
    )  # fmt: skip


class Servers(NamedTuple):
    """The two servers that everything goes through."""

    broker: Broker
    cache: Redis


@contextmanager
def filled(partitions: int) -> Iterator[Servers]:
    """A broker with topics and the program, a Redis with all that a worker finds there; ended by pid."""
    with ExitStack() as stack:
        servers = Servers(Broker(), Redis())
        kafka, address = (stack.enter_context(server) for server in servers)
        ensure_topics(kafka, partitions, 1)
        publish({"bootstrap.servers": kafka}, [published(program(), PROGRAM.read_text(encoding="utf-8"), datetime.now(UTC))])
        asyncio.run(fill(address, partitions))
        yield servers


async def fill(address: str, partitions: int) -> None:
    """Members, what they bought, and models, as `points`, `regard` and `learn` leave them."""
    client: Any = connect(address)
    try:
        await load_library(client, address)
        directory = Directory(client)
        await directory.registry.note(facts())
        await directory.note_members(-1)
        pipeline = client.pipeline(transaction=False)
        for account, state in purchases().items():
            key = PURCHASES.key(partition_of(account, partitions), account)
            pipeline.execute_command("SET", key, encode_purchases(state), "EX", ACCOUNTS_S)
        await pipeline.execute()
        learner, by_offer = champions()
        await CheckpointStore(client).save(0, learner, by_offer)
    finally:
        await client.aclose()


@contextmanager
def shop(partitions: int) -> Iterator[Shop]:
    """All of it, from nothing, with one worker."""
    with ExitStack() as stack:
        broker, cache = servers = stack.enter_context(filled(partitions))
        worker = WorkerProcess(config_of(broker.address, cache.address, partitions), "offers")
        stack.enter_context(worker)
        pages = stack.enter_context(pages_to(broker.address, partitions))
        yield Shop({"worker": worker, "redis": servers.cache, "broker": broker}, pages, cache.address, partitions)


@contextmanager
def pages_to(kafka: str, partitions: int) -> Iterator["subprocess.Popen[str]"]:
    """The process that sends page views."""
    command = [sys.executable, "-m", "loadtest.clicks_pages", "--kafka", kafka, "--partitions", str(partitions)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
