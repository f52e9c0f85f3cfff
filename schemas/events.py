"""CloudEvents 1.0 in structured JSON mode: one type per event, told apart by `type` (DESIGN.md §4).

In: the bytes of one record. Out: a typed event, or a `Malformed` that names the field by its path. Unknown fields are ignored here and
kept in the bytes, which travel on unchanged.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tillstream.schemas.activities import Activity
from tillstream.schemas.fields import INT64_MAX, Identifier, Instant
from tillstream.schemas.member_state import Takeover
from tillstream.schemas.members import (
    ConsentChanged,
    Enrolled,
    Erased,
    HouseholdChanged,
    IdentityAdded,
    Merged,
    SegmentsChanged,
    Tick,
    Unmerged,
)
from tillstream.schemas.receipts import Return, Sale, Tender, Void
from tillstream.schemas.spending import Adjust, Hold, Redeem, Release, Transfer, Transferred

EVENT_BYTES_MAX = 1_000_000
"""Larger events are malformed: the longest lawful receipt (5,000 lines) stays below, and Kafka's own default limit is 1 MiB."""

ROUTED_BYTES_MAX = 8 * 1024 * 1024
"""What an event may have on our own topics, with what was put in front of it there."""

YEARS = range(1970, 2200)
"""Dates outside are a broken clock; inside, no date arithmetic of a program can overflow."""


ActivityType = Annotated[str, Meta(pattern=r"^activity\.[a-z0-9_.]+$", max_length=128)]


class Envelope(Struct, frozen=True, kw_only=True, gc=False, tag_field="type"):
    """The attributes of a CloudEvent; `source` and `id` together are unique.

    Two are our own extension attributes, which nobody else may bring: `identify` adds `accountid` (null marks an anonymous receipt);
    `recalled` holds what history has of the sale, ledger records one a line, once it was asked. `replyto` asks for a reply, and names who
    listens for it (schemas/replies.py).
    """

    specversion: Literal["1.0"]
    id: Identifier
    source: Identifier
    time: Instant
    accountid: str | UnsetType | None = UNSET
    recalled: str | None = None
    replyto: Identifier | None = None


class SaleEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="receipt.sale"):
    data: Sale


class ReturnEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="receipt.return"):
    data: Return


class VoidEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="receipt.void"):
    data: Void


class EnrolledEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="member.enrolled"):
    """`personid` and `enrolledbefore` are our own attributes as well: who it is, after merges, and whether they had enrolled before."""

    personid: str | None = None
    enrolledbefore: bool = False
    data: Enrolled


class IdentityAddedEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="member.identity_added"):
    data: IdentityAdded


class MergedEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="member.merged"):
    data: Merged


class UnmergedEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="member.unmerged"):
    data: Unmerged


class HouseholdEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="member.household_changed"):
    data: HouseholdChanged


class ConsentEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="member.consent_changed"):
    data: ConsentChanged


class SegmentsEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="member.segments_changed"):
    """`personid` as in `EnrolledEvent`."""

    personid: str | None = None
    data: SegmentsChanged


class ErasedEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="member.erased"):
    data: Erased


class HoldEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="points.hold"):
    data: Hold


class ReleaseEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="points.release"):
    data: Release


class RedeemEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="points.redeem"):
    data: Redeem


class AdjustEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="points.adjust"):
    data: Adjust


class TransferEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="points.transfer"):
    """`toaccountid` is our own attribute as well: the receiver's account, null where the members are not of one household."""

    data: Transfer
    toaccountid: str | UnsetType | None = UNSET


class TransferredEvent(Envelope, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="points.transferred"):
    """What follows from a transfer, on its way to the receiver's account; nobody outside may send it."""

    data: Transferred


class TakeoverEvent(Envelope, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag="account.takeover"):
    """What follows from a merge, and from what happens to a merged account, on its way to the other one; nobody outside may send it."""

    data: Takeover


class TickEvent(Envelope, frozen=True, kw_only=True, gc=False, tag="clock.tick"):
    data: Tick


ReceiptEvent = SaleEvent | ReturnEvent | VoidEvent
ProfileEvent = EnrolledEvent | SegmentsEvent
"""Member events that say something which rules look at: they go on to the member's account."""

MemberEvent = ProfileEvent | IdentityAddedEvent | MergedEvent | UnmergedEvent | HouseholdEvent | ConsentEvent | ErasedEvent
SpendingEvent = HoldEvent | ReleaseEvent | RedeemEvent | AdjustEvent | TransferEvent | TransferredEvent
TypedEvent = ReceiptEvent | MemberEvent | SpendingEvent | TakeoverEvent | TickEvent
"""Events whose `type` is one of a fixed set; `ActivityEvent` has a type of its own making."""


class ActivityEvent(Struct, frozen=True, kw_only=True, gc=False):
    """`activity.<name>`: one type for all of them; what else `data` holds, `free_fields` gives."""

    specversion: Literal["1.0"]
    id: Identifier
    source: Identifier
    time: Instant
    type: ActivityType
    data: Activity
    accountid: str | UnsetType | None = UNSET
    recalled: str | None = None
    replyto: Identifier | None = None


Event = TypedEvent | ActivityEvent
MergeEvent = MergedEvent | UnmergedEvent
AccountEvent = ReceiptEvent | SpendingEvent | ActivityEvent | ProfileEvent | MergeEvent | TakeoverEvent
"""Events that may change what an account holds, or what its member is."""


class _FreeFields(Struct, frozen=True):
    data: dict[str, object]


class Malformed(Exception):
    """An event that can't be taken: `code` names the kind of fault, `path` the field, the message says what is wrong with it."""

    def __init__(self, code: str, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.code = code
        self.path = path
        self.message = message


T = TypeVar("T")

_decoder = msgspec.json.Decoder(TypedEvent)
_activity = msgspec.json.Decoder(ActivityEvent)
_free_fields = msgspec.json.Decoder(_FreeFields)


def read(reader: Callable[[bytes], T], raw: bytes) -> T:
    """What `reader`, a decoder of msgspec, makes of JSON.

    Raises:
        Malformed: it is no JSON in UTF-8, or not of the type; `path` is as precise as the fault allows, `$` for the whole.
    """
    try:
        if not raw.isascii():
            raw.decode()  # The decoder passes over unknown fields without looking at their encoding.
        return reader(raw)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("not_json", "$", str(error)) from None


def decode(raw: bytes, bytes_max: int = EVENT_BYTES_MAX) -> Event:
    """The typed event in `raw`, which may have `bytes_max` bytes.

    Raises:
        Malformed: the bytes are no event of ours; `path` is as precise as the fault allows, `$` for the whole.

    >>> decode(b'{"specversion": "1.0"}')
    Traceback (most recent call last):
    ...
    tillstream.schemas.events.Malformed: $: Object missing required field `type`
    """
    if len(raw) > bytes_max:
        raise Malformed("too_large", "$", f"{len(raw)} bytes, at most {bytes_max} are allowed")
    event = read(typed, raw)
    check_year("$.time", event.time)
    if isinstance(event, SaleEvent | ReturnEvent):
        check_receipt(event.data)
    elif isinstance(event, TickEvent):
        check_year("$.data.date", event.data.date)
    elif isinstance(event, HoldEvent):
        check_year("$.data.expires_at", event.data.expires_at)
    elif isinstance(event, AdjustEvent) and event.data.expires_on is not None:
        check_year("$.data.expires_on", event.data.expires_on)
    return event


def decode_from_outside(raw: bytes) -> Event:
    """`decode`, for events that a till or a shop sent: they may bring none of our own attributes, nor events that are ours to send.

    Raises:
        Malformed: as `decode`, or the event is not theirs.
    """
    event = decode(raw)
    if isinstance(event, TransferredEvent):
        raise Malformed("invalid", "$.type", "points.transferred follows from points.transfer; events from outside can't be it")
    if isinstance(event, TakeoverEvent):
        raise Malformed("invalid", "$.type", "account.takeover follows from member.merged; events from outside can't be it")
    own = {
        "accountid": event.accountid is not UNSET,
        "recalled": event.recalled is not None,
        "personid": isinstance(event, ProfileEvent) and event.personid is not None,
        "enrolledbefore": isinstance(event, EnrolledEvent) and event.enrolledbefore,
        "toaccountid": isinstance(event, TransferEvent) and event.toaccountid is not UNSET,
    }
    for attribute, given in own.items():
        if given:
            raise Malformed("invalid", f"$.{attribute}", "is set by tillstream; events from outside can't bring it")
    return event


def typed(raw: bytes) -> Event:
    """The event in bytes that `decode` has checked before.

    By the fixed types first: almost every event is a receipt. An activity is told by the type that they do not know.
    """
    try:
        event: Event = _decoder.decode(raw)
    except msgspec.ValidationError as error:
        if not str(error).startswith("Invalid value 'activity."):
            raise
        event = _activity.decode(raw)
    return event


def free_fields(raw: bytes) -> dict[str, object]:
    """What the data of an activity says beyond its known fields.

    >>> free_fields(b'{"data": {"member": {"scheme": "member", "value": "m1"}, "stars": 5}}')
    {'stars': 5}
    """
    return {name: value for name, value in _free_fields.decode(raw).data.items() if name not in Activity.__struct_fields__}


def invalid(error: msgspec.ValidationError) -> Malformed:
    """msgspec puts the path last; what comes before may quote the event, also something that looks like a path."""
    message, found, path = str(error).rpartition(" - at `")
    return Malformed("invalid", path.rstrip("`"), message) if found else Malformed("invalid", "$", path)


def wrong_year(path: str, moment: date) -> Malformed:
    return Malformed("invalid", path, f"the year {moment.year} is not in {YEARS.start}-{YEARS.stop - 1}")


def check_year(path: str, moment: date) -> None:
    """Raises Malformed where a date is out of bounds."""
    if moment.year not in YEARS:
        raise wrong_year(path, moment)


def check_receipt(receipt: Sale | Return) -> None:
    """What the types alone cannot say: distinct line numbers, sums within 64 bits, tenders within the total, a sane clock.

    Raises:
        Malformed: naming the first field that is wrong.
    """
    lines = receipt.lines
    if len({line.line_no for line in lines}) != len(lines):
        raise _repeated_line(receipt)
    check_year("$.data.issued_at", receipt.issued_at)
    check_year("$.data.business_date", receipt.business_date)
    if receipt.tenders:
        check_points_tenders(receipt.tenders, sum([line.amount for line in lines]))


def check_points_tenders(tenders: Sequence[Tender], total: int) -> None:
    """A points tender above the sum of the lines' `amount` is malformed (DESIGN.md §5)."""
    paid = sum(tender.amount for tender in tenders if tender.type == "points")
    if paid > INT64_MAX:
        raise Malformed("overflow", "$.data.tenders", f"points tenders of {paid} do not fit 64 bits")
    if paid > total:
        raise Malformed("invalid", "$.data.tenders", f"points tenders of {paid} pay more than the lines' {total}")


def _repeated_line(receipt: Sale | Return) -> Malformed:
    numbers = [line.line_no for line in receipt.lines]
    first: dict[int, int] = {}
    index = next(index for index, number in enumerate(numbers) if first.setdefault(number, index) != index)
    return Malformed("invalid", f"$.data.lines[{index}].line_no", f"line_no {numbers[index]} occurs twice")


def instant_text(moment: datetime) -> str:
    """RFC 3339 in UTC, as our own events carry it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
