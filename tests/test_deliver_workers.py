"""Deliveries over several workers, and to members who are erased or withdraw while a trigger waits for them, on real servers."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec import structs

from tests.member_events import said, sealed
from tests.pipeline_harness import PARTITIONS, Stage, stage, until
from tests.test_deliver import ARRIVED_S, Receiver, config_of, delivering, know_members, receiver, states  # noqa: F401
from tests.triggers import triggered
from tillstream.cli import main
from tillstream.config import Config
from tillstream.installation import environment_of
from tillstream.kernels.facts import fact_of, subject_of
from tillstream.schemas.deliveries import decode_delivery
from tillstream.sinks.redis import connect, load_library
from tillstream.sinks.registry import RegistryStore
from tillstream.streams.topics import DELIVERIES, TRIGGERS

MANY = 60
REBALANCED_S = 60.0


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("deliver")) as there:
        know_members(there)
        yield there


def note(here: Stage, *events: dict[str, Any]) -> None:
    """What `enrol` does of member events."""

    async def run() -> None:
        async with connect(here.config.redis) as client:
            await load_library(client, here.config.redis)
            found = [sealed(event) for event in events]
            await RegistryStore(client).note([(subject_of(event), fact_of(event)) for event in found])

    asyncio.run(run())


def replayed(config: Config, name: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(main, ["webhooks", "replay", "--id", name, "--json"], env=environment_of(config))
    found: list[dict[str, Any]] = json.loads(result.stdout)["deliveries"]
    return found


@pytest.mark.slow
def test_trigger_that_waits_for_an_erased_or_unwilling_member_is_never_delivered(
    here: Stage,
    receiver: Receiver,  # noqa: F811
    tmp_path: Path,
) -> None:
    consents = {"marketing": True, "personalised": True}
    note(here, *(said(f"enrol-{name}", "enrolled", 1, member_id=name, consents=consents) for name in ("erased", "unwilling", "willing")))
    receiver.answers = lambda path, number: (503, {}, 0)
    config = config_of(here, tmp_path, {"id": "all", "url": f"{receiver.url}/all", "schedule_s": [2, 2, 2, 2, 2]})
    names = ("erased", "unwilling", "willing")
    with delivering(config, tmp_path / "worker") as worker:
        here.send([triggered(f"of {name}", member_id=name, purposes=["personalised"]) for name in names], TRIGGERS, "a1")
        until(lambda: {f"of {name}" for name in names} <= set(receiver.ids("/all")), "a first attempt each", ARRIVED_S, worker)
        no = said("no", "consent_changed", 2, member_id="unwilling", consents={"personalised": False})
        note(here, said("erase", "erased", 2, member_id="erased"), no)
        before = len(receiver.posted)
        receiver.answers = lambda path, number: (204, {}, 0)

        def ended() -> dict[str, str]:
            return {name: parcel.state for name in names for parcel in [states(here, f"of {name}")["all"]] if parcel.state != "waiting"}

        until(lambda: len(ended()) == len(names), "an end of each", ARRIVED_S, worker)
    assert ended() == {"erased": "withdrawn", "unwilling": "withdrawn", "willing": "delivered"}
    assert [each.headers["webhook-id"] for each in receiver.posted[before:]] == ["of willing"]
    assert [letter for letter in here.dead_letters() if letter.code == "undeliverable"] == []
    last = {found.decision_id: found for found in map(decode_delivery, (m.value() or b"" for m in here.records(DELIVERIES, PARTITIONS)))}
    assert last["of erased"].trigger == b""
    assert [each["result"] for each in replayed(config, "of erased")] == ["withdrawn"]


@pytest.mark.slow
def test_nothing_goes_out_while_nobody_can_say_who_agrees(here: Stage, receiver: Receiver, tmp_path: Path) -> None:  # noqa: F811
    config = config_of(here, tmp_path, {"id": "all", "url": f"{receiver.url}/all"})
    with here.client() as client:
        client.flushall()
    with delivering(config, tmp_path / "worker") as worker:
        here.send([triggered("held")], TRIGGERS, "a1")
        until(lambda: any("deliveries_held" in line for line in worker.log_tail()), "held", ARRIVED_S, worker)
        assert receiver.ids("/all") == []
        know_members(here)
        until(lambda: receiver.ids("/all") == ["held"], "delivered", ARRIVED_S, worker)


@pytest.mark.slow
def test_workers_that_join_and_die_deliver_all_triggers_each_under_one_id(
    here: Stage,
    receiver: Receiver,  # noqa: F811
    tmp_path: Path,
) -> None:
    receiver.answers = lambda path, number: (503 if number % 3 == 0 else 204, {}, 0.02)
    # A third of the answers are refusals, whosever attempt it is: enough attempts that none has all of its own among them.
    config = config_of(here, tmp_path, {"id": "all", "url": f"{receiver.url}/all", "schedule_s": [1] * 12})
    names = [f"n{number}" for number in range(MANY)]

    def send(some: list[str]) -> None:
        for name in some:
            here.send([triggered(name)], TRIGGERS, f"account {name}")

    def arrived(some: list[str]) -> bool:
        return set(some) <= set(receiver.ids("/all"))

    third = MANY // 3
    with ExitStack() as stack:
        first = stack.enter_context(delivering(config, tmp_path / "first"))
        send(names[:third])
        until(lambda: len(receiver.ids("/all")) > 3, "the first deliveries", ARRIVED_S, first)
        second = stack.enter_context(delivering(config, tmp_path / "second"))
        send(names[third : 2 * third])
        until(lambda: arrived(names[: 2 * third]), "both at work", REBALANCED_S, second)
        first.kill()
        send(names[2 * third :])

        def settled() -> bool:
            found = map(decode_delivery, (message.value() or b"" for message in here.records(DELIVERIES, PARTITIONS)))
            last = {delivery.decision_id: delivery for delivery in found}
            return all(name in last and last[name].parcels["all"].state == "delivered" for name in names)

        until(settled, "all delivered", REBALANCED_S, second)
    assert set(receiver.ids("/all")) == set(names)
    for each in receiver.posted:
        assert json.loads(each.body)["data"]["decision_id"] == each.headers["webhook-id"]


def test_worker_whose_metrics_cannot_be_served_says_so_in_one_line(here: Stage, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port, reason in ((taken.getsockname()[1], "Address already in use"), (99_999, "bind(): port must be 0-65535")):
            address = f"127.0.0.1:{port}"
            config = structs.replace(config_of(here, tmp_path, {"id": "a", "url": "https://a.example"}), deliver_metrics=address)
            result = CliRunner().invoke(main, ["worker", "--role", "deliver"], env=environment_of(config))
            assert result.exit_code == 2
            assert f"deliver_metrics: {address} can't be listened on: {reason}" in result.output
            assert "Traceback" not in result.output
