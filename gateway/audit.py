"""What changes members, keys or programs -> the topic `audit`: who, what, about whom, and what came of it.

Delivery: an action that was done or refused is told before its caller has the answer. What Kafka does not take the log has, at level error.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from tillstream.gateway.permits import RouteScope
from tillstream.gateway.producer import KafkaAway, KafkaEvents
from tillstream.gateway.security import KEY
from tillstream.kernels.facts import subject_of
from tillstream.kernels.identities import Seal
from tillstream.schemas.audit import Action, encode_action, outcome_of
from tillstream.schemas.events import Event, MemberEvent, MergedEvent, UnmergedEvent
from tillstream.schemas.keys import Created
from tillstream.schemas.receipts import Identity
from tillstream.sinks.writer import Record
from tillstream.streams.topics import AUDIT

AUDITED: frozenset[RouteScope] = frozenset({"campaigns", "members", "admin"})

UNTOLD = frozenset({401, 429})
"""Nobody that we know, and somebody beyond their share: of either there may be any number, and the log is kept for ever."""

ABOUT = "about"
"""Of a request: whom it is about, set by whoever knows."""

NO_KEYS = "anybody"
"""The name of who asks where keys are off."""

log = logging.getLogger("tillstream.audit")


def audited(events: KafkaEvents, scopes: Mapping[str, RouteScope]) -> Middleware:
    """Tells of each action; stands outside of what turns refusals into answers."""
    later: set[asyncio.Task[None]] = set()

    @web.middleware
    async def audit(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        name = request.match_info.route.name or ""
        key: Created | None = request.get(KEY)
        is_asked = KEY in request  # What a page in a browser may not ask at all has not got as far as keys.
        if is_asked and scopes.get(name) in AUDITED and response.status not in UNTOLD:
            telling = asyncio.create_task(tell(events, action_of(request, name, key, response.status)))
            if response.status < 500:
                await telling
            else:  # Nothing was changed, and Kafka may be what is away: the caller need not wait for it a second time.
                later.add(telling)
                telling.add_done_callback(later.discard)
        return response

    return audit


def action_of(request: web.Request, name: str, key: Created | None, status: int) -> Action:
    """What was done, or was not."""
    about = request.get(ABOUT) or [given for given in [request.match_info.get("id")] if given is not None]
    return Action(
        action=name,
        key_id=None if key is None else key.key_id,
        name=NO_KEYS if key is None else key.name,
        about=about,
        outcome=outcome_of(status),
        status=status,
        request_id=request["id"],
        at=datetime.now(UTC),
    )


async def tell(events: KafkaEvents, action: Action) -> None:
    """Appends the action."""
    raw = encode_action(secrets.token_hex(16), action)
    try:
        await events.submit([Record(AUDIT, (action.key_id or action.name).encode(), raw)])
    except KafkaAway as error:
        log.error("audit_lost error=%s record=%s", error, raw.decode())


def about(event: Event, seal: Seal) -> list[str]:
    """Whom an event is about: member ids as they are, of other identities the scheme and the keyed hash."""
    if isinstance(event, MergedEvent | UnmergedEvent):
        return [subject_of(event), event.data.into]
    if isinstance(event, MemberEvent):
        return [subject_of(event)]
    named = [getattr(event.data, field, None) for field in ("member", "to")]
    sealed = [seal.sealed(identity) for identity in named if isinstance(identity, Identity)]
    return [identity.value if identity.scheme == "member" else f"{identity.scheme} {identity.value}" for identity in sealed]
