"""The natural key of an event and the digest of what it says: what makes it count once, for ever (DESIGN.md §3, G2)."""

from datetime import datetime
from hashlib import sha256
from typing import get_args

import msgspec

from tillstream.schemas.events import (
    AccountEvent,
    ActivityEvent,
    MemberEvent,
    ReceiptEvent,
    ReturnEvent,
    SaleEvent,
    VoidEvent,
    free_fields,
)

_encode = msgspec.json.Encoder().encode

# Copying a prepared hash costs a quarter of making one; and processors do SHA-256 in hardware.
_KEY = sha256(b"receipt\0")
_DIGESTS = {kind: sha256(kind.__name__.encode() + b"\0") for kind in get_args(AccountEvent | MemberEvent)}
_RECEIPTS = get_args(ReceiptEvent)
_OWN_IDS = {
    "points.hold": "hold_id",
    "points.release": "hold_id",
    "points.redeem": "redemption_id",
    "points.adjust": "adjustment_id",
    "points.transfer": "transfer_id",
    "points.transferred": "transfer_id",
}
"""Types whose events are known by a field of their data; all others but receipts are known by the envelope's `id`."""

DIGITS = 32
"""Of SHA-256, in hexadecimal: 128 bits, so that a trillion receipts have no two of a key."""


def natural_key(source: str, receipt_id: str, *, void: bool = False) -> str:
    """32 hexadecimal digits for (source, receipt_id); a void, which has no id of its own, is told from the sale that it names."""
    key = _KEY.copy()
    key.update(_encode((source, receipt_id, void)))
    return key.hexdigest()[:DIGITS]


def key_of(event: AccountEvent | MemberEvent) -> str:
    """The natural key of an event: of receipts (source, receipt_id), of others their type, source and id."""
    if isinstance(event, _RECEIPTS):
        return natural_key(event.source, event.data.receipt_id, void=isinstance(event, VoidEvent))
    kind = type_of(event)
    field = _OWN_IDS.get(kind)
    key = sha256(b"event\0")
    key.update(_encode((kind, event.source, event.id if field is None else getattr(event.data, field))))
    return key.hexdigest()[:DIGITS]


def type_of(event: AccountEvent | MemberEvent) -> str:
    """The CloudEvents `type`."""
    return event.type if isinstance(event, ActivityEvent) else str(event.__struct_config__.tag)


def sale_key_of(event: AccountEvent) -> str:
    """The natural key of the sale that an event is about: its own, or the one that it returns or voids; no receipt: its own key."""
    if isinstance(event, ReturnEvent):
        return natural_key(event.data.original_source or event.source, event.data.original_receipt_id)
    return natural_key(event.source, event.data.receipt_id) if isinstance(event, _RECEIPTS) else key_of(event)


def digest_of(event: AccountEvent | MemberEvent, raw: bytes = b"") -> str:
    """A hash of what the event says: its type and the known fields of `data`; layout, key order and unknown fields do not count.

    The free fields of an activity are known ones: they are taken from `raw`, its bytes.
    """
    digest = _DIGESTS[type(event)].copy()
    digest.update(_encode(event.data))
    if isinstance(event, ActivityEvent):
        digest.update(msgspec.json.encode((event.type, free_fields(raw)), order="sorted"))
    return digest.hexdigest()[:DIGITS]


def occurred(event: AccountEvent | MemberEvent) -> datetime:
    """When it happened: a sale or return when it was issued, everything else at the envelope's time."""
    return event.data.issued_at if isinstance(event, SaleEvent | ReturnEvent) else event.time
