"""Points used in the live pipeline: till and app to Redis and ClickHouse, as `simulate` says; transfers cross partitions; rebuilt equal."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
import pytest

from tests.pipeline_harness import PARTITIONS, PROGRAM, Event, Stage, enrolled, stage, tick
from tests.test_pipeline import sale
from tillstream.installation import WorkerProcess
from tillstream.kernels.identities import Seal
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.schemas.program_file import parse_program
from tillstream.simulate import IDENTITY_KEY, Simulation
from tillstream.sinks.redis import connect
from tillstream.streams.rebuild import rebuild
from tillstream.streams.topics import LEDGER, MEMBERS

SPENDING = PROGRAM.replace(
    "[units.stamps]",
    """[units.stamps]
hold_days = 3
[units.points.spending]
worth = { points = 1, amount = 1 }
max_percent = 50
""",
)


def using(kind: str, identifier: str, day: str, member: str, **data: Any) -> Event:
    """A `points.*` event of the app, of the member with a card."""
    name = {"hold": "hold_id", "release": "hold_id", "redeem": "redemption_id", "adjust": "adjustment_id", "transfer": "transfer_id"}[kind]
    body = {name: identifier, "member": {"scheme": "card", "value": member}, **data}
    envelope = {"specversion": "1.0", "id": f"{kind}-{identifier}", "source": "app", "type": f"points.{kind}"}
    return {**envelope, "time": f"2026-03-{day}T12:00:00+01:00", "data": body}


def hold(identifier: str, member: str, points: int) -> Event:
    return using("hold", identifier, "08", member, points=points, expires_at="2026-03-12T20:00:00+01:00")


def paid(name: str, card: str, points: int, hold_id: str) -> Event:
    event = sale(name, card)
    event["data"]["tenders"] = [{"type": "points", "amount": points, "points": points, "hold_id": hold_id}]
    return event


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Servers and topics, with a program that has all that points can be used for."""
    folder = tmp_path_factory.mktemp("spending")
    with stage(folder) as servers:
        program = folder / "spending.toml"
        program.write_text(SPENDING)
        servers.config = msgspec.structs.replace(servers.config, program=str(program))
        yield servers


def in_steps(here: Stage, worker: WorkerProcess, *steps: list[Event]) -> None:
    """Sends one step after another: events of different sources may overtake each other within one."""
    for step in steps:
        here.send(step)
        here.settle(worker)


def together(member_id: str) -> Event:
    """A member joins the household, the evening before the transfers."""
    envelope = {"specversion": "1.0", "id": f"join-{member_id}", "source": "crm", "time": "2026-03-13T20:00:00Z"}
    return {**envelope, "type": "member.household_changed", "data": {"member_id": member_id, "household_id": "home"}}


def simulated(*steps: list[Event]) -> dict[str, Any]:
    simulation = Simulation(parse_program(SPENDING))
    simulation.run(orjson.dumps(event) for step in steps for event in step)
    return simulation.result()


def test_points_are_used_live_as_simulated_moved_across_partitions_and_rebuilt(here: Stage) -> None:
    members: list[Event] = [enrolled(f"m{n}", f"card-{n}", f"second-{n}") for n in range(8)]
    coffee = [sale(f"s-{n}", f"card-{n}") for n in range(8)]
    for event in coffee:
        event["data"]["lines"][0]["category"] = "bakery/rolls"
    holds = [hold(f"h-{n}", f"card-{n}", 50 + n) for n in range(6)] + [hold("h-much", "card-6", 10_000)]
    used = [
        paid("p-0", "card-0", 40, "h-0"),
        paid("p-1", "card-1", 11_000, "h-1"),
        using("redeem", "r-2", "09", "second-2", points=52, hold_id="h-2"),
        using("release", "h-3", "09", "card-3"),
        using("adjust", "a-7", "09", "card-7", points=-20, reason="typing error", actor="desk"),
        using("redeem", "r-7", "09", "card-7", points=10_000),
        using("transfer", "t-own", "09", "card-7", points=30, to={"scheme": "card", "value": "second-7"}),
    ]
    steps = [members, coffee, holds, used, [*holds, *used]]
    with here.worker() as worker:
        here.send(members, MEMBERS)
        in_steps(here, worker, *steps[1:])
        wanted = simulated(*steps)
        assert here.balances() == wanted["accounts"]
        aside = {(units["points"]["held"], units["stamps"]["pending"]) for units in wanted["accounts"].values()}
        assert aside == {(0, 1), (54, 1), (55, 1)}
        steps.append([tick("2026-03-13")])
        in_steps(here, worker, steps[-1])
        wanted = simulated(*steps)
        assert here.balances() == wanted["accounts"]
        assert Counter(letter.code for letter in here.dead_letters()) == Counter(r["code"] for r in wanted["rejected"])
        assert {r["code"] for r in wanted["rejected"]} == {"insufficient"}
        joined = [together(f"m{n}") for n in (0, 1, 2, 3, 7)]
        here.send(joined, MEMBERS)
        here.settle(worker)
        moves = [using("transfer", f"t-{n}", "14", f"card-{n}", points=5 + n, to={"scheme": "card", "value": "card-7"}) for n in range(4)]
        in_steps(here, worker, [*moves, *moves])
        wanted = simulated(*steps, joined, moves)
        assert here.balances() == wanted["accounts"]
        stranger = using("transfer", "t-far", "14", "card-0", points=1, to={"scheme": "card", "value": "card-5"})
        here.send([stranger])
        here.settle(worker)
        assert here.dead_letters()[-1].code == "not_household"
    assert any(record.partition() != moved_from(here, record.value() or b"") for record in received(here))
    before = here.state()

    async def again() -> None:
        client = connect(here.config.redis)
        await client.flushdb()
        await rebuild(client, here.kafka, PARTITIONS, Seal(IDENTITY_KEY))
        await client.aclose()

    asyncio.run(again())
    assert here.state() == before
    assert here.balances() == wanted["accounts"]


def received(here: Stage) -> list[Any]:
    """The ledger's records of the receivers' sides."""
    values = [(record, record.value() or b"") for record in here.records(LEDGER)]
    return [record for record, raw in values if b'"kind":"transfer"' in raw and b'"spent_on"' not in raw]


def moved_from(here: Stage, raw: bytes) -> int:
    """The partition of the giver's side of a transfer, whose posting the receiver's side names as its event."""
    posting = decode_record(raw)
    assert isinstance(posting, Posting)
    (giver,) = {record.partition() for record in here.records(LEDGER) if f'"id":"{posting.event_id}"'.encode() in (record.value() or b"")}
    return int(giver)


def test_hold_repeated_after_its_card_was_enrolled_counts_once(here: Stage) -> None:
    given = using("adjust", "gift", "08", "card-late", points=100, reason="welcome", actor="desk")
    with here.worker() as worker:
        in_steps(here, worker, [given], [hold("h-late", "card-late", 60)])
        before = here.balances()
        here.send([enrolled("m-late", "card-late")], MEMBERS)
        here.settle(worker)
        in_steps(here, worker, [given, {**hold("h-late", "card-late", 60), "id": "again"}])
        there = here.balances()
        assert there.pop("m-late") == before.pop(next(name for name in before if name not in there))
        assert there == before
