"""Versions that are published while events come find in the history what they ask for (docs/adr/0033).

Goods are left out of what random histories are compared by: what no version looked for when a sale was judged is counted from then on.
"""

import os
import tomllib
from datetime import date, datetime
from decimal import Decimal
from itertools import repeat
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.cases import event_of
from tests.oracle import outcome
from tests.redis_servers import RedisServer, redis_server  # noqa: F401
from tests.strategies import Event, Program, post
from tests.strategies_full import random_programs, texts_of
from tests.strategies_history import random_full_history
from tests.test_arrival import arrival, arrived, in_any_order, units_of, whose
from tests.test_merges import arrived as merged_arrived
from tests.test_merges import merges
from tests.test_posting import rebuilt
from tests.test_state import EMPTY, with_store
from tillstream.kernels.posters import Posters
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.member_state import Member
from tillstream.schemas.program_file import parse_program
from tillstream.sinks.state import Standing, StateStore
from tillstream.streams.recounting import ACCOUNTS_MAX, count_again

SEEDS = int(os.environ.get("TILLSTREAM_RECOUNTS", "30"))
EVENTS = 60

HEAD = '[program]\nid = "club"\ncurrency = "PLN"\ntime_zone = "Europe/Warsaw"\n'
BASE = '[units.points]\n[[rules]]\nid = "base"\naward = { points = 1, per_amount = 100 }\n'
FIRST = HEAD + BASE + '[[rules]]\nid = "hi"\non = "enrolled"\naward = { fixed = 1 }\n'
LATER = FIRST.replace("[units", "effective_from = 2026-03-10\n[units")
"""One point per 1.00; a rule that looks at members. The same again, to go on with."""


def sums(member: Member) -> dict[str, Any]:
    """What is counted, without dates that come to nothing."""
    found: dict[str, Any] = {
        kind: {name: kept for name, days in there.items() if (kept := {day: n for day, n in days.items() if n})}
        for kind, there in (("counts", member.counts), ("given", member.given))
    }
    persons = {"": member.used, **member.used_by}
    return found | {"used": {who: {name: sorted(days) for name, days in used.items() if days} for who, used in persons.items() if used}}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_counting_again_comes_to_what_was_counted_event_by_event(seed: int) -> None:
    random = Random(seed)
    texts = texts_of([in_any_order(program) for program in random_programs(random)])
    parsed = [tomllib.loads(text, parse_float=Decimal) for text in texts]
    history = [whose(event) for event in random_full_history(random, parsed, EVENTS) if event["type"] != "points.transfer"]
    snapshot, _ = arrived(texts, arrival(random, history), repeat(5), repeat(False))
    posters = Posters(Timetable([parse_program(text) for text in texts]))
    for account_id, member in snapshot.members.items():
        assert sums(posters.recounted(account_id, snapshot)) == sums(member)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_merged_accounts_are_counted_again_with_what_they_took_over(seed: int) -> None:
    random = Random(seed)
    texts = texts_of([in_any_order(program) for program in random_programs(random)])
    parsed = [tomllib.loads(text, parse_float=Decimal) for text in texts]
    history = [whose(event) for event in random_full_history(random, parsed, EVENTS) if not event["type"].startswith("points.")]
    simulation = merged_arrived(texts, random.sample(history, len(history)) + merges(random))
    for account_id, member in simulation.snapshot.members.items():
        assert sums(simulation.poster.recounted(account_id, simulation.snapshot)) == sums(member)


def without_goods(program: Program) -> Program:
    """Without conditions on goods, and on what an enrolment says: the ledger has of it what some rule looked at."""
    rules = [{key: part for key, part in rule.items() if key != "member"} | of_deeds(rule) for rule in program["rules"]]
    return program | {"rules": [rule for rule in rules if rule.get("on") not in {"period_end", "birthday"}]}


def of_deeds(rule: dict[str, Any]) -> dict[str, Any]:
    kept = {name: terms for name, terms in rule.get("member", {}).items() if name not in {"bought", "attributes", "segment"}}
    return {"member": kept} if kept else {}


def published_between(texts: list[str], first: list[Event], rest: list[Event]) -> tuple[Snapshot, Snapshot]:
    """What is known when all versions but the first were published after the events `first`; and what the ledger alone says."""
    versions = [parse_program(text) for text in texts]
    posters, snapshot = Posters(Timetable(versions[:1])), Snapshot()
    outcomes = post(posters, first, snapshot)
    posters.exchange(Timetable(versions))
    snapshot.members |= {name: posters.recounted(name, snapshot) for name in posters.lacking(snapshot)}
    outcomes += post(posters, rest, snapshot)
    return snapshot, rebuilt(outcomes)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_version_published_between_events_ends_where_the_oracle_says(seed: int) -> None:
    random = Random(seed)
    programs = two_versions(random)
    texts = texts_of(programs)
    parsed = [tomllib.loads(text, parse_float=Decimal) for text in texts]
    history = [whose(event) for event in random_full_history(random, parsed, EVENTS) if not event["type"].startswith("points.")]
    for event in history:
        event["data"].pop("tenders", None)
    wanted = outcome(parsed, history)
    zone, begins = ZoneInfo(programs[0]["program"]["time_zone"]), programs[1]["program"]["effective_from"]
    random.shuffle(history)
    history.sort(key=lambda event: event["type"] == "receipt.void")
    share = random.choice([0.8, 1])
    early = [event for event in history if is_before(event, begins, zone) and random.random() < share]
    rest = [event for event in history if event not in early]
    if share == 1:  # In order: what is judged again would be counted again in any case.
        rest.sort(key=moment_of)
    snapshot, again = published_between(texts, early, rest)
    assert units_of(snapshot) == units_of(again) == wanted.accounts


def two_versions(random: Random) -> list[Program]:
    """The second begins some day, and asks for more than the first, which looks at members."""
    looks = {"id": "hi", "on": "enrolled", "award": {"fixed": 1}}
    while True:
        first, *others = [without_goods(in_any_order(program)) for program in random_programs(random)]
        first |= {"rules": [*first["rules"], looks]}
        if others and "effective_from" in others[0]["program"]:
            versions = [parse_program(text) for text in texts_of([first, *others])]
            if Posters(Timetable(versions[:1])).asked != Posters(Timetable(versions)).asked:
                return [first, *others]


def is_before(event: Event, begins: Any, zone: ZoneInfo) -> bool:
    """No tick, and judged by the first version: the second may be published after it."""
    return event["type"] != "clock.tick" and moment_of(event).astimezone(zone).date() < begins


def moment_of(event: Event) -> datetime:
    return datetime.fromisoformat(event["data"].get("issued_at", event["time"]))


def balance(texts: list[str], first: str, rest: str) -> int:
    """Points of m1."""
    before, after = ([event_of(line, f"{line[:12]}") for line in lines.split("; ")] for lines in (first, rest))
    snapshot, again = published_between(texts, before, after)
    assert units_of(snapshot) == units_of(again)
    return snapshot.accounts["m1"]["points"].balance


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ('[[rules]]\nid = "new"\nmember = { visits = { days = 30, min = 3 } }\naward = { fixed = 100 }\n', 145),
        ('[[rules]]\nid = "new"\nmember = { first_purchase = true }\naward = { fixed = 100 }\n', 45),
        ('[tiers]\nwindow = { months = 1, count = "points" }\nlevels = [{ id = "gold", from = 45 }]\n'
         '[[rules]]\nid = "up"\non = "tier_up"\naward = { fixed = 100 }\n', 145),
    ],
)  # fmt: skip
def test_condition_published_today_sees_the_days_before(more: str, wanted: int) -> None:
    before = "sale S1 m1 2026-03-01 bread 10.00; sale S2 m1 2026-03-05 bread 20.00"
    assert balance([FIRST, LATER + more], before, "sale S3 m1 2026-03-10 bread 15.00") == wanted


def test_rule_that_gives_once_a_month_from_today_on_gave_this_month_already() -> None:
    later = LATER.replace('id = "base"', 'id = "base"\nonce = "month"')
    assert balance([FIRST, later], "sale S1 m1 2026-03-01 bread 10.00", "sale S2 m1 2026-03-10 bread 15.00") == 10


CAPPED = LATER.replace("per_amount = 100 }", 'per_amount = 100 }\ncap = { per_member = { points = 40, per = "month" } }')


def test_cap_published_today_has_what_was_given_this_month() -> None:
    """30 of 40 were given, and 5 came back: 15 are left."""
    before = "sale S1 m1 2026-03-01 bread 10.00; sale S2 m1 2026-03-05 bread 20.00; return R1 S1 2026-03-06 1 5.00"
    assert balance([FIRST, CAPPED], before, "sale S3 m1 2026-03-10 bread 99.00") == 40


def test_goods_are_counted_from_the_publication_on_also_before_the_version_holds() -> None:
    """S1 was judged when nobody looked for bread; S2 by the first version, when the second was published already."""
    later = LATER + (
        '[[rules]]\nid = "bread"\nmember = { bought = { category = "bakery/**", within_days = 9 } }\naward = { fixed = 100 }\n'
    )
    after = "sale S2 m1 2026-03-05 bread 1.00; sale S3 m1 2026-03-10 milk 1.00"
    assert balance([FIRST, later], "sale S1 m1 2026-03-02 bread 1.00", after) == 103
    assert balance([FIRST, later], "sale S1 m1 2026-03-02 bread 1.00", "sale S3 m1 2026-03-10 milk 1.00") == 2


def test_late_sale_is_judged_again_among_sales_from_before_a_publication() -> None:
    """S1 has no bit for bread, S2 has; the late S0 has all of them judged again: bread within 30 days for S3 alone."""
    later = LATER + (
        '[[rules]]\nid = "bread"\nmember = { bought = { category = "bakery/**", within_days = 30 } }\naward = { fixed = 100 }\n'
    )
    after = "sale S2 m1 2026-03-05 bread 1.00; sale S3 m1 2026-03-10 milk 1.00; sale S0 m1 2026-02-20 milk 1.00"
    assert balance([FIRST, later], "sale S1 m1 2026-03-02 bread 1.00", after) == 104


def test_version_that_gave_way_to_another_of_its_date_still_judges_by_its_cap() -> None:
    """S1 and S2 were judged under a cap of 10 a month; the late S0, by the version without one, changes nothing of that."""
    capped = FIRST.replace("per_amount = 100 }", 'per_amount = 100 }\ncap = { per_member = { points = 10, per = "month" } }')
    before = "sale S1 m1 2026-03-01 bread 10.00; sale S2 m1 2026-03-05 bread 20.00"
    assert balance([capped, FIRST], before, "sale S0 m1 2026-02-20 bread 7.00") == 17


def test_accounts_are_counted_again_from_what_redis_has(redis_server: RedisServer) -> None:  # noqa: F811
    """More accounts than are read at once; nothing of what was read stays in the batch's snapshot."""
    redis_server.flush()
    names = [f"m{number}" for number in range(ACCOUNTS_MAX + 3)]
    lines = [f"sale {name}-{day} {name} 2026-03-0{day} bread {day}.00" for name in names for day in (1, 5)]
    lines.append(f"return R1 {names[0]}-5 2026-03-06 1 2.00")
    posters, memory = Posters(Timetable([parse_program(FIRST)])), Snapshot()
    post(posters, [event_of(line, line) for line in lines], memory)
    posters.exchange(Timetable([parse_program(FIRST), parse_program(CAPPED)]))

    async def scenario(state: StateStore) -> None:
        await state.apply(0, memory, EMPTY, Standing(len(lines), len(lines), None))
        state.with_members = True
        found = (await state.load_keys(0, names, (), (), ())).snapshot
        assert posters.lacking(found) == set(names)
        await count_again(state, posters, 0, found)
        assert posters.lacking(found) == set()
        first, fifth = date(2026, 3, 1).toordinal(), date(2026, 3, 5).toordinal()
        assert [found.members[name].given for name in names] == [{"base": {first: 1, fifth: 5 if name != "m0" else 3}} for name in names]
        assert (found.postings, found.chronicles) == ({}, {})

    with_store(redis_server, scenario)
