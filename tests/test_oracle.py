"""The oracle, held to what must be true of any outcome: conservation, order, repetition, full returns; and to the one it grew from."""

import tomllib
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.cases import event_of
from tests.oracle import outcome
from tests.oracle.lots import Holding
from tests.reference import INT64_MAX, Overflow, match_lots, replay
from tests.strategies import UNSHRUNK, Event, Program, random_history, random_program
from tests.strategies_full import random_programs, texts_of
from tests.strategies_history import FIRST, random_full_history

SEEDS = range(10)
DATES = st.sampled_from(["2026-03-01", "2026-03-31", "2026-04-30", "2026-05-31"])


def drawn(seed: int) -> tuple[list[Program], list[Event]]:
    random = Random(seed)
    programs = [tomllib.loads(text, parse_float=Decimal) for text in texts_of(random_programs(random))]
    return programs, random_full_history(random, programs)


@given(
    st.dictionaries(st.one_of(DATES, st.just("")), st.integers(0, 20)),
    st.dictionaries(DATES, st.integers(0, 20)),
    st.one_of(st.none(), DATES),
)
def test_lots_by_amounts_are_the_lots_matched_point_by_point(credits: dict[str, int], debits: dict[str, int], as_of: str | None) -> None:
    holding = Holding()
    holding.credits.update(credits)
    holding.debits.update(debits)
    lots, lapsed, debt = match_lots(credits, debits, as_of)
    assert holding.lots(as_of or "") == lots
    assert holding.matched()[1] == debt
    assert sum(holding.matched()[0].values()) == sum(lots.values()) + sum(lapsed.values())


@given(st.randoms(use_true_random=False))
@settings(max_examples=50, phases=UNSHRUNK)
def test_oracle_on_plain_programs_agrees_with_the_smaller_one(random: Random) -> None:
    program = random_program(random)
    events = random_history(random, voids=False)
    try:
        wanted = replay(program, events)
    except Overflow:
        assume(False)
    there = outcome([program], events)
    assert {account: units["points"]["balance"] for account, units in there.accounts.items() if units["points"]["balance"]} == {
        account: points for account, points in wanted.balances.items() if points
    }
    assert {(account, origin, line, rule): points for (account, _, origin, line, rule), points in there.net.items()} == wanted.net
    assert max([0, *wanted.balances.values()]) <= INT64_MAX * len(events)


@pytest.mark.parametrize("seed", SEEDS)
def test_oracle_in_any_order_comes_to_the_same(seed: int) -> None:
    programs, events = drawn(seed)
    there = outcome(programs, events)
    Random(seed).shuffle(events)
    assert outcome(programs, events) == there


@pytest.mark.parametrize("seed", SEEDS)
def test_oracle_on_everything_twice_comes_to_the_same(seed: int) -> None:
    programs, events = drawn(seed)
    once, twice = outcome(programs, events), outcome(programs, events + events)
    assert (twice.accounts, twice.net, twice.tiers, twice.rejected) == (once.accounts, once.net, once.tiers, once.rejected)
    assert twice.duplicates == 2 * once.duplicates + len({event["id"] for event in events if event["type"] != "clock.tick"})


@pytest.mark.parametrize("seed", SEEDS)
def test_oracle_without_ticks_conserves_points(seed: int) -> None:
    """Nothing expires: balance, pending and held are what rules and people gave, less what was redeemed and paid."""
    programs, events = drawn(seed)
    programs = programs[:1]
    programs[0]["units"]["points"].pop("negative_balance", None)
    events = [event | {"data": event["data"] | {"tenders": []}} if "lines" in event["data"] else event for event in events]
    events = [event for event in events if event["type"] != "clock.tick"]
    there = outcome(programs, events)
    units = {rule["id"]: rule.get("unit", "points") for rule in programs[0]["rules"]}
    moved = {event["id"]: moved_by(event) for event in events if event["id"] not in there.rejected}
    given_in_all = sum(points for (*_, rule), points in there.net.items() if units[rule] == "points")
    units_of_points = [parts["points"] for parts in there.accounts.values() if "points" in parts]
    in_all = sum(unit["balance"] + unit["pending"] + unit["held"] for unit in units_of_points)
    assert in_all == given_in_all + sum(moved.values())


def moved_by(event: Event) -> int:
    """What an accepted event of spending adds to the points of all accounts together."""
    points: int = event["data"].get("points", 0) if event["data"].get("unit", "points") == "points" else 0
    return {"points.redeem": -points, "points.adjust": points}.get(event["type"], 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_balance_is_lots_less_debt_and_lots_are_positive(seed: int) -> None:
    programs, events = drawn(seed)
    for units in outcome(programs, events).accounts.values():
        for unit in units.values():
            lots = [lot["points"] for lot in unit["lots"]]
            assert min([1, *lots]) > 0
            assert unit["balance"] <= sum(lots)
            assert min(unit["pending"], unit["held"]) >= 0


@pytest.mark.parametrize("seed", SEEDS)
def test_receipts_wholly_returned_leave_no_points_of_their_own(seed: int) -> None:
    """Bonuses for events stay; what lines earned is gone, by proportion as by requalifying."""
    programs, events = drawn(seed)
    sales = [event for event in events if event["type"] == "receipt.sale"]
    others = [event for event in events if not event["type"].startswith("receipt.")]
    there = outcome(programs, [*others, *sales, *(whole_return(sale) for sale in {sale["id"]: sale for sale in sales}.values())])
    assert [key for key in there.net if key[3] is not None] == []
    assert "over_returned" not in there.rejected.values()


def whole_return(sale: Event) -> Event:
    """Everything back, a year after."""
    data: dict[str, Any] = sale["data"] | {
        "receipt_id": f"{sale['data']['receipt_id']}/R",
        "original_receipt_id": sale["data"]["receipt_id"],
        "issued_at": FIRST.replace(year=FIRST.year + 1).isoformat(),
        "tenders": [],
        "lines": [line | {"original_line_no": line["line_no"]} for line in sale["data"]["lines"]],
    }
    return sale | {"type": "receipt.return", "id": f"{sale['id']}/R", "data": data}


@pytest.mark.parametrize("seed", SEEDS)
def test_caps_of_members_and_budgets_are_never_exceeded(seed: int) -> None:
    programs, events = drawn(seed)
    there = outcome(programs[:1], events)
    for rule in programs[0]["rules"]:
        cap = rule.get("cap", {})
        if "budget" in cap:
            assert there.granted[rule["id"]] <= cap["budget"]
        if cap.get("per_member", {}).get("per") == "campaign":
            for account in there.accounts:
                own = [points for key, points in there.net.items() if (key[0], key[4]) == (account, rule["id"])]
                assert sum(own) <= cap["per_member"]["points"]


def test_oracle_with_accounts_of_the_caller_counts_a_household_together() -> None:
    """Two visits in a month are the household's, not one of each."""
    program = {
        "program": {"id": "p", "currency": "PLN", "time_zone": "Europe/Warsaw"},
        "units": {"points": {}},
        "rules": [{"id": "r", "award": {"fixed": 10}, "member": {"visits": {"min": 2, "per": "month"}}}],
    }
    events = [event_of("sale S1 m1 2026-03-01 bread 1.00", "e1"), event_of("sale S2 m2 2026-03-02 bread 1.00", "e2")]
    assert outcome([program], events).accounts == {}
    assert outcome([program], events, lambda event: "h1").accounts["h1"]["points"]["balance"] == 10
