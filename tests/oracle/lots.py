"""One unit of one account: what was credited per last day, what was spent per day. Out: lots and debt.

Spending takes the lot that expires first among those still usable on its day; what no lot covers is debt, and later credits pay it
first. It is `tests.reference.match_lots`, which moves one point at a time, by amounts; test_oracle.py compares the two.
"""

from collections import defaultdict
from dataclasses import dataclass, field

NEVER = ""


def last_day(expiry: str) -> str:
    """Sorts points that never expire behind all others."""
    return expiry or "9999"


@dataclass
class Holding:
    """Points per last day and per day of spending, as sums; neither pending points nor their holds are in them."""

    credits: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    debits: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def matched(self) -> tuple[dict[str, int], int]:
        """All lots, those past their last day included, and the debt."""
        left = {expiry: points for expiry, points in sorted(self.credits.items(), key=lambda item: last_day(item[0])) if points}
        debt = 0
        for day, spent in sorted(self.debits.items()):
            wanted = spent
            for expiry, there in left.items():
                if last_day(expiry) >= day:
                    left[expiry] = there - min(there, wanted)
                    wanted -= min(there, wanted)
            debt += wanted
        return {expiry: points for expiry, points in left.items() if points}, debt

    def lots(self, day: str) -> dict[str, int]:
        """The lots that can be used on `day`."""
        return {expiry: points for expiry, points in self.matched()[0].items() if last_day(expiry) >= day}

    def balance(self, day: str) -> int:
        """What the lots usable on `day` come to, less the debt."""
        return sum(self.lots(day).values()) - self.matched()[1]

    def taken(self, day: str, points: int) -> dict[str, int]:
        """The lots that `points` spent on `day` would take, earliest first; the balance covers them."""
        parts: dict[str, int] = {}
        for expiry, there in self.lots(day).items():
            parts[expiry] = min(there, points - sum(parts.values()))
        return {expiry: part for expiry, part in parts.items() if part}
