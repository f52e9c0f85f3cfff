"""`tillstream explain` on a running installation: young receipts and old ones, with and without a member, and what came back."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer
from msgspec import to_builtins

from tests.strategies import envelope
from tillstream.cli import main
from tillstream.config import Config
from tillstream.embedded.system import System
from tillstream.installation import SESSION_MS, WorkerProcess, environment_of
from tillstream.progress import Watch
from tillstream.schemas.program_file import parse_program
from tillstream.sending import Sender
from tillstream.simulate import Deliveries, Simulation
from tillstream.simulated_explanations import explanations_of
from tillstream.sinks.redis import connect
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import PROGRAMS, ensure_topics

WAIT_S = 60.0
PARTITIONS = 2

PROGRAM = """
[program]
id = "fresh-club"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
expires = { after_months = 12, at = "month_end" }
[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
exclude = { category = ["fuel/**"] }
[[rules]]
id = "cheese-weekend"
when = { weekday = ["sat", "sun"] }
lines = { category = ["dairy/cheese/**"] }
award = { multiply = 3, of = "base" }
"""


def sale(receipt_id: str, day: str, member: str | None = "m1", source: str = "till") -> dict[str, Any]:
    lines = [
        {"line_no": 1, "sku": "1", "category": "dairy/cheese", "quantity_milli": 1000, "amount": 1599},
        {"line_no": 2, "sku": "2", "category": "bakery/bread", "quantity_milli": 1000, "amount": 940},
    ]
    data = head(receipt_id, day) | {"lines": lines} | ({"member": {"scheme": "member", "value": member}} if member else {})
    return envelope("receipt.sale", f"e-{receipt_id}", source, data)


def head(receipt_id: str, day: str) -> dict[str, Any]:
    moment = {"business_date": day, "issued_at": f"{day}T12:00:00+01:00", "currency": "PLN"}
    return {"receipt_id": receipt_id, "store_id": "PL-1", "register_id": "1", **moment}


def came_back(receipt_id: str, original: str, day: str, amount: int) -> dict[str, Any]:
    line = {"line_no": 1, "original_line_no": 1, "quantity_milli": 0, "amount": amount}
    return envelope("receipt.return", f"e-{receipt_id}", "till", head(receipt_id, day) | {"original_receipt_id": original, "lines": [line]})


EVENTS = [
    sale("sat", "2026-03-07"),
    sale("wed", "2026-03-11"),
    sale("nobody", "2026-03-11", member=None),
    came_back("back", "sat", "2026-03-12", 800),
    sale("twice", "2026-03-12", "m2", "till"),
    sale("twice", "2026-03-13", "m3", "shop"),
    envelope("receipt.void", "e-void", "till", {"receipt_id": "wed"}) | {"time": "2026-03-14T12:00:00Z"},
]


class Place(NamedTuple):
    """A running installation."""

    config: Config
    points: WorkerProcess
    history: WorkerProcess


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Servers and both workers, through which all events have gone; ClickHouse has them all."""
    program = tmp_path_factory.mktemp("explain") / "program.toml"
    program.write_text(PROGRAM)
    with System() as addresses:
        config = Config(
            kafka=addresses.kafka, kafka_transactions=False, redis=addresses.redis, clickhouse=addresses.clickhouse, program=str(program),
            identity_key="sixteen characters", partitions=PARTITIONS, session_ms=SESSION_MS, poll_interval_ms=20_000, log_level="warning",
        )  # fmt: skip
        ensure_topics(config.kafka, config.partitions, 1)
        workers = [WorkerProcess(config, "points"), WorkerProcess(config, "history")]
        try:
            for worker in workers:
                worker.start()
            Sender(config).send(EVENTS)
            asyncio.run(through(config))
            yield Place(config, *workers)
        finally:
            for worker in workers:
                worker.stop()


async def through(config: Config) -> None:
    client = connect(config.redis)
    watch, deadline = Watch(config, client), time.monotonic() + WAIT_S
    try:
        while (await watch.behind()).total:
            assert time.monotonic() < deadline, "nothing came through"
            await asyncio.sleep(0.2)
    finally:
        watch.close()
        await client.aclose()


def explain(place: Place, *arguments: str, **settings: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments], env=environment_of(place.config) | settings)


def simulated(receipt: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    simulation = Simulation(parse_program(PROGRAM), deliveries=Deliveries())
    simulation.run(orjson.dumps(event) for event in events)
    found: list[dict[str, Any]] = to_builtins(explanations_of(simulation, receipt))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("receipt", ["sat", "wed", "nobody", "back"])
def test_explain_of_a_receipt_is_that_of_a_simulation(installation: Place, receipt: str) -> None:
    result = explain(installation, "--receipt", receipt, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == {"explanations": simulated(receipt, EVENTS)}


@pytest.mark.slow
def test_explain_of_a_line_says_its_share_and_why_a_rule_left_it_out(installation: Place) -> None:
    result = explain(installation, "--receipt", "sat", "--line", "2")
    assert result.exit_code == 0, result.output
    assert "    line 2: floor(25 x 940 / 2539) = 9\n" in result.output
    assert "    not for line 2: lines.category: dairy/cheese/** wanted, the line is bakery/bread\n" in result.output
    assert "line 1 came back" not in result.output


@pytest.mark.slow
def test_explain_of_a_name_that_two_sources_use_asks_for_one(installation: Place) -> None:
    result = explain(installation, "--receipt", "twice")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "shop, till" in result.output
    assert "account m3" in explain(installation, "--receipt", "twice", "--source", "shop").output


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ["--receipt unheard", "--receipt sat --line 7", "--receipt sat --source nowhere"])
def test_explain_of_what_is_not_there_is_one_line_and_status_1(installation: Place, arguments: str) -> None:
    result = explain(installation, *arguments.split())
    assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output


@pytest.mark.slow
def test_explain_uses_what_was_published_whatever_file_is_configured(installation: Place, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(PROGRAM.replace("points = 1", "points = 2"))
    result = explain(installation, "--receipt", "sat", "--json", TILLSTREAM_PROGRAM=str(other))
    assert json.loads(result.output) == {"explanations": simulated("sat", EVENTS)}


@pytest.mark.slow
def test_explain_of_a_receipt_that_clickhouse_does_not_have_yet_is_the_same(installation: Place) -> None:
    installation.history.stop()
    young = [sale("young", "2026-03-14"), came_back("young-back", "young", "2026-03-14", 1)]
    Sender(installation.config).send(young)
    deadline = time.monotonic() + WAIT_S
    while explain(installation, "--receipt", "young-back").exit_code:
        assert time.monotonic() < deadline, "nothing came through"
        time.sleep(0.2)
    for receipt in ("young", "young-back"):
        result = explain(installation, "--receipt", receipt, "--json")
        assert json.loads(result.output) == {"explanations": simulated(receipt, [*EVENTS, *young])}


@pytest.mark.slow
def test_explain_of_a_receipt_whose_program_was_taken_back_is_one_line_and_status_1(installation: Place) -> None:
    """The last test: nothing is published any more but another program."""
    kafka = {"bootstrap.servers": installation.config.kafka}
    other = parse_program(PROGRAM.replace("points = 1", "points = 2"))
    (record,) = read_topic(kafka, PROGRAMS, 0, 0)
    key = (record.key() or b"").decode()
    published = orjson.loads(record.value() or b"")
    data = {**published["data"], "version": other.version, "text": PROGRAM.replace("points = 1", "points = 2")}
    producer = Producer(kafka)
    producer.produce(PROGRAMS, orjson.dumps({**published, "data": data}), key.replace(published["data"]["version"], other.version))
    producer.produce(PROGRAMS, None, key)
    producer.flush()
    result = explain(installation, "--receipt", "sat")
    assert (result.exit_code, result.output.count("\n")) == (1, 1), result.output
    assert f"version {published['data']['version']}, which is not published any more" in result.output
