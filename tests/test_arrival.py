"""G3 over the whole vocabulary: events that arrive in any order, repeated, in batches, with restarts, end where the oracle says.

Left out is what is decided by arrival, by nature or as docs/program.md says: budgets, what `clamp` writes off, exchanges, transfers; and
every account is given enough at first, so that nothing is refused as `insufficient`.
"""

import os
import tomllib
from decimal import Decimal
from random import Random
from typing import Any

import pytest

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


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whole_vocabulary_in_any_order_ends_where_the_oracle_says(seed: int) -> None:
    random = Random(seed)
    texts = texts_of([in_any_order(program) for program in random_programs(random)])
    parsed = [tomllib.loads(text, parse_float=Decimal) for text in texts]
    history = [whose(event) for event in random_full_history(random, parsed, EVENTS) if event["type"] != "points.transfer"]
    wanted = outcome(parsed, [*funds(), *history])
    poster, snapshot, outcomes = Posters(Timetable([parse_program(text) for text in texts])), Snapshot(), []
    events = [*funds(), *arrival(random, history)]
    while events:
        some, events = events[: (size := random.choice([1, 5, 40]))], events[size:]
        outcomes += post(poster, some, snapshot, size)
        if random.random() < 0.2:
            snapshot = rebuilt(outcomes)
    conserved(snapshot)
    assert units_of(snapshot) == wanted.accounts
    assert units_of(rebuilt(outcomes)) == wanted.accounts
    if any("tiers" in program for program in parsed):
        assert {name: member.tier for name, member in snapshot.members.items()} == wanted.tiers
