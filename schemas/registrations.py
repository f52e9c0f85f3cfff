"""What the topic `members` holds of a member in the end: all that is known of it in one record, keyed by its id.

It takes the place of the member's earlier records when the broker compacts the topic: the events as they were sent, with the card numbers
in them, go; what they said stays, and of an erased member next to nothing.
"""

import msgspec
from msgspec import Struct

TYPE = "member.known"
PREFIX = f'{{"type":"{TYPE}"'.encode()


class Known(Struct, frozen=True):
    """The data of `member.known`: facts, one a line (kernels/facts.py)."""

    member_id: str
    facts: list[str]


class KnownRecord(Struct, frozen=True, kw_only=True, tag_field="type", tag=TYPE):
    """The envelope; its id is the member's latest fact."""

    specversion: str = "1.0"
    id: str
    source: str = "tillstream/enrol"
    data: Known


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(KnownRecord)


def encode_known(known: Known) -> bytes:
    """The record's bytes."""
    return _encoder.encode(KnownRecord(id=f"{known.member_id}/{known.facts[-1].split(' ')[1]}", data=known))


def decode_known(raw: bytes) -> Known | None:
    """What a record holds; None: it is no such record but an event."""
    return _decoder.decode(raw).data if raw.startswith(PREFIX) else None
