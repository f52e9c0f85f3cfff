"""Merged accounts by `simulate` and by the oracle, to whom they are one account: random histories of everything that moves points."""

import tomllib
from collections import Counter
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from tests.cases import event_of
from tests.engine import engine_outcome
from tests.oracle import Outcome, outcome

PROGRAM = """
[program]
id = "club"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
expires = { after_days = 12 }
negative_balance = "NEGATIVE"
hold_days = HOLD_DAYS
[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
"""

MEMBERS = ("m1", "m2", "m3", "m4")
DAYS = 56
EVENTS = 60


def line_of(random: Random, number: int, sold: dict[str, int]) -> str:
    """One event in the notation of the cases, at a second of its own."""
    member, points = random.choice(MEMBERS), random.randint(1, 40)
    day = number * DAYS // EVENTS
    when = f"2026-0{1 + day // 28}-{1 + day % 28:02}T12:00:{number:02}"
    kind = random.choices(["sale", "tender", "return", "void", "redeem", "adjust", "hold", "use", "tick", "merge", "unmerge"],
                          [20, 5, 5, 2, 6, 4, 5, 4, 4, 5, 2])[0]  # fmt: skip
    if kind in {"return", "void"} and sold:
        name = random.choice(sorted(sold))
        amount = sold.pop(name)
        return f"return R{number} {name} {when} 1 {random.randint(1, amount)}.00" if kind == "return" else f"void {name} {when}"
    if kind == "redeem":
        return f"redeem D{number} {member} {when} {points}"
    if kind == "adjust":
        return f"adjust A{number} {member} {when} -{points}"
    if kind == "hold":
        return f"hold H{number} {member} {when} {points} until=2026-0{1 + day // 28}-28"
    if kind == "use":
        return f"redeem D{number} {member} {when} {points} hold=H{random.randrange(number + 1)}"
    if kind == "tick":
        return f"tick {when[:10]}"
    if kind in {"merge", "unmerge"}:
        one, other = random.sample(MEMBERS, 2)
        return f"{kind} {one} {other} 2026-0{random.randint(1, 2)}-{random.randint(1, 28):02}T08:00:{number:02}"
    sold[f"S{number}"] = points
    tender = f" | points 1.00 {random.randint(1, 30)}" if kind == "tender" else ""
    return f"sale S{number} {member} {when} bread {points}.00{tender}"


def history(random: Random) -> list[dict[str, Any]]:
    sold: dict[str, int] = {}
    lines = [line_of(random, number, sold) for number in range(EVENTS)]
    lines += [f"tick 2026-{random.choice(['02', '03'])}-28"] * random.randint(0, 1)
    return [event_of(line, f"e{number}") for number, line in enumerate(lines)]


def told(there: Outcome) -> tuple[dict[str, Any], Counter[str]]:
    """A merge that closes a cycle counts for neither; the oracle does not say so."""
    return there.accounts, Counter(code for code in there.rejected.values() if code != "cycle")


@pytest.mark.parametrize("seed", range(100))
def test_merged_members_have_what_one_account_would_have(seed: int) -> None:
    random = Random(seed)
    program = PROGRAM.replace("NEGATIVE", random.choice(["debt", "debt", "clamp"])).replace("HOLD_DAYS", str(random.choice([0, 0, 3])))
    events = history(random)
    wanted = told(outcome([tomllib.loads(program, parse_float=Decimal)], events))
    assert told(engine_outcome([program], events)) == wanted
    random.shuffle(events)
    assert told(engine_outcome([program], events)) == wanted
