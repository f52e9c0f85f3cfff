"""Events without personal values: each identity in them is replaced by its keyed hash before anything of ours stores it (DESIGN.md §4).

Natural keys name no identity and stay. Digests are of what is stored, so the same data gives the same digest however often it comes, and
a digest tells nothing of a card number that the hash beside it does not. Sealing what is sealed changes nothing: what is sent again from
`deadletter`, or has waited on a topic of ours, comes out as it was.
"""

from typing import TypeVar

import msgspec
from msgspec import Raw

from tillstream.kernels.identities import Seal
from tillstream.schemas.clickstream import ClickEvent
from tillstream.schemas.events import Event

E = TypeVar("E", bound=Event | ClickEvent)

PERSONAL = ("member", "to", "identity", "identities")
"""Fields of `data` that hold identities."""

_fields = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def seal_event(event: E, raw: bytes, seal: Seal) -> tuple[E, bytes]:
    """The event and its bytes, sealed; all other fields, also unknown ones, as they were."""
    there = {name: value for name in PERSONAL if (value := getattr(event.data, name, None)) is not None}
    sealed = {
        name: [seal.sealed(item) for item in value] if isinstance(value, list) else seal.sealed(value) for name, value in there.items()
    }
    if sealed == there:
        return event, raw
    envelope = _fields.decode(raw)
    data = _fields.decode(envelope["data"])
    data.update((name, Raw(_encode(value))) for name, value in sealed.items())
    envelope["data"] = Raw(_encode(data))
    return msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, **sealed)), _encode(envelope)
