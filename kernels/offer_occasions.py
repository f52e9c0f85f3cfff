"""What an event means to offers' triggers: which are met, or would be if enough such events came, and in what words.

In: an event of a visitor or a receipt as `Happened`, and the offers in force. Out: a `Match` per offer that agrees with its name and
goods. Whether a visitor has done so often enough, and whether a member buys such goods for the first time, only Redis knows.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from tillstream.kernels.offering import Placed, fits
from tillstream.schemas.clickstream import WEB, ClickEvent
from tillstream.schemas.events import SaleEvent
from tillstream.schemas.program_offers import Occasion, OfferGoods
from tillstream.schemas.program_words import money

RECEIPT = "receipt"

ABANDONED = "cart_abandoned"

WHY_MAX = 300
"""Characters of globs that are told: who reads it wants to recognise the goods, not all of them."""


class Article(NamedTuple):
    """Goods of an event; `amount` is what a receipt's line cost, minor units, `line_no` its number."""

    sku: str
    category: str | None
    amount: int = 0
    line_no: int = 0


class Happened(NamedTuple):
    """An event as triggers look at it: its name (`receipt`, `cart_abandoned`, or GA4's), its goods, and who did it where.

    `waited_minutes`: how long a cart was left.
    """

    source: str
    event_id: str
    type: str
    name: str
    at: datetime
    articles: Sequence[Article]
    receipt_id: str | None = None
    visitor_id: str | None = None
    session_id: str | None = None
    waited_minutes: int | None = None


class Match(NamedTuple):
    """An offer whose trigger agrees with an event; `enough`: what the goods cost is as much as it asks for."""

    placed: Placed
    why: str
    enough: bool


def of_click(click: ClickEvent, at: datetime) -> Happened:
    """A page view, as of `at`."""
    data = click.data
    name = str(type(click).__struct_config__.tag)
    articles = [Article(item.item_id, item.item_category) for item in data.items]
    return Happened(
        click.source, click.id, name, name.removeprefix(WEB), at, articles, visitor_id=data.visitor_id, session_id=data.session_id
    )


def of_sale(sale: SaleEvent) -> Happened:
    """A receipt: known by its receipt id, by whatever event it came."""
    articles = [Article(line.sku, line.category, line.amount, line.line_no) for line in sale.data.lines]
    data = sale.data
    return Happened(sale.source, data.receipt_id, "receipt.sale", RECEIPT, data.issued_at, articles, receipt_id=data.receipt_id)


def matches(offers: Iterable[Placed], happened: Happened) -> list[Match]:
    """The offers whose triggers agree with what happened."""
    found = []
    for placed in offers:
        trigger = placed.offer.trigger
        if not answers_to(trigger, happened.name, happened.waited_minutes):
            continue
        if happened.name == RECEIPT:
            goods = named(trigger, happened.articles)
            cost, agrees = sum(article.amount for article in goods), bool(goods)
        else:  # What goods on a page cost, no trigger asks.
            cost, agrees = 0, any(fits(trigger, article.sku, article.category) for article in happened.articles)
        if agrees or (trigger.sku is None and trigger.category is None):
            found.append(Match(placed, words(trigger, happened.name, cost), cost >= (trigger.min_amount or 0)))
    return found


def answers_to(trigger: Occasion, name: str, waited_minutes: int | None = None) -> bool:
    """Whether a trigger looks at events of this name; of a cart that was left, for as long as it asks."""
    if name == ABANDONED:
        return trigger.on == ABANDONED and trigger.minutes == waited_minutes
    return trigger.on == RECEIPT if name == RECEIPT else trigger.event is not None and name in trigger.event


def named(goods: OfferGoods, articles: Iterable[Article]) -> list[Article]:
    """Those of some articles that are among some goods."""
    return [article for article in articles if fits(goods, article.sku, article.category)]


def words(trigger: Occasion, name: str, cost: int) -> str:
    """What a trigger found.

    >>> words(Occasion(event=["view_item"], category=["dairy/**"], count=3, minutes=15), "view_item", 0)
    'view_item of dairy/**, 3 within 15 minutes'
    >>> words(Occasion(on="receipt", sku=["59*"], first_purchase=True), "receipt", 1250)
    'bought 59* for 12.50, for the first time'
    >>> words(Occasion(on="cart_abandoned", minutes=30), "cart_abandoned", 0)
    'goods in the cart, and nothing bought for 30 minutes'
    """
    globs = ", ".join([*(trigger.sku or []), *(trigger.category or [])])[:WHY_MAX]
    if name == ABANDONED:
        return f"{globs or 'goods'} in the cart, and nothing bought for {trigger.minutes} minutes"
    if name != RECEIPT:
        often = f", {trigger.count} within {trigger.minutes} minutes" if trigger.count > 1 else ""
        return f"{name}{f' of {globs}' if globs else ''}{often}"
    return f"bought {globs or 'goods'} for {money(cost)}{', for the first time' if trigger.first_purchase else ''}"
