"""What callers send, as types: the JSON bodies of requests. Errors name a field by its path, as in dead letters.

A body that becomes an event is the event itself (schemas/events.py), less what the gateway can fill in: `specversion`, `id`, `source` and
`time` may be left out, and `type` where the address says it. Unknown fields are kept, as tills' are.
"""

from datetime import date
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from tillstream.gateway.problems import refusal
from tillstream.schemas.activities import Activity
from tillstream.schemas.events import ActivityType, Malformed, read
from tillstream.schemas.fields import Currency, Identifier, Instant
from tillstream.schemas.members import Enrolled
from tillstream.schemas.receipts import LINES_MAX, TENDERS_MAX, Identity, Line, Return, Sale, Tender, Void
from tillstream.schemas.spending import Adjust, Hold, Redeem, Transfer

T = TypeVar("T")

EVENTS_MAX = 500
"""Events of one batch: what a till sells in a day without a line to us; a body of half a megabyte."""


CLICKS_MAX = 100
"""Events of one batch of page views: a browser sends a handful, a shop's server what it gathered in a second."""


SNAPSHOT_MAX = 65_536
"""Characters of a snapshot: forty times one of a member who shops every other day; nothing longer is given."""

Token = Annotated[str, Meta(min_length=1, max_length=SNAPSHOT_MAX)]


class IdentifyBody(Struct, frozen=True):
    """Whom to look for; `with_snapshot`: the answer is to have one, for quotes while Redis does not answer."""

    identity: Identity
    with_snapshot: bool = False


class QuoteBody(Struct, frozen=True, kw_only=True):
    """A basket: the data of `receipt.sale` without a `receipt_id`, which it gets when it is sold.

    `snapshot`: one that came for the same `member`; looked at where Redis does not answer. `with_snapshot`: the answer is to have one.
    """

    store_id: Identifier
    register_id: Identifier
    business_date: date
    issued_at: Instant
    currency: Currency
    lines: Annotated[list[Line], Meta(max_length=LINES_MAX)]
    member: Identity | None = None
    tenders: Annotated[list[Tender], Meta(max_length=TENDERS_MAX)] = []
    snapshot: Token | None = None
    with_snapshot: bool = False


class EventBody(Struct, frozen=True, kw_only=True):
    """What may stand beside `data`: `id` (default: the header Idempotency-Key), `source` and `time`, when it happened (default: now)."""

    id: Identifier | None = None
    source: Identifier | None = None
    time: Instant | None = None


class SaleBody(EventBody, frozen=True, kw_only=True, tag_field="type", tag="receipt.sale"):
    """A sale; `source` is `tills/<store_id>` unless it is given."""

    data: Sale


class ReturnBody(EventBody, frozen=True, kw_only=True, tag_field="type", tag="receipt.return"):
    """Goods that come back; `source` as of a sale."""

    data: Return


class VoidBody(EventBody, frozen=True, kw_only=True, tag_field="type", tag="receipt.void"):
    """A whole sale is undone; `source` is the sale's, or `data` has its `store_id`."""

    data: Void


ReceiptBody = SaleBody | ReturnBody | VoidBody


class BatchBody(Struct, frozen=True):
    """Receipts of a till that was offline, each a body of `POST /v1/receipts`; one that is none is refused by itself."""

    events: Annotated[list[Raw], Meta(min_length=1, max_length=EVENTS_MAX)]


class ClicksBody(Struct, frozen=True, kw_only=True):
    """What was done on pages, in GA4's shape, in order; an event that is none is refused by itself.

    `visitor_id`, `session_id` and `member` are those of all events whose `params` do not name others. `sent_at` is the caller's clock as it
    sends, by which its `time`s are put right.
    """

    events: Annotated[list[Raw], Meta(min_length=1, max_length=CLICKS_MAX)]
    visitor_id: Identifier | None = None
    session_id: Identifier | None = None
    member: Identity | None = None
    sent_at: Instant | None = None


class Click(Struct, frozen=True, kw_only=True):
    """One event of the batch: GA4's name, and what will be its `data`; `id` tells repeats, `time` is when it happened (default: now)."""

    name: str
    params: dict[str, Raw] = {}
    id: Identifier | None = None
    time: Instant | None = None


class HoldBody(EventBody, frozen=True, kw_only=True):
    """Points to set aside; known by `source` and `hold_id`."""

    data: Hold


class MemberOnly(Struct, frozen=True):
    """Whose hold it is."""

    member: Identity


class ReleaseBody(EventBody, frozen=True, kw_only=True):
    """A hold to give back; `hold_id` stands in the address."""

    data: MemberOnly


class RedeemBody(EventBody, frozen=True, kw_only=True):
    """Points to spend on a reward; known by `source` and `redemption_id`."""

    data: Redeem


class AdjustBody(EventBody, frozen=True, kw_only=True):
    """A balance to correct; known by `source` and `adjustment_id`."""

    data: Adjust


class TransferBody(EventBody, frozen=True, kw_only=True):
    """Points to move within a household; known by `source` and `transfer_id`."""

    data: Transfer


class ActivityBody(EventBody, frozen=True, kw_only=True):
    """Something that a member did; `data` may have further fields, which rules may ask for. Known by `source` and `id`."""

    type: ActivityType
    data: Activity


class EnrolBody(EventBody, frozen=True, kw_only=True):
    """A member to enrol, or what has changed of one."""

    data: Enrolled


class IdentityOnly(Struct, frozen=True):
    """An identity that finds the member."""

    identity: Identity


class IdentityBody(EventBody, frozen=True, kw_only=True):
    """A further identity of a member; `member_id` stands in the address, here and below."""

    data: IdentityOnly


class ConsentsOnly(Struct, frozen=True):
    """By purpose, whether it is agreed to."""

    consents: dict[str, bool]


class ConsentBody(EventBody, frozen=True, kw_only=True):
    """Consents that have changed."""

    data: ConsentsOnly


class HouseholdOnly(Struct, frozen=True):
    """The household; null: none any more."""

    household_id: Identifier | None


class HouseholdBody(EventBody, frozen=True, kw_only=True):
    """Another household."""

    data: HouseholdOnly


class IntoOnly(Struct, frozen=True):
    """The member that stays."""

    into: Identifier


class MergeBody(EventBody, frozen=True, kw_only=True):
    """A merge, or its undoing, with the member that stays."""

    data: IntoOnly


class EraseBody(EventBody, frozen=True, kw_only=True):
    """Nothing has to be said of an erasure."""


def decoded(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """The body, typed.

    Raises:
        Refusal: it is no JSON, or not of that type; names the field by its path.
    """
    try:
        return read(decoder.decode, body)
    except Malformed as malformed:
        raise refusal(malformed) from None
