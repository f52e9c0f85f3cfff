"""Dead letters: what could not be taken, with its bytes, where it came from, and why."""

from base64 import b64encode
from datetime import datetime

import msgspec
from msgspec import Struct

from tillstream.schemas.events import Malformed


class DeadLetter(Struct, frozen=True):
    """The data of `deadletter.refused`: `code`, `path` and `message` of the fault, the record's place, and its bytes in base64."""

    code: str
    path: str
    message: str
    topic: str
    partition: int
    offset: int
    event_base64: str


class DeadLetterRecord(Struct, frozen=True, kw_only=True, tag_field="type", tag="deadletter.refused"):
    """The envelope; its id is the place of the refused record, so a repeated refusal can be told."""

    specversion: str = "1.0"
    id: str
    source: str = "tillstream/deadletter"
    time: datetime
    data: DeadLetter


_encoder = msgspec.json.Encoder()


def encode_deadletter(problem: Malformed, raw: bytes, place: tuple[str, int, int], time: datetime, part: str = "") -> bytes:
    """The dead letter for the record `raw` at `place` (topic, partition, offset), which arrived at `time`; of one `part` of it, where
    others may do better: the endpoint of a delivery.
    """
    topic, partition, offset = place
    letter = DeadLetter(problem.code, problem.path, problem.message, topic, partition, offset, b64encode(raw).decode())
    return _encoder.encode(DeadLetterRecord(id=f"{topic}/{partition}/{offset}" + (part and f"/{part}"), time=time, data=letter))
