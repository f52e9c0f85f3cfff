"""How far the delivery of a trigger is: records of the topic `deliveries`, one whole standing each; the last of a decision counts.

A record stands in the partition number of its trigger. While an endpoint is waiting, it has the trigger's bytes, so that nothing else need
be read to go on.
"""

from base64 import b64decode, b64encode
from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from tillstream.schemas.fields import Identifier, Instant

State = Literal["waiting", "delivered", "expired", "withdrawn", "dead"]
"""`withdrawn`: the member was erased, or agreed no more, before it was delivered."""


class Parcel(Struct, kw_only=True, omit_defaults=True):
    """One endpoint's part: `attempts` made, `next_at` the instant of the next one, `reason` why the last one failed."""

    state: State = "waiting"
    attempts: int = 0
    next_at: Instant | None = None
    reason: str = ""


class Delivery(Struct, kw_only=True, omit_defaults=True):
    """The data of `delivery.noted`; `offset` is the trigger's."""

    decision_id: Identifier
    offset: int
    parcels: dict[str, Parcel]
    trigger_base64: str = ""

    @property
    def trigger(self) -> bytes:
        """The trigger's bytes; none where nothing waits any more."""
        return b64decode(self.trigger_base64)

    @property
    def waits(self) -> bool:
        """Whether an endpoint is waiting."""
        return any(parcel.state == "waiting" for parcel in self.parcels.values())


class Noted(Struct, kw_only=True, tag_field="type", tag="delivery.noted"):
    """The envelope."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str = "tillstream/deliveries"
    time: datetime
    data: Delivery


_decoder = msgspec.json.Decoder(Noted)


def new_delivery(decision_id: str, offset: int, endpoints: list[str], raw: bytes) -> Delivery:
    """The standing of a trigger that nothing was tried of."""
    parcels = {name: Parcel() for name in endpoints}
    return Delivery(decision_id=decision_id, offset=offset, parcels=parcels, trigger_base64=b64encode(raw).decode())


def encode_delivery(delivery: Delivery, moment: datetime) -> bytes:
    """The record's bytes at `moment`; without the trigger where nothing waits any more."""
    kept = delivery if delivery.waits else msgspec.structs.replace(delivery, trigger_base64="")
    steps = sum(parcel.attempts for parcel in delivery.parcels.values())
    return msgspec.json.encode(Noted(id=f"{delivery.decision_id}/{steps}", time=moment, data=kept))


def decode_delivery(raw: bytes) -> Delivery:
    """What a record says; raises msgspec.DecodeError where it is none."""
    return _decoder.decode(raw).data
