"""Households: bonuses for enrolments and birthdays are each person's, by `simulate` and by the oracle, in any order of arrival."""

import tomllib
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from tests.cases import event_of
from tests.engine import engine_outcome
from tests.oracle import outcome
from tests.told import told

PROGRAM = """
[program]
id = "club"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
[tiers]
window = { months = 3, count = "points" }
levels = [{ id = "green", from = 0 }, { id = "gold", from = 120 }]
[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
[[rules]]
id = "welcome"
on = "enrolled"
award = { fixed = 50 }
[[rules]]
id = "families"
on = "enrolled"
member = { segment = ["families"] }
award = { fixed = 5 }
[[rules]]
id = "birthday"
on = "birthday"
once = "year"
cap = { per_member = { points = 60, per = "month" } }
award = { fixed = 40 }
[[rules]]
id = "gold birthday"
on = "birthday"
member = { tier = ["gold"], segment = ["families"] }
award = { fixed = 20 }
[[rules]]
id = "gold"
on = "tier_up"
once = "year"
award = { fixed = 3 }
"""

MEMBERS = ("m1", "m2", "m3", "m4")
EVENTS = 40


def line_of(random: Random, number: int) -> str:
    """One event in the notation of the cases, at a second of its own."""
    member, household = random.choice(MEMBERS), random.choice(["h1", "h2"])
    when = f"2026-0{random.randint(1, 6)}-{random.randint(1, 28):02}T{random.randint(0, 23):02}:10:{number:02}"
    kind = random.choices(["enrol", "household", "sale", "tick"], [6, 2, 8, 2])[0]
    if kind == "enrol":
        joins = f" household={household}" if random.random() < 0.6 else ""
        birth = f" birth=19{random.randint(50, 99)}-0{random.randint(1, 6)}-{random.randint(1, 28):02}" if random.random() < 0.8 else ""
        return f"enrol {member} {when}{joins}{birth} segments={random.choice(['families', 'singles'])}"
    if kind == "household":
        return f"household {member} {when} {random.choice([household, household, '-'])}"
    return f"tick {when[:10]}" if kind == "tick" else f"sale S{number} {member} {when} bread {random.randint(1, 60)}.00"


def history(random: Random) -> list[dict[str, Any]]:
    lines = [line_of(random, number) for number in range(EVENTS)]
    return [event_of(line, f"e{number}") for number, line in enumerate(lines)]


@pytest.mark.parametrize("seed", range(60))
def test_persons_of_households_get_what_is_theirs(seed: int) -> None:
    random = Random(seed)
    events = history(random)
    wanted = told(outcome([tomllib.loads(PROGRAM, parse_float=Decimal)], events))
    assert told(engine_outcome([PROGRAM], events)) == wanted
    random.shuffle(events)
    assert told(engine_outcome([PROGRAM], events)) == wanted
