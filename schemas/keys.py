"""What the topic `keys` carries: `key.created` and `key.revoked`, CloudEvents whose record key is the key's id. No secret is in them."""

from datetime import datetime
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from tillstream.schemas.events import instant_text
from tillstream.schemas.fields import Identifier, Instant, Label

Scope = Literal["till", "read", "clicks", "campaigns", "members", "admin"]
"""What a key may do: what a till does, in its stores; look up; send page views, from pages; publish programs; enrol and change members;
everything.
"""

SCOPES: tuple[Scope, ...] = get_args(Scope)

KeyId = Annotated[str, Meta(pattern="^[0-9a-f]{16}$", max_length=16)]


class Key(Struct, frozen=True, kw_only=True):
    """What a key is.

    Attributes:
        stores: whose receipts a key of scope `till` may post; empty for the others.
        signed: whether requests come signed by the secret instead of bringing it.
    """

    key_id: KeyId
    name: Label
    scope: Scope
    stores: list[Identifier] = []
    signed: bool = False
    created_at: Instant
    expires_at: Instant | None = None


class Created(Key, frozen=True, kw_only=True):
    """A key; `kept` is what its secret is checked by: its SHA-256; of a signed key the secret itself, encrypted (gateway/vault.py)."""

    kept: str


class Revoked(Key, frozen=True, kw_only=True):
    """A key that is good for nothing any more: what it was, without what its secret was checked by."""

    revoked_at: Instant


class Record(Struct, frozen=True, kw_only=True, tag_field="type"):
    """The envelope."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str = "tillstream/keys"
    time: str


class CreatedRecord(Record, frozen=True, kw_only=True, tag="key.created"):
    data: Created


class RevokedRecord(Record, frozen=True, kw_only=True, tag="key.revoked"):
    data: Revoked


_decoder = msgspec.json.Decoder(CreatedRecord | RevokedRecord)


def revoked(key: Created, moment: datetime) -> Revoked:
    """The key as it stands once it is revoked."""
    return Revoked(**{name: getattr(key, name) for name in Key.__struct_fields__}, revoked_at=moment)


def encode_key(data: Created | Revoked) -> bytes:
    """The record's bytes."""
    if isinstance(data, Created):
        return msgspec.json.encode(CreatedRecord(id=f"{data.key_id}/created", time=instant_text(data.created_at), data=data))
    return msgspec.json.encode(RevokedRecord(id=f"{data.key_id}/revoked", time=instant_text(data.revoked_at), data=data))


def decode_key(raw: bytes) -> Created | Revoked:
    """What a record of the topic says.

    Raises:
        msgspec.DecodeError: it is neither of the two.
    """
    record: CreatedRecord | RevokedRecord = _decoder.decode(raw)
    return record.data
