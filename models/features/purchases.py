"""What a member buys: recency, frequency, money, discounts, regularity; overall, by category and by goods, with decay.

In: sales and returns, one by one, in the order of their topic. Out: a state, some seven kilobytes at most, that replaces the one before.
Money is minor units. A receipt that comes again counts once while it is among the latest `RECENT_MAX` of the member. What comes late is
counted at its own time; intervals between purchases are those of what came in order.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct, structs

from tillstream.kernels.keys import key_of
from tillstream.models.features.fading import DAY_MS, Fading, added, faded, strongest
from tillstream.models.features.goods import Goods, top_of
from tillstream.models.features.habits import Habit, repeated
from tillstream.schemas.events import ReturnEvent, SaleEvent
from tillstream.schemas.receipts import Line

SHORT_DAYS, LONG_DAYS = 30, 180
"""A month and half a year: whether somebody buys less of late shows in the quotient."""

RECEIPTS, SPEND, DISCOUNT, POINTS_PAID, RETURNED = range(5)
TOTALS = ("receipts", "spend", "discount", "points_paid", "returned")
TOTAL_HALF = (SHORT_DAYS * DAY_MS, LONG_DAYS * DAY_MS) * len(TOTALS)
"""Of each total a sum with the short half-life and one with the long."""

WEEKDAYS, DAYPARTS = 7, 4
RHYTHM_HALF = (LONG_DAYS * DAY_MS,) * (WEEKDAYS + DAYPARTS)
"""Receipts by weekday, Monday first, and by quarter of the day, from midnight, on the clock of the till."""

TOPS_MAX, CATEGORIES_MAX, SKUS_MAX = 16, 32, 32
"""Of a member, the weakest leave: what is bought twice a year does not tell when it is due. Together seven kilobytes."""

RECENT_MAX = 32
"""Receipts by which repeats are told: a till repeats within minutes, and nobody shops so often."""

KINDS = ("item", "service")
"""Kinds of lines that are goods; deposits, fees and gift cards are not."""


class Purchases(Struct, frozen=True, array_like=True, gc=False):
    """A member's state behind the latest event; `recent` are natural keys of receipts, the latest last."""

    first_ms: int
    totals: Fading
    rhythm: Fading
    overall: Habit
    tops: dict[str, Habit] = {}
    categories: dict[str, Habit] = {}
    skus: dict[str, Habit] = {}
    recent: tuple[str, ...] = ()


decode_purchases = msgspec.msgpack.Decoder(Purchases).decode
encode_purchases = msgspec.msgpack.Encoder().encode


def bought(purchases: Purchases | None, event: SaleEvent, at_ms: int) -> Purchases:
    """The state behind a sale that happened at `at_ms`; the same state where it was among the latest already."""
    key = key_of(event)
    if purchases is not None and key in purchases.recent:
        return purchases
    lines = [line for line in event.data.lines if line.kind in KINDS]
    _, spend, discount = weights = weights_of(lines)
    points_paid = float(sum(tender.amount for tender in event.data.tenders if tender.type == "points"))
    totals, rhythm = twice((1.0, spend, discount, points_paid, 0.0)), rhythm_of(event)
    if purchases is None:
        overall = repeated(None, at_ms, weights)
        purchases = Purchases(at_ms, added(None, TOTAL_HALF, at_ms, totals), added(None, RHYTHM_HALF, at_ms, rhythm), overall)
    else:
        purchases = structs.replace(
            purchases,
            first_ms=min(at_ms, purchases.first_ms),
            totals=added(purchases.totals, TOTAL_HALF, at_ms, totals),
            rhythm=added(purchases.rhythm, RHYTHM_HALF, at_ms, rhythm),
            overall=repeated(purchases.overall, at_ms, weights),
        )
    return structs.replace(
        purchases,
        tops=with_lines(purchases.tops, by_name(lines, lambda line: top_of(line.category or "")), at_ms, TOPS_MAX),
        categories=with_lines(purchases.categories, by_name(lines, lambda line: line.category or ""), at_ms, CATEGORIES_MAX),
        skus=with_lines(purchases.skus, by_name(lines, lambda line: line.sku), at_ms, SKUS_MAX),
        recent=(*purchases.recent, key)[-RECENT_MAX:],
    )


def brought_back(purchases: Purchases | None, event: ReturnEvent, at_ms: int) -> Purchases | None:
    """The state behind a return that happened at `at_ms`: of what came back only the amount is known. None: no sale was seen before."""
    key = key_of(event)
    if purchases is None or key in purchases.recent:
        return purchases
    weights = twice((0.0, 0.0, 0.0, 0.0, float(sum(line.amount for line in event.data.lines))))
    totals = added(purchases.totals, TOTAL_HALF, at_ms, weights)
    return structs.replace(purchases, totals=totals, recent=(*purchases.recent, key)[-RECENT_MAX:])


def twice(weights: Iterable[float]) -> list[float]:
    """Each weight for both half-lives."""
    return [weight for weight in weights for _ in range(2)]


def weights_of(lines: Iterable[Line]) -> tuple[float, float, float]:
    """What some lines of one receipt add to a habit: a receipt, their amount, their discount."""
    some = list(lines)
    return 1.0, float(sum(line.amount for line in some)), float(sum(line.discount for line in some))


def rhythm_of(event: SaleEvent) -> list[float]:
    """Which weekday and which quarter of the day, on the till's clock, one receipt counts for."""
    issued, weights = event.data.issued_at, [0.0] * (WEEKDAYS + DAYPARTS)
    weights[issued.weekday()] = weights[WEEKDAYS + issued.hour // (24 // DAYPARTS)] = 1.0
    return weights


def by_name(lines: Iterable[Line], name_of: Callable[[Line], str]) -> dict[str, list[Line]]:
    """The lines of a receipt by a name of theirs; those without one are left out."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        if name := name_of(line):
            found.setdefault(name, []).append(line)
    return found


def with_lines(habits: Mapping[str, Habit], lines: Mapping[str, Sequence[Line]], at_ms: int, count_max: int) -> dict[str, Habit]:
    """The habits with one receipt's lines, at most `count_max` of them."""
    habits = dict(habits)
    for name, some in lines.items():
        habits[name] = repeated(habits.get(name), at_ms, weights_of(some), some[0].category or "")
    if len(habits) <= count_max:
        return habits
    latest_ms = max(habit.fading.at_ms for habit in habits.values())
    return strongest(habits, count_max, {name: habit.at(latest_ms)[0] for name, habit in habits.items()})


def of_goods(purchases: Purchases, goods: Goods) -> list[Habit]:
    """How some goods are bought: one habit for each of those that globs name, or otherwise for each of their categories."""
    if goods.sku:
        return [habit for sku, habit in purchases.skus.items() if goods.has_sku(sku, habit.category)]
    return [purchases.categories[category] for category in goods.among(purchases.categories)]


def of_tops(purchases: Purchases, goods: Goods) -> list[Habit]:
    """How what stands beside some goods is bought: the top levels of their categories."""
    return [purchases.tops[top] for top in sorted(goods.tops & purchases.tops.keys())]


def totals_at(purchases: Purchases, at_ms: int) -> tuple[float, ...]:
    """The totals at `at_ms`, two of each."""
    return faded(purchases.totals, TOTAL_HALF, at_ms)


def rhythm_at(purchases: Purchases, at_ms: int) -> tuple[float, ...]:
    """Receipts by weekday and quarter of the day, at `at_ms`."""
    return faded(purchases.rhythm, RHYTHM_HALF, at_ms)
