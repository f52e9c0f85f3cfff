"""What a feature is computed from: a visitor's and a member's state, seen at one instant and with some goods in mind."""

from datetime import datetime
from functools import cached_property

from tillstream.kernels.instants import instant_ms
from tillstream.models.features import purchases as buying
from tillstream.models.features import visits as visiting
from tillstream.models.features.fading import DAY_MS, together
from tillstream.models.features.goods import Goods
from tillstream.models.features.habits import HALF, Habit
from tillstream.models.features.purchases import Purchases
from tillstream.models.features.visits import Visits

MINUTE_MS = 60_000

DUE_MAX = 10.0
"""Ten times overdue is given up; a thousand times would drown all else."""


class View:
    """All sums faded to `at`, whose clock is the member's or the program's: weekday and hour are read from it.

    `visits`, `purchases`: None where nothing is known, or may be; features of them have no value then.
    """

    def __init__(self, visits: Visits | None, purchases: Purchases | None, goods: Goods, at: datetime) -> None:
        self.at = at
        self.at_ms = at_ms = instant_ms(at)
        self.visits = visits
        self.purchases = purchases
        self.done = self.done_goods = (0.0,) * len(visiting.HALF)
        self.habits: list[Habit] = []
        self.tops: list[Habit] = []
        if visits is not None:
            self.done_goods = visiting.of_goods(visits, goods, at_ms)
            if visits.total is not None:
                self.done = visiting.sums_at(visits.total, at_ms)
        if purchases is not None:
            self.totals = buying.totals_at(purchases, at_ms)
            self.rhythm = buying.rhythm_at(purchases, at_ms)
            self.habits = buying.of_goods(purchases, goods)
            self.tops = buying.of_tops(purchases, goods)
        self.goods = together([habit.at(at_ms) for habit in self.habits], len(HALF))
        self.top = together([habit.at(at_ms) for habit in self.tops], len(HALF))

    def session_pages(self) -> float | None:
        """Events of the visit."""
        return None if self.visits is None else float(self.visits.pages)

    def recency_days(self) -> float | None:
        """Days since the latest purchase."""
        return None if self.purchases is None else self.purchases.overall.days_since(self.at_ms)

    def of_visits(self, kind: int, *, long: bool, goods: bool = False) -> float | None:
        """A sum of one kind (models/features/visits.py), never below zero: a cart may be emptied of what nobody saw put there."""
        if self.visits is None:
            return None
        return max(0.0, (self.done_goods if goods else self.done)[2 * kind + long])

    def session_minutes(self) -> float | None:
        """Minutes since the visit began."""
        return None if self.visits is None else max(0, self.at_ms - self.visits.session_from_ms) / MINUTE_MS

    def total(self, kind: int, *, long: bool) -> float | None:
        """A sum of one kind (models/features/purchases.py)."""
        return None if self.purchases is None else self.totals[2 * kind + long]

    def part(self, kind: int, whole: int) -> float | None:
        """The quotient of two kinds, of the long half-life."""
        return share(self.total(kind, long=True), self.total(whole, long=True))

    def discount_share(self) -> float | None:
        """What discounts took off, of the price before them."""
        spend, discount = self.total(buying.SPEND, long=True), self.total(buying.DISCOUNT, long=True)
        return None if spend is None or discount is None else share(discount, spend + discount)

    def tenure_days(self) -> float | None:
        """Days since the first purchase."""
        return None if self.purchases is None else max(0, self.at_ms - self.purchases.first_ms) / DAY_MS

    def share_of_day(self) -> float | None:
        """Of all receipts, those on this weekday."""
        return None if self.purchases is None else share(self.rhythm[self.at.weekday()], sum(self.rhythm[: buying.WEEKDAYS]))

    def share_of_daypart(self) -> float | None:
        """Of all receipts, those in this quarter of the day."""
        parts = None if self.purchases is None else self.rhythm[buying.WEEKDAYS :]
        return None if parts is None else share(parts[self.at.hour // (24 // buying.DAYPARTS)], sum(parts))

    def of_goods(self, place: int) -> float | None:
        """Receipts (0), spend (1) or discount (2) of the goods."""
        return None if self.purchases is None else self.goods[place]

    def of_tops(self, place: int) -> float | None:
        """As `of_goods`, of the top levels of the goods' categories."""
        return None if self.purchases is None else self.top[place]

    def goods_spend_share(self) -> float | None:
        """Of all spend, that for the goods."""
        return None if self.purchases is None else share(self.goods[1], self.purchases.overall.at(self.at_ms)[1])

    def goods_discount_share(self) -> float | None:
        """As `discount_share`, of the goods."""
        return None if self.purchases is None else share(self.goods[2], self.goods[1] + self.goods[2])

    @cached_property
    def habit(self) -> Habit | None:
        """The strongest habit among the goods, of equal ones the one bought last: that by which they are due."""
        return max(self.habits, key=lambda habit: (habit.at(self.at_ms)[0], habit.last_ms), default=None)

    def overall(self) -> Habit | None:
        """How anything at all is bought."""
        return None if self.purchases is None else self.purchases.overall

    def days_since(self, habits: list[Habit]) -> float | None:
        """Days since any of some habits was followed."""
        return min((habit.days_since(self.at_ms) for habit in habits), default=None)

    def gap_days(self, habit: Habit | None) -> float | None:
        """The interval that a habit leads to expect."""
        return None if habit is None or not habit.gaps else habit.gap_days

    def gap_variation(self, habit: Habit | None) -> float | None:
        """By how much a habit's intervals are missed, of the expected one."""
        return None if habit is None or not habit.gaps else habit.off_days / habit.gap_days

    def due(self, habit: Habit | None) -> float | None:
        """How far the expected interval has passed: 1 is today."""
        if habit is None or not habit.gaps:
            return None
        return min(DUE_MAX, habit.days_since(self.at_ms) / habit.gap_days)


def share(part: float | None, whole: float | None) -> float | None:
    """A quotient; None where a part is unknown or the whole is nothing.

    >>> share(1.0, 4.0), share(1.0, 0.0), share(None, 1.0)
    (0.25, None, None)
    """
    return None if part is None or whole is None or whole <= 0 else part / whole
