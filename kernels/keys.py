"""The natural key of a receipt and the digest of what it says: what makes a receipt count once, for ever (DESIGN.md §3, G2)."""

from datetime import datetime
from hashlib import sha256

import msgspec

from tillstream.schemas.events import ReceiptEvent, ReturnEvent, SaleEvent, VoidEvent

_encode = msgspec.json.Encoder().encode

# Copying a prepared hash costs a quarter of making one; and processors do SHA-256 in hardware.
_KEY = sha256(b"receipt\0")
_DIGESTS = {kind: sha256(kind.__name__.encode() + b"\0") for kind in (SaleEvent, ReturnEvent, VoidEvent)}
DIGITS = 32
"""Of SHA-256, in hexadecimal: 128 bits, so that a trillion receipts have no two of a key."""


def natural_key(source: str, receipt_id: str, *, void: bool = False) -> str:
    """32 hexadecimal digits for (source, receipt_id); a void, which has no id of its own, is told from the sale that it names."""
    key = _KEY.copy()
    key.update(_encode((source, receipt_id, void)))
    return key.hexdigest()[:DIGITS]


def key_of(event: ReceiptEvent) -> str:
    """The natural key of a receipt's event."""
    return natural_key(event.source, event.data.receipt_id, void=isinstance(event, VoidEvent))


def sale_key_of(event: ReceiptEvent) -> str:
    """The natural key of the sale that an event is about: its own, or the one that it returns or voids."""
    if isinstance(event, ReturnEvent):
        return natural_key(event.data.original_source or event.source, event.data.original_receipt_id)
    return natural_key(event.source, event.data.receipt_id)


def digest_of(event: ReceiptEvent) -> str:
    """A hash of what the event says: its type and the known fields of `data`; layout, key order and unknown fields do not count."""
    digest = _DIGESTS[type(event)].copy()
    digest.update(_encode(event.data))
    return digest.hexdigest()[:DIGITS]


def occurred(event: ReceiptEvent) -> datetime:
    """When it happened; a void has no `issued_at`, its envelope's time serves."""
    return event.time if isinstance(event, VoidEvent) else event.data.issued_at
