"""`/v1/receipts`: sales, returns and voids, one or many, and what became of one."""

import asyncio

import msgspec

from tillstream.gateway.answers import Outcome, Outcomes
from tillstream.gateway.bodies import BatchBody, decoded
from tillstream.gateway.composing import Composed, Says, composed
from tillstream.gateway.outcomes import kept, outcome_of
from tillstream.gateway.permits import check_event, check_source
from tillstream.gateway.problems import Refusal, problem, problem_of, refusal
from tillstream.gateway.routes import Answer, Call
from tillstream.gateway.runtime import Gateway
from tillstream.gateway.sending import send, status_address, submit, wait_s
from tillstream.kernels.keys import natural_key
from tillstream.schemas.events import Malformed
from tillstream.schemas.keys import Created
from tillstream.schemas.replies import Reply

RECEIPTS = Says(("receipt.sale", "receipt.return", "receipt.void"))


_batch = msgspec.json.Decoder(BatchBody)


async def post_receipt(call: Call) -> Answer:
    """One receipt: its points, line by line, and what its member has now."""
    return await send(call, RECEIPTS)


async def post_batch(call: Call) -> Answer:
    """Many receipts, each with its own outcome: what is malformed is refused, and holds up none of the others."""
    gateway = call.gateway
    asked = decoded(_batch, call.body).events
    waiting = [gateway.inbox.expect() for _ in asked]
    try:
        events = [parsed(bytes(body), to, call.key) for body, to in zip(asked, waiting, strict=True)]
        lawful = [to for event, to in zip(events, waiting, strict=True) if isinstance(event, Composed)]
        kept = await submit(gateway, [event for event in events if isinstance(event, Composed)]) if lawful else "sent"
        found = await all_replies(gateway, lawful, wait_s(call) if kept == "sent" else 0)
    finally:
        for to in waiting:
            gateway.inbox.forget(to)
    outcomes = [
        Outcome("refused", "", problem=problem_of(in_batch(event, place)))
        if isinstance(event, Malformed)
        else Outcome("spooled", status_address(event))
        if kept == "spooled"
        else await outcome_of(gateway, found[to], status_address(event), with_balances=False)
        for place, (event, to) in enumerate(zip(events, waiting, strict=True))
    ]
    for outcome in outcomes:
        gateway.metrics.events.labels(outcome.outcome).inc()
    return Answer(Outcomes(outcomes))


def batch_size(body: bytes) -> int:
    """How many receipts a batch has, each of which counts as a request; 1 of what is none."""
    try:
        return len(_batch.decode(body).events)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 1


def parsed(body: bytes, to: str, key: Created | None) -> Composed | Malformed:
    """The event of one body, or what is wrong with it."""
    try:
        event = composed(body, RECEIPTS, to)
        check_event(key, event.event)
        return event
    except Malformed as malformed:
        return malformed


def in_batch(malformed: Malformed, place: int) -> Malformed:
    """The field's path, from the body of the whole batch."""
    return Malformed(malformed.code, malformed.path.replace("$", f"$.events[{place}]", 1), malformed.message)


async def all_replies(gateway: Gateway, waiting: list[str], seconds: float) -> dict[str, Reply | None]:
    """The replies to events that were sent, all within the same seconds."""
    replies = await asyncio.gather(*(gateway.inbox.reply(to, seconds) for to in waiting))
    return dict(zip(waiting, replies, strict=True))


async def get_receipt(call: Call) -> Answer:
    """What became of a receipt; of a void, with `void=true`."""
    receipt_id, source = call.path("id"), call.request.query.get("source", "")
    if not source:
        raise refusal(Malformed("invalid", "query source", "is missing: who issued the receipt, as tills/PL-0001"))
    void = call.request.query.get("void", "false")
    if void not in {"true", "false"}:
        raise refusal(Malformed("invalid", "query void", f"{void!r} is neither true nor false"))
    check_source(call.key, source)
    return await known(call, natural_key(source, receipt_id, void=void == "true"), None)


async def get_outcome(call: Call) -> Answer:
    """What became of any other event."""
    return await known(call, call.path("key"), call.request.query.get("member"))


async def known(call: Call, key: str, member: str | None) -> Answer:
    """The outcome of an event by its natural key.

    Raises:
        Refusal: 404, nothing is known of it yet.
    """
    reply = await kept(call.gateway, key, member)
    if reply is None:
        detail = "no worker has taken it: it was never sent, or is on its way"
        raise Refusal(problem(404, "not_found", detail))
    return Answer(await outcome_of(call.gateway, reply, str(call.request.rel_url)))
