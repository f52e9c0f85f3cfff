"""What is in a visitor's cart, as pages said it. In: page views, one by one, in the order of their topic. Out: a state after each.

A cart changes with `add_to_cart` and `remove_from_cart`; `begin_checkout` says that somebody is at it still; `purchase` empties it. It is
kept by visitor, and by no member: whose it is, the visitor's link says when it is looked at (models/features/visits.py). A page that claims
somebody else begins an empty one. What was put into it before the latest purchase and comes later is not in it any more.
"""

import msgspec
from msgspec import Struct, structs

from tillstream.models.features.visits import mark_of
from tillstream.schemas.clickstream import AddToCartEvent, BeginCheckoutEvent, ClickEvent, Item, PurchaseEvent, RemoveFromCartEvent
from tillstream.schemas.receipts import Identity

ARTICLES_MAX = 100
"""More are not put into a cart by hand; the oldest leave."""

RECENT_MAX = 32
"""Events by which repeats are told, as of visits."""

CHANGES = (AddToCartEvent, RemoveFromCartEvent, BeginCheckoutEvent, PurchaseEvent)


class Cart(Struct, frozen=True, array_like=True, gc=False):
    """A cart behind its latest change, which was the event `event_id` of `source` at `at_ms`.

    `goods`: item id -> category ('' where no page said it) and quantity; `emptied_ms`: the latest purchase; `recent`: as of visits.
    """

    at_ms: int
    source: str
    event_id: str
    session_id: str
    claim: Identity | None = None
    goods: dict[str, tuple[str, float]] = {}
    emptied_ms: int = -1
    recent: tuple[int, ...] = ()


decode_cart = msgspec.msgpack.Decoder(Cart).decode
encode_cart = msgspec.msgpack.Encoder().encode


def carted(cart: Cart | None, click: ClickEvent, at_ms: int) -> Cart | None:
    """The cart behind a page view that happened at `at_ms`; the same one where the page view changes nothing, or is known already."""
    mark = mark_of(click)
    if not isinstance(click, CHANGES) or (cart is not None and mark in cart.recent):
        return cart
    claim = click.data.member
    if cart is None or (claim is not None and cart.claim not in {None, claim}):
        cart = Cart(at_ms, click.source, click.id, click.data.session_id)
    goods = dict(cart.goods)
    if isinstance(click, PurchaseEvent):
        goods = {} if at_ms >= cart.at_ms else without(goods, click.data.items, whole=True)
        cart = structs.replace(cart, emptied_ms=max(cart.emptied_ms, at_ms))
    elif at_ms > cart.emptied_ms:
        goods = changed(goods, click)
    cart = structs.replace(cart, goods=goods, claim=claim or cart.claim, recent=(*cart.recent, mark)[-RECENT_MAX:])
    if at_ms < cart.at_ms:
        return cart
    return structs.replace(cart, at_ms=at_ms, source=click.source, event_id=click.id, session_id=click.data.session_id)


def changed(goods: dict[str, tuple[str, float]], click: ClickEvent) -> dict[str, tuple[str, float]]:
    """The goods with what was put in, or taken out."""
    if isinstance(click, RemoveFromCartEvent):
        return without(goods, click.data.items, whole=False)
    if isinstance(click, AddToCartEvent):
        for item in click.data.items:
            category, quantity = goods.pop(item.item_id, ("", 0.0))
            goods[item.item_id] = (item.item_category or category, quantity + (1.0 if item.quantity is None else item.quantity))
    return dict(list(goods.items())[-ARTICLES_MAX:])


def without(goods: dict[str, tuple[str, float]], items: list[Item], *, whole: bool) -> dict[str, tuple[str, float]]:
    """The goods without some items; where `whole`, or where an item says no quantity, all of it."""
    for item in items:
        category, quantity = goods.pop(item.item_id, ("", 0.0))
        left = 0.0 if whole or item.quantity is None else quantity - item.quantity
        if left > 0:
            goods[item.item_id] = (category, left)
    return goods
