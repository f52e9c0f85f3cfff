"""What the topic `programs` carries: `program.published`, one CloudEvent per version of a program, its TOML text in full."""

from datetime import date, datetime
from typing import Literal

import msgspec
from msgspec import Struct

from tillstream.schemas.events import instant_text
from tillstream.schemas.fields import Identifier, Instant
from tillstream.schemas.program_file import Versioned


class Published(Struct, frozen=True, kw_only=True):
    """The data of `program.published`; what `text` says of itself stands beside it for whoever does not read TOML."""

    program_id: Identifier
    version: Identifier
    effective_from: date | None
    published_at: Instant
    text: str


class PublishedRecord(Struct, frozen=True, kw_only=True, tag_field="type", tag="program.published"):
    """The envelope; `time` is when it was published."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str = "tillstream/programs"
    time: str
    data: Published


_decoder = msgspec.json.Decoder(PublishedRecord)


def published(version: Versioned, text: str, moment: datetime) -> Published:
    """`version`, parsed from `text`, as it is published at `moment`."""
    head = version.program.program
    return Published(program_id=head.id, version=version.version, effective_from=head.effective_from, published_at=moment, text=text)


def key_of(data: Published) -> str:
    """The record's key: a version published again replaces itself."""
    return f"{data.program_id}/{data.version}"


def encode_published(data: Published) -> bytes:
    """The record's bytes."""
    return msgspec.json.encode(PublishedRecord(id=key_of(data), time=instant_text(data.published_at), data=data))


def decode_published(raw: bytes) -> Published:
    """What a record of the topic says.

    Raises:
        msgspec.DecodeError: it is no `program.published`.
    """
    record: PublishedRecord = _decoder.decode(raw)
    return record.data
