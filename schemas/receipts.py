"""What a till issues: sales, returns and voids (DESIGN.md §4).

Amounts are minor units of `currency`, quantities thousandths, points integers. `amount` is what the line costs after `discount`.
`gc=False`: decoded data has no cycles, and half the time of decoding goes into looking for some.
"""

from datetime import date
from typing import Annotated, Literal

from msgspec import Meta, Struct

from tillstream.schemas.fields import Currency, Identifier, Instant, Label, Natural, Scheme

LINES_MAX = 5_000
"""A receipt's lines at most: ten times the longest wholesale receipt, and it bounds what one event may cost."""

TENDERS_MAX = 100

LineKind = Literal["item", "deposit", "gift_card", "service", "fee"]


class Identity(Struct, frozen=True, gc=False):
    """A (scheme, value) pair that finds a member."""

    scheme: Scheme
    value: Identifier


class Line(Struct, frozen=True, gc=False, omit_defaults=True):
    """One position of a sale."""

    line_no: Natural
    sku: Identifier
    quantity_milli: Natural
    amount: Natural
    category: Label | None = None
    brand: Label | None = None
    discount: Natural = 0
    kind: LineKind = "item"


class ReturnLine(Struct, frozen=True, gc=False):
    """What comes back of one line of the sale; quantity 0 is a refund of money only."""

    line_no: Natural
    original_line_no: Natural
    quantity_milli: Natural
    amount: Natural


class Tender(Struct, frozen=True, gc=False, omit_defaults=True):
    """A means of payment; a tender of type `points` says how many `points` of which `unit` paid `amount`."""

    type: Identifier
    amount: Natural
    unit: Identifier = "points"
    points: Natural = 0
    hold_id: Identifier | None = None


class Header(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What every receipt tells about itself."""

    receipt_id: Identifier
    store_id: Identifier
    register_id: Identifier
    business_date: date
    issued_at: Instant
    currency: Currency
    member: Identity | None = None
    tenders: Annotated[list[Tender], Meta(max_length=TENDERS_MAX)] = []


class Sale(Header, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The data of `receipt.sale`."""

    lines: Annotated[list[Line], Meta(max_length=LINES_MAX)]


class Return(Header, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The data of `receipt.return`."""

    original_receipt_id: Identifier
    original_source: Identifier | None = None
    lines: Annotated[list[ReturnLine], Meta(max_length=LINES_MAX)]


class Void(Struct, frozen=True, kw_only=True, gc=False):
    """The data of `receipt.void`: `receipt_id` names the sale that is undone as a whole."""

    receipt_id: Identifier
