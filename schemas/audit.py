"""What the topic `audit` carries: `audit.action`, who changed what, about whom, and what came of it. No card, phone or address is in it."""

from typing import Literal

import msgspec
from msgspec import Struct

from tillstream.schemas.events import instant_text
from tillstream.schemas.fields import Identifier, Instant, Label

COMMAND_LINE = "command line"
"""The name of who has no key: somebody with a shell and the servers' addresses."""


class Action(Struct, frozen=True, kw_only=True):
    """The data of `audit.action`.

    Attributes:
        action: the route's name, or the command's: `enrol`, `keys create`.
        key_id: of the key that asked; None: `name` says who did.
        about: member ids, key ids, program ids; of an identity its scheme and keyed hash.
        outcome: `done`; `accepted`, its answer came later; `refused`, nothing changed; `failed`, an error of ours or a server away.
        status: HTTP's; None where it was no request.
    """

    action: Identifier
    key_id: str | None
    name: Label
    about: list[str]
    outcome: Literal["done", "accepted", "refused", "failed"]
    status: int | None = None
    request_id: str | None = None
    at: Instant


class ActionRecord(Struct, frozen=True, kw_only=True, tag_field="type", tag="audit.action"):
    """The envelope."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str = "tillstream/audit"
    time: str
    data: Action


_decoder = msgspec.json.Decoder(ActionRecord)


def encode_action(record_id: str, data: Action) -> bytes:
    """The record's bytes; `record_id` tells it from all others."""
    return msgspec.json.encode(ActionRecord(id=record_id, time=instant_text(data.at), data=data))


def decode_action(raw: bytes) -> Action:
    """What a record of the topic says.

    Raises:
        msgspec.DecodeError: it is no `audit.action`.
    """
    record: ActionRecord = _decoder.decode(raw)
    return record.data


def outcome_of(status: int) -> Literal["done", "accepted", "refused", "failed"]:
    """What an HTTP status says of an action.

    >>> [outcome_of(status) for status in (200, 202, 409, 503)]
    ['done', 'accepted', 'refused', 'failed']
    """
    if status >= 500:
        return "failed"
    if status >= 400:
        return "refused"
    return "accepted" if status == 202 else "done"
