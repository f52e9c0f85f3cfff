"""Sales that Redis has let go: duplicates, conflicts, returns and voids of them are judged as if it had not (G2, without a time limit)."""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from tillstream.config import Config
from tillstream.embedded.system import System
from tillstream.installation import PARTITIONS, SESSION_MS, WorkerProcess
from tillstream.progress import Watch
from tillstream.schemas.program_file import parse_program
from tillstream.sending import Sender
from tillstream.simulate import Simulation
from tillstream.sinks.redis import connect
from tillstream.sinks.state import keys
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


@pytest.fixture
def config(tmp_path: Any) -> Iterator[Config]:
    program = tmp_path / "program.toml"
    program.write_text(PROGRAM)
    with System() as addresses:
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
            yield settings
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


@pytest.mark.slow
def test_sales_beyond_the_window_are_recalled_from_history(config: Config) -> None:
    first = [sale(number, 1 + number % DAYS) for number in range(200)]
    early = [returned(0, 1, 333, 2), returned(20, 1, 1, 5)]
    second = [
        *first,
        *early,
        sale(20, 1, amount=999),
        returned(0, 2, 334, DAYS),
        returned(0, 3, 333, DAYS),
        returned(0, 4, 1, DAYS),
        event("void", "r40", DAYS, {}),
        sale(900, 1),
        returned(901, 1, 500, DAYS),
        sale(901, 2),
    ]
    asyncio.run(feed(config, [*first, *early], second))


async def feed(config: Config, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    client, sender = connect(config.redis), Sender(config.kafka)
    watch = Watch(config, client)
    try:
        sender.send(first)
        await until(lambda: settled(watch))

        async def let_go() -> bool:
            held = [await client.zrange(f"{keys(partition)[0][:-5]}:days", 0, 0) for partition in range(config.partitions)]
            return all(not days or days[0] >= b"2026-03-17" for days in held)

        await until(let_go)
        assert sum([await client.hlen(keys(partition)[2]) for partition in range(config.partitions)]) < len(first) // 2
        sender.send(second)
        await until(lambda: settled(watch))
        expected = Simulation(parse_program(PROGRAM))
        expected.run(orjson.dumps(item) for item in [*first, *second])
        wanted = {account: units["points"]["balance"] for account, units in expected.result()["accounts"].items()}
        report = await verify(config, client, None)
        assert report.findings == []
        held = {}
        for partition in range(config.partitions):
            for name, raw in (await client.hgetall(keys(partition)[1])).items():
                held[name.decode()] = orjson.loads(raw)["points"]["balance"]
        assert {account: balance for account, balance in held.items() if balance} == wanted
        outcomes = (await read_stats(client)).outcomes
        assert outcomes["refused"] == len(expected.rejected) == 2
        assert outcomes["duplicate"] == expected.duplicates
    finally:
        watch.close()
        await client.aclose()
