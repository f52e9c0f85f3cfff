"""What an account holds of one unit: lots and debt, as a function of what was earned and spent, whatever order it came in.

A holding keeps three sums per date, and nothing else:

    credits[e]  points earned that expire on e, less what returns took back       e: ISO date, NEVER for points that do not expire
    debits[d]   points spent on the local date d, less what returns gave back
    expired[e]  points of e that the ledger has expired so far

Points that are set aside have left these sums and are remembered beside them (kernels/set_aside.py): `pending[u][e]` are earned, expire on
e and cannot be spent before the day after u; a hold is spent on its local date until it ends.

`settle` matches them: debits in order of their dates, each from the lot that expires first among those still usable on that date; what no
lot covers is debt, which a later accrual pays. Since only the sums count, any arrival order gives the same lots (G3), a reversal takes from
its own lot first and what was spent of it moves on to the next, and points given back find their old lot again (docs/adr/0004).

    balance = sum(credits) - sum(debits) - sum(expired) = sum(lots) - debt                                                          (G4)
"""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

NEVER = ""


class Hold(Struct, frozen=True, array_like=True):
    """Points held on the local date `day` until the end of `until`.

    0 points: the hold ended by itself after `until`; or, without a day, it ended before it came.
    """

    points: int = 0
    day: str = ""
    until: str = ""


class Holding(Struct, omit_defaults=True):
    """Sums per date of one unit on one account, and what is set aside; see the module. What is empty takes no room in JSON."""

    credits: dict[str, int] = {}
    debits: dict[str, int] = {}
    expired: dict[str, int] = {}
    balance: int = 0
    pending: dict[str, dict[str, int]] = {}
    holds: dict[str, Hold] = {}


Units = dict[str, Holding]
"""An account's holdings by unit: what Redis keeps per account, as JSON."""


def copied(units: Units) -> Units:
    """Holdings that may be moved without moving the account's."""
    return {
        name: Holding(
            dict(held.credits),
            dict(held.debits),
            dict(held.expired),
            held.balance,
            {until: dict(lots) for until, lots in held.pending.items()},
            dict(held.holds),
        )
        for name, held in units.items()
    }


class Settled(NamedTuple):
    """`lots`: what is left per expiry date, soonest first, NEVER last, zeros left out. `lapsed`: of these, what is past `as_of`."""

    lots: dict[str, int]
    lapsed: dict[str, int]
    debt: int


def settle(holding: Holding, as_of: str | None) -> Settled:
    """Lots, lapsed points and debt; `as_of` is the latest `clock.tick`'s date (ISO), None before the first.

    >>> settle(Holding(credits={"2026-06-30": 100, NEVER: 30}, debits={"2026-05-01": 80, "2026-07-01": 15}), "2026-07-02")
    Settled(lots={'': 15}, lapsed={'2026-06-30': 20}, debt=0)
    """
    order = sorted(holding.credits, key=expiry_order)
    left = {expiry: holding.credits[expiry] for expiry in order}
    debt = 0
    for spent_on in sorted(holding.debits):
        debt += take(left, holding.debits[spent_on], spent_on)
    lapsed = {expiry: points for expiry, points in left.items() if as_of and expiry != NEVER and expiry < as_of and points}
    lots = {expiry: points for expiry, points in left.items() if points and expiry not in lapsed}
    return Settled(lots, lapsed, debt)


def take(left: dict[str, int], points: int, spent_on: str) -> int:
    """Takes `points` from the lots usable on `spent_on`, in the dictionary's order; what they did not cover."""
    for expiry, there in left.items():
        if points == 0:
            break
        if there and (expiry == NEVER or expiry >= spent_on):
            taken = min(there, points)
            left[expiry] = there - taken
            points -= taken
    return points


def expiry_order(expiry: str) -> tuple[bool, str]:
    return expiry == NEVER, expiry


def spendable(holding: Holding, day: str) -> int:
    """Points that could be spent on `day`: lots usable then, nothing while there is debt."""
    settled = settle(holding, None)
    if settled.debt:
        return 0
    return sum(points for expiry, points in settled.lots.items() if expiry == NEVER or expiry >= day)


def expiry_due(holding: Holding, as_of: str | None) -> dict[str, int]:
    """Points still to be expired per expiry date; negative where a late event shows that too many were."""
    if as_of is None or not (holding.expired or any(NEVER < expiry < as_of for expiry in holding.credits)):
        return {}
    lapsed = settle(holding, as_of).lapsed
    dates = sorted(lapsed.keys() | holding.expired.keys())
    due = {day: lapsed.get(day, 0) - holding.expired.get(day, 0) for day in dates}
    return {day: points for day, points in due.items() if points}


def sum_of(holdings: Iterable[Units]) -> Units:
    """What several accounts hold together: sums per date, so that lots settle over all of them.

    A hold that ended on one of them, whoever made it, has ended.

    >>> sum_of([{"points": Holding({"": 5}, balance=5)}, {"points": Holding({"": 2}, {"2026-05-01": 1}, balance=1)}])["points"].balance
    6
    """
    total: Units = {}
    for units in holdings:
        for unit, holding in units.items():
            there = total.setdefault(unit, Holding())
            for sums, more in ((there.credits, holding.credits), (there.debits, holding.debits), (there.expired, holding.expired)):
                for day, points in more.items():
                    sums[day] = sums.get(day, 0) + points
            for until, lots in holding.pending.items():
                pending = there.pending.setdefault(until, {})
                for expiry, points in lots.items():
                    pending[expiry] = pending.get(expiry, 0) + points
            for hold_id, hold in holding.holds.items():
                if hold_id not in there.holds or there.holds[hold_id].day:
                    there.holds[hold_id] = hold
            there.balance += holding.balance
    return total
