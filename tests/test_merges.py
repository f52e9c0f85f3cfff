"""Rules look at merged members as at one: random histories of the whole vocabulary with merges in them, by `simulate`, in any order of
arrival, and by the oracle.

`TILLSTREAM_MERGES` says how many (default 60), `TILLSTREAM_MERGE_SEED` the first seed.
"""

import json
import os
import tomllib
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from tests.engine import engine_outcome
from tests.oracle import Outcome, outcome
from tests.shrink import shrunk
from tests.strategies import Event, Program, envelope, program_text
from tests.strategies_full import random_programs, texts_of
from tests.strategies_history import DAYS, FIRST, MEMBERS, HistoryMaker, random_full_history
from tests.test_arrival import in_any_order, whose
from tests.told import told
from tillstream.kernels.sealing import seal_event
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.events import MemberEvent, decode
from tillstream.schemas.mistakes import InvalidProgram
from tillstream.schemas.program_file import parse_program
from tillstream.simulate import Simulation

HISTORIES = int(os.environ.get("TILLSTREAM_MERGES", "60"))
FIRST_SEED = int(os.environ.get("TILLSTREAM_MERGE_SEED", "0"))
EVENTS = 90


def without_exchanges(program: Program) -> Program:
    """Where points ripen or a hold lapses, any account of the group may be the one that exchanges, by its own conditions."""
    return program | {"rules": [rule for rule in program["rules"] if rule.get("on") != "balance"]}


def merges(random: Random) -> list[Event]:
    """A handful of merges and unmerges, at half seconds of their own."""
    found = []
    for number in range(random.randint(1, 6)):
        at = FIRST + timedelta(seconds=random.randrange(DAYS * 86_400) + 0.5)
        kind, (alias, root) = random.choice(["merged", "merged", "merged", "unmerged"]), random.sample(MEMBERS, 2)
        found.append(envelope(f"member.{kind}", f"mg{number}", "crm", {"from": alias, "into": root}) | {"time": at.isoformat()})
    return found


def told_of(there: Outcome) -> dict[str, Any]:
    """A merge that closes a cycle counts for neither; the oracle does not say so."""
    said = told(there)
    said["codes"].pop("cycle", None)
    return said


def disagrees(programs: list[Program], events: list[Event]) -> bool:
    texts = [program_text(program) for program in programs]
    try:
        found = told_of(engine_outcome(texts, events))
    except InvalidProgram:
        return False
    return found != told_of(outcome([tomllib.loads(text, parse_float=Decimal) for text in texts], events))


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + HISTORIES))
def test_rules_look_at_merged_members_as_the_oracle_does(seed: int) -> None:
    random = Random(seed)
    programs = [without_exchanges(program) for program in random_programs(random)]
    history = random_full_history(random, [tomllib.loads(text, parse_float=Decimal) for text in texts_of(programs)], EVENTS)
    history += merges(random)
    random.shuffle(history)
    if disagrees(programs, history):
        programs, history = shrunk(programs, history, disagrees)
        pytest.fail("made small:\n" + "\n".join([*texts_of(programs), *map(json.dumps, history)]))


SEGMENT_RULES = """
[program]
id = "segments"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
[[rules]]
id = "families"
member = { segment = ["families"] }
award = { fixed = 1 }
[[rules]]
id = "seniors"
member = { segment = ["seniors"] }
award = { fixed = 100 }
[[rules]]
id = "vip"
member = { segment = ["vip"] }
award = { fixed = 10000 }
[[rules]]
id = "gdynia"
member = { attributes = { city = ["Gdynia"] } }
award = { fixed = 1000000 }
"""


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + HISTORIES))
def test_segments_of_merged_members_are_those_that_the_oracle_sees(seed: int) -> None:
    """Enrolments, segments, sales and merges, in chains as well, in any order of arrival."""
    random = Random(seed)
    parsed = tomllib.loads(SEGMENT_RULES, parse_float=Decimal)
    maker = HistoryMaker(random, tenders=False)
    for number in range(50):
        act = random.choices([maker.sell, maker.segment, maker.enrol], [20, 20, 3])[0]
        act(number, FIRST + timedelta(seconds=random.randrange(DAYS * 86_400)))
    history = [whose(event) for event in maker.events]
    history += merges(random)
    wanted = outcome([parsed], history)
    random.shuffle(history)
    assert arrived([SEGMENT_RULES], history).result()["accounts"] == wanted.accounts


CHAIN_RULES = SEGMENT_RULES.replace("[units.points]", """[units.points]
[tiers]
window = { months = 2, count = "spend" }
levels = [{ id = "green", from = 0 }, { id = "silver", from = 15000 }, { id = "gold", from = 60000 }]""") + """
[[rules]]
id = "gold"
member = { tier = ["gold"] }
award = { fixed = 10000000 }
[[rules]]
id = "silver"
member = { tier = ["silver"] }
award = { fixed = 1000000000 }
"""


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + HISTORIES))
def test_chain_of_merges_in_any_order_is_one_member(seed: int) -> None:
    """m3 into m2 into m1 into m0, whichever happened first and whichever is known first: tier, segments and profile come up to m0."""
    random = Random(seed)
    parsed = tomllib.loads(CHAIN_RULES, parse_float=Decimal)
    maker = HistoryMaker(random, tenders=False)
    for number in range(60):
        act = random.choices([maker.sell, maker.segment, maker.enrol], [20, 8, 2])[0]
        act(number, FIRST + timedelta(seconds=random.randrange(DAYS * 86_400)))
    history = [whose(event) for event in maker.events]
    for number, (alias, root) in enumerate(pairwise(reversed(MEMBERS))):
        at = FIRST + timedelta(seconds=random.randrange(DAYS * 86_400) + 0.5)
        history.append(envelope("member.merged", f"ch{number}", "crm", {"from": alias, "into": root}) | {"time": at.isoformat()})
    wanted = outcome([parsed], history)
    random.shuffle(history)
    found = arrived([CHAIN_RULES], history).result()
    assert found["accounts"] == wanted.accounts
    assert found.get("tiers", {}) == {name: tier for name, tier in wanted.tiers.items() if tier}


def arrived(texts: list[str], events: list[Event]) -> Simulation:
    """Everything posted one by one as it comes; who is who is known before."""
    simulation = Simulation(Timetable([parse_program(text) for text in texts]))
    raws = [json.dumps(event).encode() for event in events]
    typed = [(number, *reversed(seal_event(decode(raw), raw, simulation.seal))) for number, raw in enumerate(raws)]
    members = [item for item in typed if isinstance(item[2], MemberEvent)]
    told_to_accounts = {item[0]: item for item in simulation.enrol(members)}  # type: ignore[arg-type]
    for item in typed:
        if not isinstance(item[2], MemberEvent) or item[0] in told_to_accounts:
            simulation.post([simulation.route(*item)])  # type: ignore[arg-type]
    return simulation


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + HISTORIES // 2))
def test_merged_members_in_any_order_of_arrival_end_where_the_oracle_says(seed: int) -> None:
    """Spending is left out: whether it is covered is decided by arrival."""
    random = Random(seed)
    texts = texts_of([in_any_order(program) for program in random_programs(random)])
    parsed = [tomllib.loads(text, parse_float=Decimal) for text in texts]
    history = [whose(event) for event in random_full_history(random, parsed, EVENTS) if not event["type"].startswith("points.")]
    for event in history:
        event["data"].pop("tenders", None)
    history += merges(random)
    wanted = outcome(parsed, history)
    random.shuffle(history)
    history.sort(key=lambda event: event["type"] == "receipt.void")
    found = arrived(texts, history).result()
    assert found["accounts"] == wanted.accounts
    assert found.get("tiers", {}) == {name: tier for name, tier in wanted.tiers.items() if tier}
