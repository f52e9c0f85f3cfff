"""Whatever dies when: the end state is the same, nothing is lost and nothing counts twice (G1, G2, G5, G6)."""

import asyncio
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kafka_cluster import KafkaCluster
from tests.pipeline_harness import (
    PARTITIONS,
    Event,
    Stage,
    enrolled,
    expected,
    history,
    kafka_cluster,  # noqa: F401
    pause,
    prepared,
    program,
    resume,
    source_offsets,
    stage,
    tick,
    until,
)
from tillstream.embedded.redis import Redis
from tillstream.kernels.identities import Seal
from tillstream.kernels.posters import Posters
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import Timetable
from tillstream.simulate import IDENTITY_KEY
from tillstream.sinks.budgets import BudgetStore
from tillstream.sinks.directory import Directory
from tillstream.sinks.redis import RedisEmptied, connect, load_library
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.replies import Replies
from tillstream.sinks.state import Fenced, Standing, StateStore
from tillstream.sinks.writer import Writer
from tillstream.sources.generated import card_number
from tillstream.streams import accrue as accrue_module
from tillstream.streams.accrue import Accrue, Fetched
from tillstream.streams.enrol import Enrol
from tillstream.streams.groups import Groups
from tillstream.streams.identify import Identify
from tillstream.streams.rebuild import rebuild
from tillstream.streams.recovery import Recovery
from tillstream.streams.stats import Stats
from tillstream.streams.topics import LEDGER, MEMBERS, RECEIPTS, TRANSACTIONS

BATCH_ROWS = 40
"""Several batches a partition, so that crashes have something to be between."""

ROUTED_ROWS = 200
KILLS = 4
TAKEN_OVER_S = 120.0
"""A session, and then what a dead worker's open transaction may take: 30 s, and 10 s until the broker looks."""

SEAL = Seal(IDENTITY_KEY)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stage]:
    """Servers of its own for a test."""
    with stage(tmp_path) as servers:
        yield servers


class Crash(Exception):
    """The power went."""


class CrashingStore(StateStore):
    """Redis, where the power goes just before, or just after, something is applied; every time `crashes` says so."""

    def __init__(self, client: Any, crashes: Iterator[str]) -> None:
        super().__init__(client)
        self.crashes = crashes

    async def apply(self, partition: int, snapshot: Snapshot, before: Standing, after: Standing) -> None:
        moment = next(self.crashes, "")
        if moment == "before":
            raise Crash
        await super().apply(partition, snapshot, before, after)
        if moment == "after":
            raise Crash


class Line:
    """The agents' work without a worker: one step after another in this process, so that a test decides what happens between two."""

    def __init__(self, here: Stage, client: Any, writer: Writer, crashes: Iterator[str]) -> None:
        self.here = here
        self.client = client
        self.state = CrashingStore(client, crashes)
        groups, replies = Groups(RegistryStore(client), self.state, PARTITIONS), Replies(client)
        self.accrue = Accrue(Posters(Timetable([program()])), self.state, writer, Stats(), groups, BudgetStore(client), replies)
        self.identify = Identify(Directory(client), writer, SEAL, PARTITIONS, replies)
        self.enrol = Enrol(Directory(client), writer, SEAL, groups, replies)
        self.recovery = Recovery(StateStore(client), here.kafka)
        self.routed = 0
        self.crashed = 0

    async def route(self) -> None:
        """Enrols and identifies everything that is new."""
        await self.enrol.enrol(self.here.records(MEMBERS, 1))
        receipts = sorted(self.here.records(RECEIPTS), key=lambda message: message.timestamp()[1])
        for first in range(self.routed, len(receipts), ROUTED_ROWS):
            await self.identify.route(receipts[first : first + ROUTED_ROWS])
        self.routed = len(receipts)

    async def post(self) -> None:
        """Posts what is new in every partition; after a crash as a worker does that was started again."""
        for partition in range(PARTITIONS):
            messages = self.here.partition_records(TRANSACTIONS, partition)
            at = await self.recovery.recover(partition)
            while batch := messages[at : at + BATCH_ROWS]:
                try:
                    await self.accrue.post(Fetched(partition, batch, None))
                    at += BATCH_ROWS
                except Crash:
                    self.crashed += 1
                    at = await self.recovery.recover(partition)


@asynccontextmanager
async def line(here: Stage, crashes: Iterable[str] = ()) -> AsyncIterator[Line]:
    """A line on the stage's servers."""
    client = connect(here.config.redis)
    writer = Writer(here.kafka)
    try:
        await load_library(client, here.config.redis)
        await writer.start()
        yield Line(here, client, writer, iter(crashes))
    finally:
        await writer.stop()
        await client.aclose()


def events_of(seed: int, count: int = 400) -> list[Event]:
    """A history in which points expire on the way, and some of what was judged before a tick comes after it."""
    events = history(count, seed)
    half = len(events) // 2
    return [*events[:half], tick("2026-03-20"), tick("2026-03-27"), *events[half:], tick("2026-04-02"), *history(60, seed + 1)]


def assert_each_source_offset_once(here: Stage) -> None:
    """No posting stands twice in the ledger."""
    for pairs in source_offsets(here.records(LEDGER)).values():
        assert max(Counter(pairs).values()) == 1


def directory_of(here: Stage) -> dict[str, Any]:
    """Identities, claims and parked returns, as Redis holds them."""
    found: dict[str, Any] = {}
    with here.client() as client:
        for key in client.scan_iter():
            name = key.decode()
            if name.startswith(("{i", "{r")):
                found[name] = client.smembers(key) if client.type(key) == b"set" else client.hgetall(key)
    return found


@pytest.mark.parametrize("moment", ["before", "after"])
def test_crash_at_every_single_step_ends_in_the_same_state(here: Stage, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    monkeypatch.setattr(accrue_module, "TICK_ACCOUNTS_MAX", 3)
    events = events_of(11)
    here.send(events)

    def every_second() -> Iterator[str]:
        while True:
            yield moment
            yield ""

    async def scenario() -> None:
        async with line(here, every_second()) as run:
            await run.route()
            await run.post()
            assert run.crashed > 10  # How many batches there are depends on how fast they were routed.

    asyncio.run(scenario())
    assert here.balances() == expected(events)["accounts"]
    assert_each_source_offset_once(here)


def test_redis_emptied_is_rebuilt_equal_from_the_ledger_and_goes_on(here: Stage) -> None:
    first, second = events_of(21), history(200, 22)

    async def scenario() -> None:
        async with line(here) as run:
            here.send(first)
            await run.route()
            await run.post()
            before, stood = here.state(), here.offsets()
            for partition in range(PARTITIONS):
                names = [key async for key in run.client.scan_iter(match=f"{{p{partition}}}:*")]
                await run.client.delete(*names)
            assert here.state() == {}
            await asyncio.gather(*(run.recovery.recover(partition) for partition in range(PARTITIONS)))
            assert here.state() == before
            # What left nothing in the ledger is judged again: duplicates and ticks that were late, at the very end.
            assert all(stood[p] - BATCH_ROWS <= offset <= stood[p] for p, offset in here.offsets().items())
            here.send(second)
            await run.route()
            await run.post()

    asyncio.run(scenario())
    assert here.balances() == expected([*first, *second])["accounts"]
    assert_each_source_offset_once(here)


def test_redis_emptied_under_a_worker_is_seen_and_nothing_counts_again(here: Stage) -> None:
    """The same receipts in new records, which an emptied Redis would take for new ones."""
    events = [event for event in events_of(41) if event["type"] != "clock.tick"]

    async def scenario() -> None:
        async with line(here) as run:
            here.send(events)
            await run.route()
            await run.post()
            ends = here.ends(TRANSACTIONS, PARTITIONS)
            here.send(events)
            await run.route()
            for partition in range(PARTITIONS):
                names = [key async for key in run.client.scan_iter(match=f"{{p{partition}}}:*")]
                await run.client.delete(*names)
                batch = here.partition_records(TRANSACTIONS, partition)[ends[partition] :]
                with pytest.raises(RedisEmptied, match=f"partition {partition} has the ledger up to -1"):
                    await run.accrue.post(Fetched(partition, batch, None))
        async with line(here) as run:
            await run.post()

    asyncio.run(scenario())
    assert here.balances() == expected(events)["accounts"]
    assert_each_source_offset_once(here)


def test_redis_rolled_back_to_an_older_dump_is_brought_up_to_the_ledger(here: Stage, tmp_path: Path) -> None:
    events = events_of(31)
    dump = here.server.folder / "dump.rdb"

    async def halfway() -> None:
        async with line(here) as run:
            here.send(events[:250])
            await run.route()
            await run.post()
            await run.client.save()
            shutil.copy(dump, tmp_path / "older.rdb")
            here.send(events[250:])
            await run.route()
            await run.post()

    async def again() -> None:
        async with line(here) as run:
            await run.post()

    asyncio.run(halfway())
    newest = here.state()
    here.server.stop()
    shutil.copy(tmp_path / "older.rdb", dump)
    here.server.start()
    assert 0 < len(here.state()) < len(newest)
    asyncio.run(again())
    assert here.state() == newest
    assert here.balances() == expected(events)["accounts"]
    assert_each_source_offset_once(here)


def test_rebuild_from_nothing_restores_state_and_directory(here: Stage) -> None:
    events = [event for event in history(300, 41) if event["type"] != "receipt.sale" or hash_of(event) % 10]
    members = [enrolled(f"m{n}", card_number(n)) for n in range(8)]
    here.send(members, MEMBERS)
    here.send(events)

    async def scenario() -> None:
        async with line(here) as run:
            await run.route()
            await run.post()
            before, directory = here.state(), directory_of(here)
            assert any(":parked:" in key for key in directory)
            await run.client.flushdb()
            counts = await rebuild(run.client, here.kafka, PARTITIONS, SEAL)
            assert here.state() == before
            assert directory_of(here) == directory
            assert counts["identities"] == len(members)

    asyncio.run(scenario())
    assert here.balances() == expected([*members, *events])["accounts"]


def hash_of(event: Event) -> int:
    """Some number that is the same in every run."""
    return sum(event["id"].encode())


def test_second_writer_of_a_partition_is_refused_and_redis_unharmed(here: Stage) -> None:
    events = history(200, 51)
    here.send(events)

    async def scenario() -> None:
        async with line(here) as run, line(here) as other:
            await run.route()
            batch = here.partition_records(TRANSACTIONS, 0)[:BATCH_ROWS]
            found = await asyncio.gather(
                *(one.accrue.post(Fetched(0, batch, None)) for one in (run, other)), return_exceptions=True
            )
            assert [error for error in found if error is not None and not isinstance(error, Fenced)] == []
            assert sum(isinstance(error, Fenced) for error in found) <= 1
            await run.post()

    asyncio.run(scenario())
    assert here.balances() == expected(events)["accounts"]
    state = here.state()
    with here.client() as client:
        client.flushdb()

    async def from_the_ledger() -> None:
        async with line(here) as run:
            for partition in range(PARTITIONS):
                await run.recovery.recover(partition)

    # In the ledger the batch may stand twice, for want of transactions; it counts once.
    asyncio.run(from_the_ledger())
    assert here.state() == state


@pytest.mark.slow
def test_worker_killed_again_and_again_during_a_replay_loses_and_doubles_nothing(here: Stage) -> None:
    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    members = [enrolled(f"m{n}", card_number(n)) for n in range(30)]
    events = [*history(2_000, 61), tick("2026-03-28")]
    here.send(members, MEMBERS)
    with here.worker() as worker:
        here.settle(worker)
    for _ in range(KILLS):
        here.send(events[here_sent(here) : here_sent(here) + len(events) // KILLS + 1])
        with here.worker() as worker:
            posted = here.posted()
            goal = posted + chance.randrange(1, len(events) // KILLS // 2)
            until(lambda goal=goal: here.posted() >= goal, f"{goal} postings (seed {seed})", TAKEN_OVER_S, worker)  # type: ignore[misc]
            os.kill(worker.pid, signal.SIGKILL)
    with here.worker() as worker:
        here.settle(worker)
    assert here.balances() == expected([*members, *events])["accounts"], f"seed {seed}"
    assert here.dead_letters() == []
    state = here.state()
    with here.client() as client:
        client.flushdb()

    async def from_kafka() -> None:
        async with line(here) as run:
            await rebuild(run.client, here.kafka, PARTITIONS, SEAL)

    asyncio.run(from_kafka())
    assert here.state() == state, f"seed {seed}"


@pytest.mark.slow
def test_worker_that_finds_redis_emptied_knows_every_receipt_and_card_again(here: Stage) -> None:
    """Not only balances: where repeats and returns go, who the cards are, and what is parked."""
    sales = history(150, 91, returns=0.0, voids=0.0, duplicates=0.0)
    with here.worker() as worker:
        here.send(sales)
        here.settle(worker)
        # The cards that earned on provisional accounts are enrolled now: only the claims still know where their receipts went.
        here.send([enrolled(f"m{n}", card_number(n)) for n in range(30)], MEMBERS)
        here.settle(worker)
    before = here.state()
    with here.client() as client:
        client.flushdb()
    with here.worker() as worker:
        here.send([{**event, "id": f"again-{event['id']}"} for event in sales])
        here.settle(worker)
        assert here.state() == before
    assert here.dead_letters() == []


def here_sent(here: Stage) -> int:
    """Receipts sent so far."""
    return sum(here.ends(RECEIPTS, PARTITIONS).values())


@pytest.mark.slow
def test_zombie_worker_cannot_write_what_another_has_taken_over(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:  # noqa: F811
    events = [*history(2_500, 71), tick("2026-03-28")]
    third = len(events) // 3
    with ExitStack() as stack:
        redis = Redis(tmp_path / "redis")
        stack.callback(redis.stop)
        redis.start()
        here = prepared(tmp_path, kafka_cluster.bootstrap, redis, transactions=True)
        stack.callback(here.looking.close)
        zombie = stack.enter_context(here.worker())
        here.send(events[: 2 * third])
        until(lambda: here.posted() > 100, "the first postings", TAKEN_OVER_S, zombie)
        pause(zombie)
        assert here.posted() < third  # So it has a batch in its hands.
        successor = stack.enter_context(here.worker())
        until(here.settled, "everything taken over", TAKEN_OVER_S, successor)
        resume(zombie)
        here.send(events[2 * third :])
        time.sleep(2.0)  # It wakes up, and must not get rid of that batch.
        until(here.settled, "everything worked off", TAKEN_OVER_S, successor)
        assert here.balances() == expected(events)["accounts"]
        assert here.dead_letters() == []
        assert_each_source_offset_once(here)
        state = here.state()
        with here.client() as client:
            client.flushdb()
    # The workers are gone; what is left is the ledger.
    redis.start()
    try:
        asyncio.run(recovered(here))
        assert here.state() == state
    finally:
        redis.stop()


async def recovered(here: Stage) -> None:
    """Redis as the ledger has it."""
    async with line(here) as run:
        for partition in range(PARTITIONS):
            await run.recovery.recover(partition)
