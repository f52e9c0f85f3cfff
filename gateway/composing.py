"""A caller's body becomes the event that a till would have sent: what may be left out is filled in, everything else stays as it came."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from tillstream.kernels.facts import subject_of
from tillstream.kernels.keys import key_of
from tillstream.schemas.events import (
    AccountEvent,
    Malformed,
    MemberEvent,
    decode_from_outside,
    instant_text,
    read,
)
from tillstream.sinks.writer import Record
from tillstream.streams.topics import MEMBERS, RECEIPTS

IDENTIFIER_MAX = 256

TILLS = "tills/"
"""What the sources of tills begin with; their store follows."""

OURS = "gateway"
"""The source of what no store is known to have sent; ids of holds, rewards and the like are then told apart over all callers."""

ISSUED = ("receipt.sale", "receipt.return")
"""Types whose data says when they happened."""

_fields = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


class Composed(NamedTuple):
    """An event, lawful and whole, and the record that it is sent as."""

    event: AccountEvent | MemberEvent
    record: Record

    @property
    def key(self) -> str:
        """Its natural key."""
        return key_of(self.event)




class _Header(Struct, frozen=True):
    store_id: str = ""
    issued_at: str = ""


class Says(NamedTuple):
    """What address and headers say of an event: of which `types` it may be, one that ends in a point meaning all that begin so; its `id`;
    when it happened, where the body does not say; fields of its data.
    """

    types: tuple[str, ...]
    idempotency_key: str = ""
    time: str = ""
    data: Mapping[str, str] = {}


def fields_of(body: bytes) -> dict[str, Raw]:
    """The fields of a body that is to be an event.

    Raises:
        Malformed: it is no JSON object.
    """
    return read(_fields.decode, body or b"{}")


def composed(body: bytes, says: Says, reply_to: str) -> Composed:
    """The event that a body says.

    Raises:
        Malformed: it is none; names the field by its path in the body.
    """
    fields = {name: value for name, value in fields_of(body).items() if name == "data" or bytes(value) != b"null"}
    kind = type_in(fields, says)
    data = _fields_in(fields.get("data")) if says.data else None
    if data is not None:
        data.update((name, Raw(_encode(value))) for name, value in says.data.items())
        fields["data"] = Raw(_encode(data))
    header = header_in(fields.get("data"))
    whole = {
        "specversion": Raw(b'"1.0"'),
        "id": text(says.idempotency_key or secrets.token_hex(16)),
        "source": fields.get("source") or text(source_of(kind, header)),
        "time": text(header.issued_at if kind in ISSUED and header.issued_at else says.time or instant_text(datetime.now(UTC))),
        **fields,
        "type": text(kind),
        "replyto": text(reply_to),
    }
    raw = _encode(whole)
    try:
        event = decode_from_outside(raw)
    except Malformed as problem:
        if problem.path == "$.time" and "time" not in fields:  # It is the one of the data.
            raise Malformed(problem.code, "$.data.issued_at", problem.message) from None
        raise
    if isinstance(event, MemberEvent):
        return Composed(event, Record(MEMBERS, subject_of(event).encode(), raw))
    return Composed(event, Record(RECEIPTS, event.source.encode(), raw))  # type: ignore[arg-type]


def type_in(fields: Mapping[str, Raw], says: Says) -> str:
    """The type of the event.

    Raises:
        Malformed: it is missing, or does not belong here.
    """
    wanted = ", ".join(says.types)
    if "type" not in fields:
        if len(says.types) == 1 and not says.types[0].endswith("."):
            return says.types[0]
        raise Malformed("invalid", "$", f"Object missing required field `type`: {wanted}")
    try:
        kind = msgspec.json.decode(fields["type"], type=str)
    except msgspec.ValidationError as error:
        raise Malformed("invalid", "$.type", str(error)) from None
    if kind not in says.types and not any(prefix.endswith(".") and kind.startswith(prefix) for prefix in says.types):
        raise Malformed("invalid", "$.type", f"{kind!r} does not belong here: {wanted}")
    return kind


def source_of(kind: str, header: _Header) -> str:
    """Who sent it, where the body does not say.

    Raises:
        Malformed: nobody can tell.
    """
    if header.store_id:
        return f"{TILLS}{header.store_id}"[:IDENTIFIER_MAX]
    if kind == "receipt.void":
        raise Malformed("invalid", "$.source", "is missing: a void names the source of its sale, or its `data` has the `store_id`")
    return OURS


def header_in(data: Raw | None) -> _Header:
    """What of the data is needed before all of it is checked; nothing where it is not as it should be."""
    try:
        return _Header() if data is None else msgspec.json.decode(data, type=_Header)
    except (msgspec.DecodeError, RecursionError):
        return _Header()


def _fields_in(data: Raw | None) -> dict[str, Raw] | None:
    """The fields of the data; None where it is no object, which checking will tell."""
    try:
        return {} if data is None else _fields.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None


def text(value: str) -> Raw:
    return Raw(_encode(value))
