"""What expires of a group of accounts, and on which of them (docs/adr/0016).

In: the holdings of the accounts that together are what a member has, each with sums of its own. Out: what is due on one of them.

    lapsed[e]      of settle(sum of the group, as_of): so the group loses what nobody of it has spent, and loses it once
    part(X)[e]     of lapsed[e]: account by account what would lapse there by itself, while there is some; then what it earned of e
    due(X)[e]      part(X)[e] - expired(X)[e]; negative where a late event or merge shows that X lost too much

The parts sum to `lapsed`, since what accounts earned of e is no less. All of it is a function of sums, so order does not matter, and an
account that leaves its group stands at once where it would if it had never been there.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tillstream.kernels.holdings import Holding, Units, expiry_due, settle, sum_of

NOTHING = Holding()


class Kin(NamedTuple):
    """What the other accounts of a group hold: those before and those behind an account in the group's order; none: it stands alone."""

    before: Sequence[Units] = ()
    behind: Sequence[Units] = ()

    def around(self, units: Units) -> list[Units]:
        """The whole group, with what the account itself holds in its place."""
        return [*self.before, units, *self.behind]


ALONE = Kin()


def group_due(unit: str, units: Units, kin: Kin, as_of: str | None) -> dict[str, int]:
    """Points of one unit still to be expired on an account, per expiry date, as `holdings.expiry_due` for one that stands alone."""
    own = units.get(unit, NOTHING)
    others = [holdings for holdings in (*kin.before, *kin.behind) if unit in holdings]
    if as_of is None or not others:
        return expiry_due(own, as_of)
    part = parts([holdings.get(unit, NOTHING) for holdings in kin.around(units)], as_of)[len(kin.before)]
    due = {day: part.get(day, 0) - own.expired.get(day, 0) for day in sorted(part.keys() | own.expired.keys())}
    return {day: points for day, points in due.items() if points}


def parts(holdings: Sequence[Holding], as_of: str) -> list[dict[str, int]]:
    """Of what has lapsed of a group, per account the part that expires there, by expiry date.

    >>> parts([Holding(debits={"2026-05-01": 80}), Holding({"2027-03-31": 100})], "2027-04-01")
    [{}, {'2027-03-31': 20}]
    """
    left = settle(together(holdings), as_of).lapsed
    found: list[dict[str, int]] = [{} for _ in holdings]
    for most in ([settle(holding, as_of).lapsed for holding in holdings], [holding.credits for holding in holdings]):
        for part, there in zip(found, most, strict=True):
            for day in left.keys() & there.keys():
                more = min(left[day], there[day] - part.get(day, 0))
                if more > 0:
                    part[day] = part.get(day, 0) + more
                    left[day] -= more
    return found


def group_balance(unit: str, group: Sequence[Units], as_of: str | None) -> int:
    """What a group has of a unit: its lots less its debt, whatever of its expiry is posted already."""
    settled = settle(together([holdings[unit] for holdings in group if unit in holdings]), as_of)
    return sum(settled.lots.values()) - settled.debt


def together(holdings: Sequence[Holding]) -> Holding:
    """The sum of one unit over accounts."""
    return sum_of({"": holding} for holding in holdings).get("", NOTHING)
