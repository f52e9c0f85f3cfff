"""Sales that Redis has let go: duplicates, conflicts, returns and voids of them are judged as if it had not (G2, without a time limit)."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from tillstream.config import Config
from tillstream.embedded.system import System
from tillstream.installation import PARTITIONS, SESSION_MS, WorkerProcess
from tillstream.progress import Watch
from tillstream.schemas.program_file import parse_program
from tillstream.sending import Sender
from tillstream.simulate import Simulation
from tillstream.sinks.clickhouse import connect as connect_clickhouse
from tillstream.sinks.redis import Redis, connect
from tillstream.sinks.state import keys, tag
from tillstream.streams.stats import read_stats
from tillstream.streams.topics import ensure_topics
from tillstream.verify import verify

WINDOW_DAYS = 3
DAYS = 20
WAIT_S = 60.0

PROGRAM = """
[program]
id = "recall"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
expires = { after_months = 12 }
[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
"""


def event(kind: str, receipt_id: str, day: int, data: dict[str, Any]) -> dict[str, Any]:
    moment = f"2026-03-{day:02}T12:00:00+01:00"
    header = {"store_id": "PL-1", "register_id": "1", "business_date": moment[:10], "issued_at": moment, "currency": "PLN"}
    body = {"receipt_id": receipt_id, **({} if kind == "void" else header), **data}
    return {"specversion": "1.0", "id": secrets.token_hex(4), "source": "pos/1", "type": f"receipt.{kind}", "time": moment, "data": body}


def sale(number: int, day: int, amount: int = 1000) -> dict[str, Any]:
    line = {"line_no": 1, "sku": "1", "quantity_milli": 1000, "amount": amount}
    return event("sale", f"r{number}", day, {"member": {"scheme": "member", "value": f"m{number % 7}"}, "lines": [line]})


def returned(number: int, part: int, amount: int, day: int) -> dict[str, Any]:
    line = {"line_no": 1, "original_line_no": 1, "quantity_milli": 0, "amount": amount}
    return event("return", f"r{number}/{part}", day, {"original_receipt_id": f"r{number}", "lines": [line]})


def adjusted(identifier: str, points: int, day: int) -> dict[str, Any]:
    """Points given or taken by hand: as old and as unforgettable as a receipt."""
    member = {"scheme": "member", "value": "m1"}
    data = {"adjustment_id": identifier, "member": member, "points": points, "reason": "goodwill", "actor": "desk"}
    return event("void", identifier, day, {}) | {"type": "points.adjust", "data": data}


def moved(identifier: str, points: int, day: int) -> dict[str, Any]:
    """Points that go out of an account and, by an event of our own with the same old date, in again."""
    member = {"scheme": "member", "value": "m1"}
    data = {"transfer_id": identifier, "member": member, "to": member, "points": points}
    return event("void", identifier, day, {}) | {"type": "points.transfer", "data": data}


class Place(NamedTuple):
    """A running installation whose Redis remembers a few days only."""

    config: Config
    system: System


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    program = tmp_path / "program.toml"
    program.write_text(PROGRAM)
    system = System()
    with system as addresses:
        settings = Config(
            kafka=addresses.kafka,
            kafka_transactions=False,
            redis=addresses.redis,
            clickhouse=addresses.clickhouse,
            program=str(program),
            identity_key="sixteen characters",
            partitions=PARTITIONS,
            session_ms=SESSION_MS,
            poll_interval_ms=20_000,
            receipt_window_days=WINDOW_DAYS,
            log_level="warning",
        )
        ensure_topics(settings.kafka, settings.partitions, 1)
        workers = [WorkerProcess(settings, "points"), WorkerProcess(settings, "history")]
        try:
            for worker in workers:
                worker.start()
            yield Place(settings, system)
        finally:
            for worker in workers:
                worker.stop()


async def until(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not await done():
        assert time.monotonic() < deadline, "nothing came through"
        await asyncio.sleep(0.2)


async def settled(watch: Watch) -> bool:
    """Through, twice in a row: a recalled event goes round once more."""
    for _ in range(3):
        if (await watch.behind()).total:
            return False
        await asyncio.sleep(0.7)
    return True


async def let_go(client: Redis) -> bool:
    """Whether Redis has forgotten everything before the window."""
    held = [await client.zrange(f"{tag(partition)}:days", 0, 0) for partition in range(PARTITIONS)]
    return all(not days or days[0] >= b"2026-03-17" for days in held)


async def balances(client: Redis) -> dict[str, int]:
    """Points by account, as Redis has them; nothing is left out."""
    held = [await client.hgetall(keys(partition)[1]) for partition in range(PARTITIONS)]
    found = {name.decode(): orjson.loads(raw)["points"]["balance"] for accounts in held for name, raw in accounts.items()}
    return {account: balance for account, balance in found.items() if balance}


def simulated(events: list[dict[str, Any]]) -> Simulation:
    simulation = Simulation(parse_program(PROGRAM))
    simulation.run(orjson.dumps(item) for item in events)
    return simulation


def expected(events: list[dict[str, Any]]) -> dict[str, int]:
    accounts = simulated(events).result()["accounts"]
    return {account: units["points"]["balance"] for account, units in accounts.items()}


@asynccontextmanager
async def watching(config: Config) -> AsyncIterator[tuple[Redis, Watch]]:
    client = connect(config.redis)
    watch = Watch(config, client)
    try:
        yield client, watch
    finally:
        watch.close()
        await client.aclose()


@pytest.mark.slow
def test_sales_beyond_the_window_are_recalled_from_history(place: Place) -> None:
    sales = [sale(number, 1 + number % DAYS) for number in range(200)]
    first = [*sales, returned(0, 1, 333, 2), returned(20, 1, 1, 5), adjusted("a-1", 500, 3)]
    second = [
        *first,
        sale(20, 1, amount=999),
        returned(0, 2, 334, DAYS),
        returned(0, 3, 333, DAYS),
        returned(0, 4, 1, DAYS + 1),  # Too much, as the last of them.
        event("void", "r40", DAYS, {}),
        sale(900, 1),
        adjusted("a-1", 501, 3),
        adjusted("a-2", 70, 3),
        moved("t-1", 10, 4),
        returned(901, 1, 500, DAYS),
        sale(901, 2),
    ]

    async def scenario() -> None:
        async with watching(place.config) as (client, watch):
            sender = Sender(place.config)
            sender.send(first)
            await until(lambda: settled(watch))
            await until(lambda: let_go(client))
            assert sum([await client.hlen(keys(partition)[2]) for partition in range(PARTITIONS)]) < len(first) // 2
            sender.send(second)
            await until(lambda: settled(watch))
            assert (await verify(place.config, client, None)).findings == []
            assert await balances(client) == expected([*first, *second])
            outcomes = (await read_stats(client)).outcomes
            simulation = simulated([*first, *second])
            assert outcomes["refused"] == len(simulation.rejected) == 3
            assert outcomes["duplicate"] == simulation.duplicates

    asyncio.run(scenario())


@pytest.mark.slow
def test_old_events_wait_while_clickhouse_is_away_and_the_stream_goes_on(place: Place) -> None:
    first = [sale(number, 1 + number % DAYS) for number in range(140)]  # Every account on every day: all partitions come as far.
    old = [returned(0, 1, 500, DAYS), sale(20, 1)]
    recent = [sale(500 + number, DAYS) for number in range(20)]

    async def scenario() -> None:
        async with watching(place.config) as (client, watch):
            sender = Sender(place.config)
            sender.send(first)
            await until(lambda: settled(watch))
            await until(lambda: let_go(client))
            place.system.clickhouse.kill()
            sender.send([*old, *recent])

            async def recent_are_posted() -> bool:
                return await balances(client) == expected([*first, *recent])

            await until(recent_are_posted)
            place.system.clickhouse.start()

            async def all_are_posted() -> bool:
                return await balances(client) == expected([*first, *old, *recent])

            await until(all_are_posted)
            await until(lambda: settled(watch))
            assert (await verify(place.config, client, connect_clickhouse(place.config.clickhouse))).findings == []

    asyncio.run(scenario())
