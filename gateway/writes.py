"""What callers do besides receipts: points set aside, spent and moved; activities; members. Each is one event, sent as sending.py says."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from tillstream.gateway.composing import Says, composed
from tillstream.gateway.routes import Answer, Call
from tillstream.gateway.sending import idempotency_key, send
from tillstream.kernels.facts import EPOCH, INSTANT_DIGITS, subject_of
from tillstream.kernels.keys import key_of
from tillstream.schemas.events import Malformed, MemberEvent, instant_text

NOBODY = "-"
"""Of an event that is composed to be looked at only."""

Handler = Callable[[Call], Awaitable[Answer]]


def sends(kind: str, **data: str) -> Handler:
    """A handler that sends an event of type `kind`; `data`: fields of its data, and the parameters of the path that they are."""

    async def handler(call: Call) -> Answer:
        return await send(call, Says((kind,), data={field: call.path(name) for field, name in data.items()}))

    return handler


def registers(kind: str, **data: str) -> Handler:
    """The same for member events, which are known by their `id` and ordered by when they happened.

    Sent again under the same Idempotency-Key without a `time`, it happened when it happened first.
    """

    async def handler(call: Call) -> Answer:
        says = Says((kind,), data={field: call.path(name) for field, name in data.items()})
        return await send(call, says._replace(time=await first_time(call, says)))

    return handler


async def first_time(call: Call, says: Says) -> str:
    """When an event that was sent under the same key before happened, '' where it is new."""
    key = idempotency_key(call)
    try:
        event = composed(call.body, says._replace(idempotency_key=key), NOBODY).event if key else None
    except Malformed:
        return ""  # Sending it will say so.
    if not isinstance(event, MemberEvent):
        return ""
    member, natural_key = subject_of(event), key_of(event)
    facts = (await call.gateway.registry.facts("members", [member])).get(member, [])
    known = [fact.order for fact in facts if fact.key == natural_key]
    return instant_text(EPOCH + timedelta(microseconds=int(known[0][:INSTANT_DIGITS]))) if known else ""
