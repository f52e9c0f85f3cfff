"""G3 over the whole vocabulary: events that arrive in any order, repeated, in batches, with restarts, end where the oracle says.

Left out is what is decided by arrival, by nature or as docs/program.md says: budgets, what `clamp` writes off, exchanges, transfers; and
every account is given enough at first, so that nothing is refused as `insufficient`.
"""

import os
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from itertools import repeat
from random import Random
from typing import Any

import pytest

from tests.cases import event_of
from tests.oracle import outcome
from tests.strategies import Event, Program, envelope, post, repeated
from tests.strategies_full import random_programs, texts_of
from tests.strategies_history import CARD, FIRST, MEMBERS, random_full_history
from tests.test_posting import conserved, rebuilt
from tillstream.kernels.posters import Posters
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.program_file import parse_program
from tillstream.simulate import standing

SEEDS = int(os.environ.get("TILLSTREAM_ARRIVALS", "80"))
EVENTS = 90


def in_any_order(program: Program) -> Program:
    """The program without what is decided by arrival."""
    rules = [dict(rule) for rule in program["rules"] if rule.get("on") != "balance"]
    for rule in rules:
        rule["cap"] = {key: value for key, value in rule.get("cap", {}).items() if key != "budget"}
        if "per_member" not in rule["cap"]:
            rule["cap"].pop("on_return", None)
    units = {name: {key: terms for key, terms in unit.items() if key != "negative_balance"} for name, unit in program["units"].items()}
    return program | {"rules": rules, "units": units}


def whose(event: Event) -> Event:
    """The card is its member's: here nobody looks identities up."""
    if event["data"].get("member") != CARD:
        return event
    return event | {"data": event["data"] | {"member": {"scheme": "member", "value": "m3"}}}


def funds() -> list[Event]:
    """Enough of every unit for everybody, before everything else."""
    return [
        envelope("points.adjust", f"f{member}{unit}", "desk", {
            "adjustment_id": f"F{member}{unit}", "member": {"scheme": "member", "value": member}, "unit": unit, "points": 100_000,
            "expires_on": "2030-12-31", "reason": "funds", "actor": "desk",
        }) | {"time": f"{FIRST.date()}T05:00:00+00:00"}
        for member in MEMBERS
        for unit in ("points", "stamps", "coffees")
    ]  # fmt: skip


def arrival(random: Random, history: list[Event]) -> list[Event]:
    """Any order, some events twice; but a hold comes before what takes it, and a void after returns, since these are decided on arrival."""
    events = history + repeated(random, history)
    random.shuffle(events)
    return sorted(events, key=lambda event: {"points.hold": 0, "receipt.void": 2}.get(event["type"], 1))


def units_of(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """Balance, pending, held and lots as `simulate` tells them."""
    accounts = {
        name: {unit: told for unit, held in sorted(units.items()) if any((told := standing(held, snapshot.as_of)).values())}
        for name, units in sorted(snapshot.accounts.items())
    }
    return {name: units for name, units in accounts.items() if units}


def arrived(programs: list[str], events: list[Event], sizes: Iterator[int], restarts: Iterator[bool]) -> tuple[Snapshot, Snapshot]:
    """What a worker knows in the end that took the events in batches of these sizes, and what the ledger's records alone say."""
    poster, snapshot, outcomes = Posters(Timetable([parse_program(text) for text in programs])), Snapshot(), []
    while events:
        size = next(sizes)
        outcomes += post(poster, events[:size], snapshot, size)
        events = events[size:]
        if next(restarts):
            snapshot = rebuilt(outcomes)
    conserved(snapshot)
    return snapshot, rebuilt(outcomes)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whole_vocabulary_in_any_order_ends_where_the_oracle_says(seed: int) -> None:
    random = Random(seed)
    texts = texts_of([in_any_order(program) for program in random_programs(random)])
    parsed = [tomllib.loads(text, parse_float=Decimal) for text in texts]
    history = [whose(event) for event in random_full_history(random, parsed, EVENTS) if event["type"] != "points.transfer"]
    wanted = outcome(parsed, [*funds(), *history])
    sizes, restarts = iter(lambda: random.choice([1, 5, 40]), 0), iter(lambda: random.random() < 0.2, None)
    snapshot, again = arrived(texts, [*funds(), *arrival(random, history)], sizes, restarts)
    assert units_of(snapshot) == units_of(again) == wanted.accounts
    tiers = {name: member.tier for name, member in snapshot.members.items() if member.tier}
    assert tiers == {name: tier for name, tier in wanted.tiers.items() if tier and name in snapshot.members}


REQUALIFIED = """
[program]
id = "club"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
[[rules]]
id = "steps"
award = { steps = [[1000, 3], [4000, 54]] }
on_return = "requalify"
"""


def test_late_return_that_gives_points_back_is_no_giver_of_points() -> None:
    """R1 comes after R2 and leads its sale's rule to other lines; what then comes late must not take that for an award of R1."""
    lines = [
        "sale S9 m1 2026-04-12 bread 25.00",
        "return R2 S1 2026-03-12 2 0.23",
        "sale S1 m1 2026-02-23 milk x3 0.99, cheese x0.5 0.99, milk x0.5 25.00, cheese x0.5 13.13",
        "return R1 S1 2026-03-07 1 x1.49 0.58, 2 x0.135 0.62, 3 x0.5 25.00",
        "sale S2 m1 2026-03-26 bread 25.00",
    ]
    events = [event_of(line, f"e{number}") for number, line in enumerate(lines)]
    wanted = outcome([tomllib.loads(REQUALIFIED)], events).accounts
    snapshot, again = arrived([REQUALIFIED], events, repeat(1), repeat(False))
    assert units_of(snapshot) == units_of(again) == wanted


def test_void_that_is_earlier_than_a_return_known_already_takes_its_visit_away_once() -> None:
    program = """
[program]
id = "club"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
[[rules]]
id = "third"
member = { visits = { days = 30, min = 2, max = 2 } }
award = { fixed = 10 }
"""
    lines = [
        "sale S1 m1 2026-03-01 bread 10.00",
        "sale S2 m1 2026-03-02 bread 10.00",
        "return R1 S1 2026-03-05 1 x1 10.00",
        "void S1 2026-03-04",
        "sale S3 m1 2026-03-06 bread 10.00",
    ]
    snapshot, _ = arrived([program], [event_of(line, f"e{number}") for number, line in enumerate(lines)], repeat(1), repeat(False))
    assert {unit: held.balance for unit, held in snapshot.accounts["m1"].items()} == {"points": 20}


def test_late_sale_that_is_judged_again_keeps_what_its_member_state_closed() -> None:
    """`gold` was closed to the sale of 1 March; it stays so when a part of it comes back."""
    program = REQUALIFIED.replace("[units.points]", """[units.points]
[tiers]
window = { months = 3, count = "spend" }
levels = [{ id = "green", from = 0 }, { id = "gold", from = 10000 }]
[groups.g]
stacking = "first"
[[rules]]
id = "gold"
group = "g"
member = { tier = ["gold"] }
award = { fixed = 15 }""").replace('id = "steps"', 'id = "steps"\ngroup = "g"')
    lines = ["sale S9 m1 2026-04-12 bread 5.00", "sale S1 m1 2026-03-01 bread 25.00", "return R1 S1 2026-04-13 1 0.25"]
    events = [event_of(line, f"e{number}") for number, line in enumerate(lines)]
    snapshot, again = arrived([program], events, repeat(1), repeat(False))
    assert units_of(snapshot) == units_of(again) == outcome([tomllib.loads(program)], events).accounts
    assert snapshot.accounts["m1"]["points"].balance == 3


def test_return_decides_no_tier_by_the_version_of_its_sale() -> None:
    """The window ended under a version without tiers, so nothing was decided; a return of what an older version judged changes that not."""
    head = '[program]\nid = "club"\ncurrency = "PLN"\ntime_zone = "Europe/Warsaw"\n'
    rest = '[units.points]\n[[rules]]\nid = "base"\naward = { fixed = 1 }\n'
    tiers = '[tiers]\nwindow = { months = 3, count = "spend", kind = "calendar" }\nlevels = [{ id = "green", from = 5000 }]\n'
    programs = [head + rest + tiers, head + "effective_from = 2026-03-19\n" + rest]
    lines = ["sale S1 m1 2026-03-14 bread 60.00", "tick 2026-04-20", "return R1 S1 2026-04-20 1 50.00"]
    events = [event_of(line, f"e{number}") for number, line in enumerate(lines)]
    snapshot, _ = arrived(programs, events, repeat(1), repeat(False))
    assert {name: member.tier for name, member in snapshot.members.items()} == {"m1": "green"}
    assert outcome([tomllib.loads(program) for program in programs], events).tiers == {"m1": "green"}
