"""Every feature there is: its name, unit, source, meaning, and how it comes out of a `View`. Models see these and nothing else.

docs/features.md has the table. A feature that is not known (no purchase of the goods yet, nobody linked) is left out, not zero.
"""

from collections.abc import Callable
from datetime import datetime
from math import cos, sin, tau
from typing import Literal, NamedTuple

from tillstream.models.features.goods import Goods
from tillstream.models.features.purchases import POINTS_PAID, RECEIPTS, RETURNED, SPEND, Purchases
from tillstream.models.features.view import View
from tillstream.models.features.visits import CARTS, PURCHASES, SEARCHES, VIEWS, Visits

Source = Literal["moment", "visits", "purchases"]

SATURDAY = 5


class Declared(NamedTuple):
    """One feature; `value` gives None where it is not known."""

    name: str
    unit: str
    source: Source
    meaning: str
    value: Callable[[View], float | None]


def hour_angle(view: View) -> float:
    """The hour hand of a clock that goes round once a day, radians."""
    return tau * (view.at.hour + view.at.minute / 60) / 24


DECLARED: tuple[Declared, ...] = (
    Declared("hour_sin", "1", "moment", "hour of the day on a circle, so that midnight is near 23:00", lambda v: sin(hour_angle(v))),
    Declared("hour_cos", "1", "moment", "the other coordinate", lambda v: cos(hour_angle(v))),
    Declared("weekend", "0 or 1", "moment", "Saturday or Sunday", lambda v: float(v.at.weekday() >= SATURDAY)),
    Declared("session_minutes", "minutes", "visits", "since the visit began", lambda v: v.session_minutes()),
    Declared("session_pages", "events", "visits", "in this visit", lambda v: v.session_pages()),
    Declared(
        "views_10m", "events", "visits", "pages with goods seen, fading by half in 10 minutes",
        lambda v: v.of_visits(VIEWS, long=False),
    ),
    Declared("views_4h", "events", "visits", "the same, in 4 hours", lambda v: v.of_visits(VIEWS, long=True)),
    Declared("searches_4h", "events", "visits", "searches, in 4 hours", lambda v: v.of_visits(SEARCHES, long=True)),
    Declared("carts_10m", "events", "visits", "put into the cart less taken out, in 10 minutes", lambda v: v.of_visits(CARTS, long=False)),
    Declared("carts_4h", "events", "visits", "the same, in 4 hours", lambda v: v.of_visits(CARTS, long=True)),
    Declared("orders_4h", "events", "visits", "purchases on the page, in 4 hours", lambda v: v.of_visits(PURCHASES, long=True)),
    Declared(
        "goods_views_10m", "events", "visits", "of the goods: seen, in 10 minutes",
        lambda v: v.of_visits(VIEWS, long=False, goods=True),
    ),
    Declared("goods_views_4h", "events", "visits", "of the goods: seen, in 4 hours", lambda v: v.of_visits(VIEWS, long=True, goods=True)),
    Declared(
        "goods_searches_4h", "events", "visits", "of the goods: found, in 4 hours",
        lambda v: v.of_visits(SEARCHES, long=True, goods=True),
    ),
    Declared(
        "goods_carts_10m", "events", "visits", "of the goods: in the cart, in 10 minutes",
        lambda v: v.of_visits(CARTS, long=False, goods=True),
    ),
    Declared(
        "goods_carts_4h", "events", "visits", "of the goods: in the cart, in 4 hours",
        lambda v: v.of_visits(CARTS, long=True, goods=True),
    ),
    Declared(
        "goods_orders_4h", "events", "visits", "of the goods: bought on the page, in 4 hours",
        lambda v: v.of_visits(PURCHASES, long=True, goods=True),
    ),
    Declared("recency_days", "days", "purchases", "since the latest receipt", lambda v: v.recency_days()),
    Declared("tenure_days", "days", "purchases", "since the first receipt", lambda v: v.tenure_days()),
    Declared("receipts_30d", "receipts", "purchases", "fading by half in 30 days", lambda v: v.total(RECEIPTS, long=False)),
    Declared("receipts_180d", "receipts", "purchases", "in 180 days", lambda v: v.total(RECEIPTS, long=True)),
    Declared("spend_30d", "minor units", "purchases", "what goods cost, in 30 days", lambda v: v.total(SPEND, long=False)),
    Declared("spend_180d", "minor units", "purchases", "the same, in 180 days", lambda v: v.total(SPEND, long=True)),
    Declared("basket", "minor units", "purchases", "spend a receipt, of 180 days", lambda v: v.part(SPEND, RECEIPTS)),
    Declared(
        "discount_share", "0 to 1", "purchases", "of the price before discounts, what they took off, of 180 days",
        lambda v: v.discount_share(),
    ),
    Declared("points_share", "1", "purchases", "paid with points, of the spend of 180 days", lambda v: v.part(POINTS_PAID, SPEND)),
    Declared("returned_share", "1", "purchases", "brought back, of the spend of 180 days", lambda v: v.part(RETURNED, SPEND)),
    Declared("gap_days", "days", "purchases", "expected between two shoppings", lambda v: v.gap_days(v.overall())),
    Declared(
        "gap_variation", "1", "purchases", "by how much the interval is missed, of the interval",
        lambda v: v.gap_variation(v.overall()),
    ),
    Declared("due", "intervals", "purchases", "gone by since the latest shopping, at most 10; 1 is today", lambda v: v.due(v.overall())),
    Declared("weekday_share", "0 to 1", "purchases", "receipts of this weekday, of 180 days", lambda v: v.share_of_day()),
    Declared("daypart_share", "0 to 1", "purchases", "receipts of this quarter of the day, of 180 days", lambda v: v.share_of_daypart()),
    Declared("goods_recency_days", "days", "purchases", "since any of the goods was bought", lambda v: v.days_since(v.habits)),
    Declared(
        "goods_receipts", "receipts", "purchases", "with the goods, once for each category or SKU, in 90 days",
        lambda v: v.of_goods(0),
    ),
    Declared("goods_spend", "minor units", "purchases", "for the goods, in 90 days", lambda v: v.of_goods(1)),
    Declared("goods_spend_share", "1", "purchases", "of the spend of 90 days, that for the goods", lambda v: v.goods_spend_share()),
    Declared("goods_discount_share", "0 to 1", "purchases", "as discount_share, for the goods", lambda v: v.goods_discount_share()),
    Declared(
        "goods_gap_days", "days", "purchases", "expected between two purchases of the goods' strongest habit",
        lambda v: v.gap_days(v.habit),
    ),
    Declared(
        "goods_due", "intervals", "purchases", "gone by since its latest purchase, at most 10; 1 is today",
        lambda v: v.due(v.habit),
    ),
    Declared("top_recency_days", "days", "purchases", "since anything of the goods' top levels was bought", lambda v: v.days_since(v.tops)),
    Declared("top_receipts", "receipts", "purchases", "with anything of their top levels, in 90 days", lambda v: v.of_tops(0)),
    Declared("top_spend", "minor units", "purchases", "for anything of their top levels, in 90 days", lambda v: v.of_tops(1)),
)
"""In the order of their sources; a name never changes its meaning, since decisions are kept for ever with their features."""


def features(visits: Visits | None, purchases: Purchases | None, goods: Goods, at: datetime) -> dict[str, float]:
    """The features that are known at `at`, by name; of a visitor, a member and an offer's goods.

    `at` is event time, on the clock of the member or the program; states are those behind the event.

    >>> from datetime import UTC
    >>> features(None, None, Goods(), datetime(2026, 3, 7, 6, tzinfo=UTC))
    {'hour_sin': 1.0, 'hour_cos': 6.123233995736766e-17, 'weekend': 1.0}
    """
    view = View(visits, purchases, goods, at)
    return {one.name: value for one in DECLARED if (value := one.value(view)) is not None}
