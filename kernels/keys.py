"""The natural key of a receipt and the digest of what it says: what makes a receipt count once, for ever (DESIGN.md §3, G2)."""

from datetime import datetime
from hashlib import blake2b

import msgspec

from tillstream.schemas.events import ReceiptEvent, ReturnEvent, VoidEvent

_encoder = msgspec.json.Encoder()


def natural_key(source: str, receipt_id: str, *, void: bool = False) -> str:
    """32 hexadecimal digits for (source, receipt_id); a void, which has no id of its own, is told from the sale that it names."""
    return blake2b(_encoder.encode((source, receipt_id, void)), digest_size=16).hexdigest()


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
    return blake2b(_encoder.encode(event.data), digest_size=16, person=type(event).__name__.encode()).hexdigest()


def occurred(event: ReceiptEvent) -> datetime:
    """When it happened; a void has no `issued_at`, its envelope's time serves."""
    return event.time if isinstance(event, VoidEvent) else event.data.issued_at
