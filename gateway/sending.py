"""Events on their way to the workers, and their answers on the way back: `submit`, then wait as long as the caller wants.

Kafka has an event before its caller hears of it; a caller that does not wait long enough gets a status address instead of the outcome.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import quote, urlencode

from tillstream.gateway.answers import Outcome
from tillstream.gateway.audit import ABOUT, about
from tillstream.gateway.composing import Composed, Says, composed
from tillstream.gateway.outcomes import outcome_of
from tillstream.gateway.permits import check_event
from tillstream.gateway.problems import Refusal, refusal, unavailable
from tillstream.gateway.producer import KafkaAway
from tillstream.gateway.routes import Answer, Call
from tillstream.gateway.runtime import Gateway
from tillstream.gateway.spooling import Kept
from tillstream.kernels.facts import subject_of
from tillstream.schemas.events import Malformed, MemberEvent, ReceiptEvent, VoidEvent

WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,9})(?:$|[,;\s])")
RESPOND_ASYNC = "respond-async"

IDEMPOTENCY_KEY = "Idempotency-Key"
KEY_MAX = 256

STATUS_OF_OUTCOME = {"accepted": 200, "duplicate": 200, "waiting": 202, "pending": 202, "spooled": 202}


async def send(call: Call, says: Says) -> Answer:
    """Sends the event that the body says, and gives its outcome."""
    gateway = call.gateway
    says = says._replace(idempotency_key=idempotency_key(call))
    to = gateway.inbox.expect()
    try:
        event = composed(call.body, says, to)
        call.request[ABOUT] = about(event.event, gateway.seal)
        check_event(call.key, event.event)
        kept = await submit(gateway, [event])
    except Malformed as problem:
        gateway.inbox.forget(to)
        raise refusal(problem) from None
    except BaseException:
        gateway.inbox.forget(to)
        raise
    if kept == "spooled":
        gateway.inbox.forget(to)
        return answer(Outcome("spooled", status_address(event)), gateway)
    reply = await gateway.inbox.reply(to, wait_s(call))
    return answer(await outcome_of(gateway, reply, status_address(event)), gateway)


async def submit(gateway: Gateway, events: Sequence[Composed]) -> Kept:
    """Hands events on; when it returns they are kept, and it says where.

    Raises:
        Refusal: 503, nobody could take them.
    """
    try:
        kept = await gateway.spooling.submit(events)
    except KafkaAway:
        gateway.metrics.events.labels("unavailable").inc(len(events))
        raise unavailable("Kafka") from None
    gateway.metrics.events.labels("submitted" if kept == "sent" else "to_spool").inc(len(events))
    return kept


def answer(outcome: Outcome, gateway: Gateway) -> Answer:
    """The outcome as HTTP says it: what is not decided yet is 202 with its address, what was refused is a problem."""
    gateway.metrics.events.labels(outcome.outcome).inc()
    if outcome.problem is not None:
        raise Refusal(outcome.problem)
    status = STATUS_OF_OUTCOME[outcome.outcome]
    return Answer(outcome, status, {"Location": outcome.status} if status == HTTPStatus.ACCEPTED else {})


def status_address(event: Composed) -> str:
    """Where an event's outcome can be asked for: receipts by their name, all others by their natural key."""
    said = event.event
    if isinstance(said, ReceiptEvent):
        query = {"source": said.source} | ({"void": "true"} if isinstance(said, VoidEvent) else {})
        return f"/v1/receipts/{quote(said.data.receipt_id, safe='')}?{urlencode(query)}"
    member = f"?{urlencode({'member': subject_of(said)})}" if isinstance(said, MemberEvent) else ""
    return f"/v1/outcomes/{event.key}{member}"


def wait_s(call: Call) -> float:
    """How long the caller wants to wait, seconds: `Prefer: wait=<ms>`, at most `gateway_wait_ms_max`.

    As every preference, one that cannot be read counts as not given (RFC 7240).
    """
    settings = call.gateway.settings
    preferred = ", ".join(call.request.headers.getall("Prefer", []))
    if (found := WAIT.search(preferred)) is not None:
        return min(int(found[1]), settings.gateway_wait_ms_max) / 1000
    return 0 if RESPOND_ASYNC in preferred else settings.gateway_wait_ms / 1000


def idempotency_key(call: Call) -> str:
    """The caller's key, '' without.

    Raises:
        Refusal: it is too long for an event's `id`.
    """
    given: str = call.request.headers.get(IDEMPOTENCY_KEY, "")
    if len(given) > KEY_MAX:
        raise refusal(Malformed("invalid", f"header {IDEMPOTENCY_KEY}", f"{len(given)} characters, at most {KEY_MAX} are allowed"))
    return given

