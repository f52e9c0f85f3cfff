"""kill -9 of gateway, worker and broker in turn while tills sell: what a till was told is kept is in the ledger, once, as it was told."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.kafka_cluster import KafkaCluster
from tests.pipeline_harness import (
    PARTITIONS,
    Event,
    Stage,
    expected,
    history,
    kafka_cluster,  # noqa: F401
    prepared,
    stage,
    until,
)
from tillstream.client import Client, Queued
from tillstream.client.queue import REFUSED
from tillstream.embedded.process import Server
from tillstream.embedded.redis import Redis
from tillstream.gateway.answers import Outcome
from tillstream.gateway.outcomes import entries_of
from tillstream.installation import GatewayProcess, WorkerProcess
from tillstream.kernels.keys import key_of
from tillstream.schemas.events import decode
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.sinks.redis import connect
from tillstream.streams.topics import LEDGER
from tillstream.verify import Finding, verify

TILLS = 4
PAUSE_S = 0.02
"""Between two receipts of a till: together they sell some hundred a second while all is well."""

DOWN_S = 0.5
ANSWERS = 60
"""Between the return of one server and the end of the next tills have had so many outcomes again."""

WAIT_MS = 300
"""While there is no worker a till goes on selling."""

LOOK_S = 0.1
DRAINED_S = 90.0
"""A queue that found nobody for a while pauses for up to 30 s."""

TAKEN_OVER_S = 240.0
"""A session, what a dead worker's open transaction may take (30 s, and 10 s until the broker looks), and a group that is given up: 30 s,
30 s more until it is aborted, and a worker that starts again; twice, where two brokers go."""

DECIDED = ("accepted", "duplicate")

Kill = Callable[[], Awaitable[None]]


class Record:
    """What the tills were told, by the events' natural keys."""

    def __init__(self) -> None:
        self.kept: set[str] = set()
        self.outcomes: dict[str, Outcome] = {}
        self.said: Counter[str] = Counter()

    def note(self, body: bytes, told: Outcome | Queued) -> None:
        """What `post` gave, or what became of a receipt that had waited."""
        key = key_in(body)
        self.kept.add(key)
        self.said["queued" if isinstance(told, Queued) else told.outcome] += 1
        if isinstance(told, Outcome) and told.outcome in DECIDED:
            self.outcomes[key] = told

    @property
    def decided(self) -> int:
        """How often the ledger's word was told."""
        return sum(self.said[outcome] for outcome in DECIDED)


class Shop:
    """Tills in front of one gateway, each with a queue of its own; `servers` are started again whenever they end, as a supervisor does."""

    def __init__(self, here: Stage, address: str, servers: list[Server]) -> None:
        self.folder = here.folder
        self.address = address
        self.servers = servers
        self.record = Record()
        self.ended = 0

    async def sell(self, events: list[Event], kills: list[Kill]) -> None:
        """Every till posts its share, again from the beginning until all `kills` are over; then what waits goes out."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(TILLS):
                group.create_task(self.till(number, [orjson.dumps(event) for event in events[number::TILLS]], over))
            for kill in kills:
                await self.answered()
                await kill()
                await self.supervise()
            await self.answered()
            over.set()

    async def answered(self) -> None:
        """Waits until the tills have outcomes again."""
        enough = self.record.decided + ANSWERS
        until = time.monotonic() + TAKEN_OVER_S
        while self.record.decided < enough:
            await self.supervise()
            await asyncio.sleep(LOOK_S)
            logs = "\n".join(line for server in self.servers for line in server.log_tail())
            assert time.monotonic() < until, f"{self.record.said}, {self.ended} ended\n{logs}"

    async def supervise(self) -> None:
        """Starts what has ended: a worker whose broker went may end, and goes on where the ledger stands."""
        for server in self.servers:
            if not server.running:
                self.ended += 1
                await asyncio.to_thread(server.start)

    async def till(self, number: int, bodies: list[bytes], over: asyncio.Event) -> None:
        told, folder = self.record.note, self.folder / f"till-{number}"
        async with Client(self.address, queue=folder, told=told, wait_ms=WAIT_MS) as till:
            posted = 0
            while posted < len(bodies) or not over.is_set():
                body = bodies[posted % len(bodies)]
                told(body, await till.post(body))
                posted += 1
                await asyncio.sleep(PAUSE_S)
            assert await till.drained(DRAINED_S), f"till {number}: {till.queued} receipts wait"
        assert not (folder / REFUSED).exists()


def key_in(body: bytes) -> str:
    event: Any = decode(body)
    return key_of(event)


def killed(server: Server) -> Kill:
    """Ends a server as a power cut would, and starts it again."""

    async def kill() -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(DOWN_S)
        await asyncio.to_thread(server.start)

    return kill


def node_killed(cluster: KafkaCluster, node: int) -> Kill:
    """The same for a node of a cluster."""

    async def kill() -> None:
        await asyncio.to_thread(cluster.kill, node)
        await asyncio.sleep(DOWN_S)
        await asyncio.to_thread(cluster.start, node)

    return kill


def assert_told_is_true(here: Stage, record: Record, events: list[Event], *, once: bool) -> None:
    """Everything acknowledged is in the ledger, with the entries that the till was told; `once`: in one record only."""
    found = [decode_record(message.value() or b"") for message in here.records(LEDGER)]
    postings = {posting.posting_id: posting for posting in found if isinstance(posting, Posting)}
    assert record.kept == {key_in(orjson.dumps(event)) for event in events}
    assert record.kept <= postings.keys()
    for key, outcome in record.outcomes.items():
        assert outcome.entries == entries_of(postings[key]), key
    if once:
        assert Counter(posting.posting_id for posting in found if isinstance(posting, Posting)).most_common(1)[0][1] == 1
    assert here.balances() == expected(events)["accounts"]
    assert here.dead_letters() == []
    assert asyncio.run(verified(here)) == []


async def verified(here: Stage) -> list[Finding]:
    """What `verify` finds wrong, ClickHouse left out."""
    async with connect(here.config.redis) as client:
        return (await verify(here.config, client, None)).findings


def run(here: Stage, events: list[Event], more: list[Kill], *, once: bool) -> Record:
    """Sells while gateway and worker are killed, twice each, and `more` in between; then compares."""
    worker, gateway = WorkerProcess(here.config, "points", here.folder / "worker"), GatewayProcess(here.config, here.folder / "gateway")
    with ExitStack() as stack:
        for server in (worker, gateway):
            stack.callback(server.stop)
            server.start()
        shop = Shop(here, gateway.address, [worker, gateway])
        kills = [killed(gateway), killed(worker), *more, killed(gateway), killed(worker)]
        asyncio.run(shop.sell(events, kills))
        until(here.settled, "everything worked off", TAKEN_OVER_S, worker)
        assert_told_is_true(here, shop.record, events, once=once)
    assert min(shop.record.said[word] for word in ("accepted", "duplicate", "pending", "queued")) > 0, shop.record.said
    return shop.record


@pytest.mark.slow
def test_gateway_and_worker_killed_while_tills_sell_lose_and_double_nothing(tmp_path: Path) -> None:
    events = history(800, random.randrange(1_000_000), duplicates=0.0)
    with stage(tmp_path) as here:
        assert here.config.partitions == PARTITIONS
        run(here, events, [], once=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_gateway_worker_and_brokers_killed_while_tills_sell_lose_and_double_nothing(
    kafka_cluster: KafkaCluster,  # noqa: F811
    tmp_path: Path,
) -> None:
    events = history(800, random.randrange(1_000_000), duplicates=0.0)
    with ExitStack() as stack:
        redis = Redis(tmp_path / "redis")
        stack.callback(redis.stop)
        redis.start()
        here = prepared(tmp_path, kafka_cluster.bootstrap, redis, transactions=True)
        stack.callback(here.looking.close)
        run(here, events, [node_killed(kafka_cluster, 1), node_killed(kafka_cluster, 2)], once=True)
