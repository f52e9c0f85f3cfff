"""What a visitor has done on pages lately: per category and goods, with decay, and the visit that goes on.

In: page views, one by one, in the order of their topic. Out: a state, a kilobyte or two at most, that replaces the one before. Who the
visitor is stands in it as a *link*: the identity that a page claimed last, or else a purchase that may turn out to be a member's receipt.
A page that claims somebody else begins anew: what one person looked at is never another's. A late page of somebody before does not count.
"""

from hashlib import blake2b
from math import exp2

import msgspec
from msgspec import Struct, structs

from tillstream.kernels.keys import natural_key
from tillstream.models.features.fading import Fading, added, faded, strongest, together
from tillstream.models.features.goods import Goods
from tillstream.schemas.clickstream import (
    AddToCartEvent,
    ClickEvent,
    PageViewEvent,
    PurchaseEvent,
    RemoveFromCartEvent,
    SearchEvent,
    ViewItemEvent,
    ViewItemListEvent,
)
from tillstream.schemas.receipts import Identity

SHORT_MS = 600_000
"""Ten minutes: what the visitor is after right now."""

LONG_MS = 14_400_000
"""Four hours: what the visitor is after today."""

MINUTE_MS = 60_000

VIEWS, SEARCHES, CARTS, PURCHASES = range(4)
KINDS = ("views", "searches", "carts", "purchases")
HALF = (SHORT_MS, LONG_MS) * len(KINDS)
"""Of each kind a sum with the short half-life and one with the long."""

CATEGORIES_MAX = 24
"""More categories nobody compares in four hours; the weakest leave."""

SKUS_MAX = 24
"""As `CATEGORIES_MAX`."""

RECENT_MAX = 32
"""Events by which repeats are told: a browser that had no answer sends its batch again."""

COUNTED = {
    PageViewEvent: (VIEWS, 1.0),
    ViewItemEvent: (VIEWS, 1.0),
    ViewItemListEvent: (VIEWS, 1.0),
    SearchEvent: (SEARCHES, 1.0),
    AddToCartEvent: (CARTS, 1.0),
    RemoveFromCartEvent: (CARTS, -1.0),
    PurchaseEvent: (PURCHASES, 1.0),
}
"""What an event counts as, once, and once more for each of its categories and goods."""

LISTS = (ViewItemListEvent, SearchEvent)
"""Events that show many goods at once: they tell of categories, and of no single goods."""


class Link(Struct, frozen=True, array_like=True, gc=False):
    """Who a visitor may be: a sealed identity that a page claimed, or, without, the natural key of a purchase's receipt."""

    at_ms: int
    identity: Identity | None = None
    sale_key: str | None = None


class Looked(Struct, frozen=True, array_like=True, gc=False):
    """What was done with some goods; `category` is '' where no page said it."""

    category: str
    fading: Fading


class Visits(Struct, frozen=True, array_like=True, gc=False):
    """A visitor's state behind the latest event; `session_from_ms` and `pages` are of the visit that goes on.

    `recent` are the latest events, by 64 bits of a hash. `minute` is the latest minute in which any came, since 1970, `in_minute` how many.
    """

    at_ms: int
    session_id: str
    session_from_ms: int
    pages: int
    link: Link | None = None
    total: Fading | None = None
    categories: dict[str, Fading] = {}
    skus: dict[str, Looked] = {}
    recent: tuple[int, ...] = ()
    minute: int = 0
    in_minute: int = 0


decode_visits = msgspec.msgpack.Decoder(Visits).decode
encode_visits = msgspec.msgpack.Encoder().encode


def seen(visits: Visits | None, click: ClickEvent, at_ms: int) -> Visits:
    """The state behind a page view that happened at `at_ms`; the same state where it was among the latest already."""
    mark = mark_of(click)
    if visits is not None and mark in visits.recent:
        return visits
    claim = click.data.member
    if visits is not None and claim is not None and visits.link is not None and visits.link.identity not in {None, claim}:
        if at_ms < visits.link.at_ms:
            return visits
        visits = None
    if visits is None:
        visits = Visits(at_ms, click.data.session_id, at_ms, 0)
    visits = structs.replace(visits, recent=(*visits.recent, mark)[-RECENT_MAX:])
    return counted(in_session(linked(visits, click, at_ms), click.data.session_id, at_ms), click, at_ms)


def is_flooding(visits: Visits | None, arrived_ms: int, events_max: int) -> bool:
    """Whether so many events of a visitor came in the minute of `arrived_ms` already that no more of them count."""
    return visits is not None and visits.minute == arrived_ms // MINUTE_MS and visits.in_minute >= events_max


def arrived(before: Visits | None, after: Visits, arrived_ms: int) -> Visits:
    """The state `after` an event that came at `arrived_ms`, with that counted, whoever it claims to be."""
    minute = arrived_ms // MINUTE_MS
    there = before.in_minute if before is not None and before.minute == minute else 0
    return structs.replace(after, minute=minute, in_minute=there + 1)


def mark_of(click: ClickEvent) -> int:
    """By what an event is told from others: 64 bits of a hash of its source and id."""
    return int.from_bytes(blake2b(f"{click.source}\0{click.id}".encode(), digest_size=8).digest())


def linked(visits: Visits, click: ClickEvent, at_ms: int) -> Visits:
    """The state with the link that a page view makes; a claim stands over a purchase, and the later one over the earlier."""
    link = visits.link
    if click.data.member is not None:
        at_ms = at_ms if link is None or link.identity is None else max(at_ms, link.at_ms)
        return structs.replace(visits, link=Link(at_ms, click.data.member))
    if not isinstance(click, PurchaseEvent) or click.data.transaction_id is None:
        return visits
    if link is not None and (link.identity is not None or at_ms < link.at_ms):
        return visits
    return structs.replace(visits, link=Link(at_ms, None, natural_key(click.source, click.data.transaction_id)))


def in_session(visits: Visits, session_id: str, at_ms: int) -> Visits:
    """The state with one page more in the visit; a late page of an earlier visit is none of this one's."""
    latest_ms = max(at_ms, visits.at_ms)
    if session_id == visits.session_id:
        return structs.replace(visits, at_ms=latest_ms, session_from_ms=min(at_ms, visits.session_from_ms), pages=visits.pages + 1)
    if at_ms < visits.at_ms:
        return visits
    return structs.replace(visits, at_ms=at_ms, session_id=session_id, session_from_ms=at_ms, pages=1)


def counted(visits: Visits, click: ClickEvent, at_ms: int) -> Visits:
    """The state with what was done counted: in all, by category, and by goods."""
    what = COUNTED.get(type(click))
    if what is None:
        return visits
    weights = [0.0] * len(HALF)
    weights[2 * what[0]] = weights[2 * what[0] + 1] = what[1]
    categories, skus = dict(visits.categories), dict(visits.skus)
    for name in dict.fromkeys(item.item_category for item in click.data.items if item.item_category):
        categories[name] = added(categories.get(name), HALF, at_ms, weights)
    if not isinstance(click, LISTS):
        for sku, category in {item.item_id: item.item_category for item in click.data.items}.items():
            known = skus.get(sku)
            fading = added(None if known is None else known.fading, HALF, at_ms, weights)
            skus[sku] = Looked(category or ("" if known is None else known.category), fading)
    if len(categories) > CATEGORIES_MAX:
        categories = strongest(categories, CATEGORIES_MAX, {name: strength(one, visits.at_ms) for name, one in categories.items()})
    if len(skus) > SKUS_MAX:
        skus = strongest(skus, SKUS_MAX, {name: strength(one.fading, visits.at_ms) for name, one in skus.items()})
    return structs.replace(visits, total=added(visits.total, HALF, at_ms, weights), categories=categories, skus=skus)


def strength(fading: Fading, at_ms: int) -> float:
    """By which categories and goods stay: how much was done, to and fro, what happened four hours ago by half."""
    return sum(map(abs, fading.sums)) * exp2((fading.at_ms - at_ms) / LONG_MS)


def sums_at(fading: Fading, at_ms: int) -> tuple[float, ...]:
    """The sums at `at_ms`, two of each kind."""
    return faded(fading, HALF, at_ms)


def of_goods(visits: Visits, goods: Goods, at_ms: int) -> tuple[float, ...]:
    """What was done with some goods, at `at_ms`: by the goods themselves where globs name any, otherwise by their categories."""
    if goods.sku:
        found = [one.fading for name, one in visits.skus.items() if goods.has_sku(name, one.category)]
    else:
        found = [one for name, one in visits.categories.items() if goods.has_category(name)]
    return together([sums_at(fading, at_ms) for fading in found], len(HALF))


def unobserved(visits: Visits) -> Visits:
    """The state of somebody who does not want to be observed: whose visit it is, and nothing of what was done."""
    nothing = Visits(visits.at_ms, visits.session_id, visits.at_ms, 0, visits.link, recent=visits.recent)
    return structs.replace(nothing, minute=visits.minute, in_minute=visits.in_minute)
