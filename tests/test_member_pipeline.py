"""Programs that look at members on real servers: live workers come to what `simulate` says, and Redis is rebuilt equal from the ledger."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from tests.member_events import said
from tests.pipeline_harness import PARTITIONS, Event, Stage, history, stage, tick
from tillstream.kernels.identities import Seal
from tillstream.schemas.ledger import Entry, Posting, decode_record, entries
from tillstream.schemas.program_file import parse_program
from tillstream.simulate import IDENTITY_KEY, Simulation
from tillstream.sinks.budgets import BUDGETS
from tillstream.sinks.redis import connect
from tillstream.streams.rebuild import rebuild
from tillstream.streams.topics import LEDGER, MEMBERS
from tillstream.verify import Finding, verify

PROGRAM = """
[program]
id = "members"
currency = "PLN"
time_zone = "Europe/Warsaw"

[units.points]
expires = { after_days = 400 }

[units.stamps]

[tiers]
window = { months = 1, count = "spend" }
levels = [{ id = "green", from = 0 }, { id = "gold", from = 30_000, downgrade = "one_down" }]

[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
cap = { per_member = { points = 900, per = "month" } }

[[rules]]
id = "gold"
member = { tier = ["gold"] }
award = { multiply = 2, of = "base" }

[[rules]]
id = "dairy-again"
member = { bought = { category = "dairy/**", within_days = 10 }, visits = { min = 2, days = 20 } }
lines = { category = ["dairy/**"] }
award = { points = 3, per_line = 1 }
on_return = "requalify"

[[rules]]
id = "first"
member = { first_purchase = true }
award = { fixed = 50 }

[[rules]]
id = "scarce"
award = { fixed = 10 }
cap = { budget = 1_234, on_return = "keep" }

[[rules]]
id = "up"
on = "tier_up"
award = { fixed = 100 }

[[rules]]
id = "review"
on = "activity.review"
activity = { stars = [4, 5] }
award = { fixed = 5 }
once = "week"

[[rules]]
id = "month"
on = "period_end"
target = { per = "month", offset_days = 2 }
award = { steps = [[10_000, 10], [50_000, 60]] }
"""

PERSONS = """
[[rules]]
id = "welcome"
on = "enrolled"
award = { fixed = 50 }

[[rules]]
id = "birthday"
on = "birthday"
once = "year"
award = { fixed = 40 }
"""

PERSONAL = ("welcome", "birthday")

SCARCE = "scarce"
"""The rule whose last points go by arrival: only what it gives in all is compared."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("members")) as servers:
        (servers.folder / "program.toml").write_text(PROGRAM + PERSONS)
        yield servers


def review(number: int, member: Event, time: str, stars: int) -> Event:
    envelope = {"specversion": "1.0", "id": f"review-{number}", "source": "web", "time": time, "type": "activity.review"}
    return {**envelope, "data": {"member": member, "stars": stars}}


def events_of(seed: int) -> list[Event]:
    """Sales with duplicates, returns and late deliveries, and reviews by the same people."""
    receipts = history(250, seed, voids=0.0)
    people = [event for event in receipts if event["type"] == "receipt.sale" and "member" in event["data"]]
    reviews = [review(n, sale["data"]["member"], sale["data"]["issued_at"], n % 6) for n, sale in enumerate(people[::9])]
    return [*receipts, *reviews]


def family() -> list[Event]:
    """Three persons of a household; one of them enrols a second time, one with an account of its own before."""
    home = {"household_id": "home"}
    one = said("w1", "enrolled", 1, member_id="w1", birth_date="1990-04-10", **home)
    two = said("w2", "enrolled", 2, member_id="w2", birth_date="1992-04-20", **home)
    again = said("w1-again", "enrolled", 3, member_id="w1", birth_date="1990-04-11", **home)
    alone, joined = (said(f"w3-{day}", "enrolled", day, member_id="w3", **told) for day, told in ((4, {}), (5, home)))
    return [again, two, one, alone, joined]


def ledger_of(here: Stage) -> list[Posting]:
    """Every posting of the ledger."""
    records = (decode_record(record.value() or b"") for record in here.records(LEDGER))
    return [record for record in records if isinstance(record, Posting)]


def simulated(events: list[Event]) -> list[Entry]:
    found: list[Entry] = []
    Simulation(parse_program(PROGRAM + PERSONS), found.append).run(map(orjson.dumps, events))
    return found


def net_of(found: list[Entry]) -> Counter[tuple[str, str]]:
    """Points by account and rule, without the scarce ones; what no rule did comes under its kind."""
    net: Counter[tuple[str, str]] = Counter()
    for entry in found:
        if entry.rule_id != SCARCE:
            net[entry.account_id or "", entry.rule_id or entry.kind] += entry.points
    return Counter({key: points for key, points in net.items() if points})


def spent_of(found: list[Posting]) -> int:
    """What the scarce rule took from its budget: what it gives each event as things stand; what returns take back stays spent."""
    given: dict[str, int] = {}
    for posting in found:
        groups = [group for group in posting.entries if group.rule_id == SCARCE and group.kind == "accrual"]
        given.setdefault(posting.posting_id, sum(sum(group.points) for group in groups))
        if posting.sheet is not None:
            given[posting.reverses_posting or posting.posting_id] = sum(posting.sheet.given.get(SCARCE, {}).values())
    corrections = {posting.posting_id for posting in found if posting.kind == "correction"}
    return sum(points for key, points in given.items() if key not in corrections)


def test_members_live_come_to_what_simulate_says_and_are_rebuilt_equal(here: Stage) -> None:
    events = events_of(3)
    ticks = [tick("2026-05-04")]
    with here.worker() as one, here.worker():
        here.send(family(), MEMBERS)
        here.settle(one)
        here.send(events)
        here.settle(one)
        here.send(ticks)
        here.settle(one)
    postings = ledger_of(here)
    assert spent_of(postings) == budget_of(here) == 1_234
    net = net_of([entry for posting in postings for entry in entries(posting)])
    assert net == net_of(simulated([*family(), *events, *ticks]))
    personal = {key: points for key, points in net.items() if key[1] in PERSONAL}
    assert personal == {("home", "welcome"): 100, ("home", "birthday"): 80, ("w3", "welcome"): 50}
    assert findings(here) == []
    rebuilt_equal(here)


def findings(here: Stage) -> list[Finding]:
    """What `verify` finds wrong, ClickHouse left out."""

    async def look() -> list[Finding]:
        client = connect(here.config.redis)
        try:
            return (await verify(here.config, client, None)).findings
        finally:
            await client.aclose()

    return asyncio.run(look())


def budget_of(here: Stage) -> int:
    """What the scarce rule took, as all workers see it."""
    with here.client() as client:
        return int(client.hget(BUDGETS, SCARCE))


def rebuilt_equal(here: Stage) -> None:
    """Emptied and rebuilt from Kafka, Redis holds the same of accounts, members, sheets, chronicles and budgets."""
    before = everything(here)

    async def again() -> None:
        client = connect(here.config.redis)
        await client.flushdb()
        await rebuild(client, here.kafka, PARTITIONS, Seal(IDENTITY_KEY))
        await client.aclose()

    asyncio.run(again())
    assert everything(here) == before


def everything(here: Stage) -> dict[str, Any]:
    with here.client() as client:
        names = [key.decode() for key in client.scan_iter() if key.decode().startswith(("{p", "{b}"))]
        hashes = [name for name in names if client.type(name) == b"hash" and not name.endswith((":meta", ":dayledger"))]
        return {name: {field: value for field, value in client.hgetall(name).items() if value != b"0"} for name in hashes}
