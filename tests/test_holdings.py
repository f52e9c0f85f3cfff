"""Lots and debt against an oracle that moves one point at a time."""

from datetime import date, timedelta
from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import match_lots
from tillstream.kernels.holdings import NEVER, Holding, Units, expiry_due, settle, spendable
from tillstream.kernels.lapsing import due_after, expiries
from tillstream.kernels.snapshot import Returned, move
from tillstream.schemas.ledger import Entries

DATES = [f"{date(2026, 1, 28) + timedelta(days=n)}" for n in range(8)]
CREDITS = st.dictionaries(st.sampled_from([*DATES, NEVER]), st.integers(0, 12))
DEBITS = st.dictionaries(st.sampled_from(DATES), st.integers(0, 12))
AS_OF = st.one_of(st.none(), st.sampled_from(DATES))


@given(CREDITS, DEBITS, AS_OF)
def test_settle_matches_as_one_point_at_a_time_does(credits: dict[str, int], debits: dict[str, int], as_of: str | None) -> None:
    settled = settle(Holding(credits=credits, debits=debits), as_of)
    assert (settled.lots, settled.lapsed, settled.debt) == match_lots(credits, debits, as_of)
    order = list(settled.lots)
    assert order == sorted(order, key=lambda expiry: expiry or "9999")


@given(CREDITS, DEBITS, AS_OF)
def test_points_are_conserved_whatever_is_matched(credits: dict[str, int], debits: dict[str, int], as_of: str | None) -> None:
    settled = settle(Holding(credits=credits, debits=debits), as_of)
    held = sum(settled.lots.values()) + sum(settled.lapsed.values()) - settled.debt
    assert held == sum(credits.values()) - sum(debits.values())
    assert all(points > 0 for points in [*settled.lots.values(), *settled.lapsed.values()])


@given(CREDITS, DEBITS, AS_OF, st.dictionaries(st.sampled_from(DATES), st.integers(0, 12)))
def test_balance_is_lots_less_debt_once_expiry_is_posted(
    credits: dict[str, int], debits: dict[str, int], as_of: str | None, expired: dict[str, int]
) -> None:
    """Whatever was expired before, the correction that is due makes balance and lots agree, and then nothing more is due."""
    balance = sum(credits.values()) - sum(debits.values()) - sum(expired.values())
    holding = Holding(credits=credits, debits=debits, expired=expired, balance=balance)
    units = {"points": holding}
    before = msgspec.json.encode(units)
    assert due_after(units, [], as_of) == []
    assert msgspec.json.encode(units) == before
    if as_of is None:
        return
    for entries in expiries(units, as_of):
        move(units, entries)
    settled = settle(holding, as_of)
    assert holding.balance == sum(settled.lots.values()) - settled.debt
    assert expiry_due(holding, as_of) == {}


@given(CREDITS, DEBITS, st.sampled_from(DATES))
def test_spendable_is_what_a_purchase_on_that_day_could_take_without_debt(
    credits: dict[str, int], debits: dict[str, int], day: str
) -> None:
    holding = Holding(credits=credits, debits=debits)
    lots, _, debt = match_lots(credits, debits, None)
    assert spendable(holding, day) == (0 if debt else sum(points for expiry, points in lots.items() if not expiry or expiry >= day))


STEPS = st.lists(st.tuples(st.sampled_from("cde"), st.sampled_from(DATES), st.integers(1, 9)), max_size=12)


@given(st.randoms(use_true_random=False), STEPS)
def test_order_of_entries_does_not_matter(random: Random, steps: list[tuple[str, str, int]]) -> None:
    def entries(kind: str, day: str, points: int) -> Entries:
        if kind == "c":
            return Entries("accrual", "points", [points], expires_on=day)
        if kind == "d":
            return Entries("redemption", "points", [-points], spent_on=day)
        return Entries("expiry", "points", [-points], expires_on=day)

    there, shuffled = list(steps), list(steps)
    random.shuffle(shuffled)
    first: Units = {}
    second: Units = {}
    for step in there:
        move(first, entries(*step))
    for step in shuffled:
        move(second, entries(*step))
    assert first == second
    assert msgspec.json.decode(msgspec.json.encode(first), type=Units) == second


def test_a_reversal_finds_its_own_lot_and_points_given_back_their_old_one() -> None:
    units: Units = {}
    move(units, Entries("accrual", "points", [10], expires_on="2026-01-31"))
    move(units, Entries("accrual", "points", [10], expires_on="2026-02-28"))
    move(units, Entries("redemption", "points", [-10], spent_on="2026-01-10"))
    assert settle(units["points"], None).lots == {"2026-02-28": 10}
    move(units, Entries("reversal", "points", [-4], expires_on="2026-01-31"))
    assert settle(units["points"], None).lots == {"2026-02-28": 6}
    move(units, Entries("reversal", "points", [10], spent_on="2026-01-10"))
    assert settle(units["points"], None).lots == {"2026-01-31": 6, "2026-02-28": 10}
    assert settle(units["points"], "2026-02-01").lots == {"2026-02-28": 10}


def test_defaults_are_not_shared_between_records() -> None:
    one, other = Returned(), Returned()
    one.amount[1] = one.points[1] = one.quantity_milli[1] = 5
    assert other == Returned() == Returned({}, {}, {})
    holding = Holding()
    holding.credits["x"] = holding.debits["x"] = holding.expired["x"] = 1
    assert Holding() == Holding({}, {}, {}, 0)
