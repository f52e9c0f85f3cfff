"""What a worker answers to the gateway that sent an event: what became of it, as soon as the ledger has it and Redis shows it.

An event asks for it by the attribute `replyto`: the gateway's own name, a point, and what it tells its requests by. Whoever listens under
that name gets the reply; nobody has to.
"""

from typing import Literal

import msgspec
from msgspec import Raw, Struct

from tillstream.schemas.events import Malformed

ReplyStatus = Literal["accepted", "duplicate", "waiting", "refused"]


NOTHING = Raw(b"null")


class Reply(Struct, frozen=True, omit_defaults=True):
    """One event's outcome.

    `key` is its natural key; `record` the ledger record of its posting, also where it had come before, or null; `code`, `path` and
    `message` say why it was refused, as in its dead letter.
    """

    to: str
    status: ReplyStatus
    key: str = ""
    record: Raw = NOTHING
    code: str = ""
    path: str = ""
    message: str = ""

    @property
    def problem(self) -> Malformed | None:
        """Why it was refused; None: it was not."""
        return Malformed(self.code, self.path, self.message) if self.code else None


class _Asking(Struct, frozen=True):
    replyto: str


_decoder = msgspec.json.Decoder(list[Reply])
_asking = msgspec.json.Decoder(_Asking)
_encode = msgspec.json.Encoder().encode


def refused(to: str, key: str, problem: Malformed) -> Reply:
    """The reply to an event that was not taken."""
    return Reply(to, "refused", key, code=problem.code, path=problem.path, message=problem.message)


def listener(to: str) -> str:
    """The name of the gateway in a `replyto`.

    >>> listener("6f1c.17")
    '6f1c'
    """
    return to.partition(".")[0]


def reply_to_in(raw: bytes) -> str | None:
    """The `replyto` of a record that is no event of ours; None: it has none."""
    try:
        return _asking.decode(raw).replyto
    except (msgspec.DecodeError, RecursionError):
        return None


def encode_replies(replies: list[Reply]) -> bytes:
    """One message."""
    return _encode(replies)


def decode_replies(raw: bytes) -> list[Reply]:
    """What one message holds."""
    return _decoder.decode(raw)
