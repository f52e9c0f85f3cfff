"""What somebody does on a shop's pages: `web.page_view`, `web.add_to_cart`, ... (DESIGN.md §4), the events of the topic `clickstream`.

Names and meanings are those of GA4's recommended events, so that a shop sends what it has: unlike on receipts, `price`, `discount` and
`value` are numbers of major units (15.99) and `quantity` counts whole things. No balance is made of them. Other fields are kept.
"""

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from tillstream.schemas.events import Malformed, check_year, read
from tillstream.schemas.fields import Identifier, Instant, Label
from tillstream.schemas.receipts import Identity

WEB = "web."
"""What the types of these events begin with; behind it GA4's name."""

CLICK_BYTES_MAX = 65_536
"""One event: 200 items at 300 bytes each; what a browser may have on its way as it leaves a page is as much."""

ITEMS_MAX = 200
"""GA4's own limit."""

Address = Annotated[str, Meta(min_length=1, max_length=4_096)]
Words = Annotated[str, Meta(max_length=4_096)]

Amount = Annotated[float, Meta(ge=-1e12, le=1e12)]
Number = Annotated[float, Meta(ge=0, le=1e12)]


class Item(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Goods on a page; `item_category` may be a path, as receipts have it: `dairy/cheese`."""

    item_id: Identifier
    item_name: Words | None = None
    item_brand: Label | None = None
    item_category: Label | None = None
    price: Number | None = None
    discount: Number | None = None
    quantity: Number | None = None


Items = Annotated[list[Item], Meta(max_length=ITEMS_MAX)]


class Page(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Who looks at which page. `visitor_id` is one browser's, `session_id` one visit's; `member` is who they say they are."""

    visitor_id: Identifier
    session_id: Identifier
    page_location: Address
    member: Identity | None = None
    page_title: Words | None = None
    page_referrer: Words | None = None
    items: Items = []


class Search(Page, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The data of `web.search`; `items` are what was found."""

    search_term: Words | None = None


class Goods(Page, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The data of events about goods: `items` must be there; `value` is what they cost together, in `currency`."""

    items: Items
    currency: Label | None = None
    value: Amount | None = None


class GoodsList(Goods, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The data of `web.view_item_list`."""

    item_list_id: Label | None = None
    item_list_name: Words | None = None


class Purchase(Goods, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The data of `web.purchase`. It gives no points: the receipt does, and `transaction_id` may be its `receipt_id`."""

    transaction_id: Identifier | None = None


class ClickEnvelope(Struct, frozen=True, kw_only=True, gc=False, tag_field="type"):
    """The attributes of a CloudEvent; `source` is the shop, `time` when it happened."""

    specversion: Literal["1.0"]
    id: Identifier
    source: Identifier
    time: Instant


class PageViewEvent(ClickEnvelope, frozen=True, kw_only=True, gc=False, tag="web.page_view"):
    data: Page


class ViewItemEvent(ClickEnvelope, frozen=True, kw_only=True, gc=False, tag="web.view_item"):
    data: Goods


class ViewItemListEvent(ClickEnvelope, frozen=True, kw_only=True, gc=False, tag="web.view_item_list"):
    data: GoodsList


class SearchEvent(ClickEnvelope, frozen=True, kw_only=True, gc=False, tag="web.search"):
    data: Search


class AddToCartEvent(ClickEnvelope, frozen=True, kw_only=True, gc=False, tag="web.add_to_cart"):
    data: Goods


class RemoveFromCartEvent(ClickEnvelope, frozen=True, kw_only=True, gc=False, tag="web.remove_from_cart"):
    data: Goods


class BeginCheckoutEvent(ClickEnvelope, frozen=True, kw_only=True, gc=False, tag="web.begin_checkout"):
    data: Goods


class PurchaseEvent(ClickEnvelope, frozen=True, kw_only=True, gc=False, tag="web.purchase"):
    data: Purchase


ClickEvent = (
    PageViewEvent
    | ViewItemEvent
    | ViewItemListEvent
    | SearchEvent
    | AddToCartEvent
    | RemoveFromCartEvent
    | BeginCheckoutEvent
    | PurchaseEvent
)

CLICK_NAMES: tuple[str, ...] = tuple(str(kind.__struct_config__.tag).removeprefix(WEB) for kind in get_args(ClickEvent))
"""GA4's names of the events that are taken."""

_decoder = msgspec.json.Decoder(ClickEvent)


def decode_click(raw: bytes) -> ClickEvent:
    """The typed event in `raw`.

    Raises:
        Malformed: the bytes are no such event; `path` is as precise as the fault allows, `$` for the whole.

    >>> decode_click(b'{"type": "web.page_view", "data": {"visitor_id": 5}}')
    Traceback (most recent call last):
    ...
    tillstream.schemas.events.Malformed: $.data.visitor_id: Expected `str`, got `int`
    """
    if len(raw) > CLICK_BYTES_MAX:
        raise Malformed("too_large", "$", f"{len(raw)} bytes, at most {CLICK_BYTES_MAX} are allowed")
    event: ClickEvent = read(_decoder.decode, raw)
    check_year("$.time", event.time)
    return event
