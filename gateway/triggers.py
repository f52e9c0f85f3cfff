"""`/v1/triggers/...`: offers as they are triggered, as server-sent events (HTML standard, 9.2), for campaign managers and for pages.

    retry: 2000                  where the connection ends, come back after so many milliseconds
    id: 12.0.7                   with this in `Last-Event-ID`; also alone, as a heartbeat
    data: {"type": ...}          a trigger
    event: gap                   something between the id that was brought and what follows is missed

A page is told of its visitor's offers of the channel `page`, and of nobody: no member, no account, no reason.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from aiohttp import web
from confluent_kafka import KafkaException
from msgspec import Struct

from tillstream.gateway.catching_up import CatchingUp, Progress
from tillstream.gateway.feed import Entry, Full, Listener
from tillstream.gateway.marks import Mark, NoMark, mark_text, parse_mark
from tillstream.gateway.problems import RETRY_AFTER_S, Refusal, problem, unavailable
from tillstream.gateway.routes import Call
from tillstream.schemas.fields import Identifier, Instant, Label
from tillstream.schemas.offers import Triggered, Worth

PAGE = "page"
"""The channel of what a page shows."""

EVENT_STREAM = "text/event-stream"

LAST_EVENT_ID = "Last-Event-ID"

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # What nginx wants to hear before it hands on what it has.
}

RETRY = b"retry: 2000\n"

HEARTBEAT_S = 15.0
"""Proxies end connections that are quiet for a minute; a key that was revoked ends its streams within this."""

SEND_S = 10.0
"""Who takes nothing for so long is cut off."""

VISITOR_CHARS_MAX = 256

_encode = msgspec.json.Encoder().encode


class Shown(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A trigger as a page gets it."""

    decision_id: Identifier
    offer_id: Identifier
    title: Label
    worth: Worth
    expires_at: Instant
    sku: list[Label] = []
    category: list[Label] = []


class Wanted(NamedTuple):
    """Which triggers a listener gets, and how they look to it."""

    visitor: str | None
    is_one: Callable[[Triggered], bool]
    data: Callable[[Entry], bytes]


async def stream_triggers(call: Call) -> web.StreamResponse:
    """All triggers, or those of some offers and channels."""
    offers, channels = (frozenset(call.request.query.getall(name, ())) for name in ("offer", "channel"))

    def is_one(trigger: Triggered) -> bool:
        return (not offers or trigger.offer_id in offers) and (not channels or trigger.channel in channels)

    return await listened(call, Wanted(None, is_one, lambda entry: entry.raw.replace(b"\n", b" ").replace(b"\r", b" ")))


async def stream_page(call: Call) -> web.StreamResponse:
    """A visitor's offers of the channel `page`, as long as they hold."""
    visitor = call.request.query.get("visitor", "")
    if not 0 < len(visitor) <= VISITOR_CHARS_MAX:
        detail = f"say whose page it is: ?visitor=, the page's visitor_id, 1 to {VISITOR_CHARS_MAX} characters"
        raise Refusal(problem(422, "invalid", detail, "$.visitor"))

    def is_one(trigger: Triggered) -> bool:
        return trigger.channel == PAGE and trigger.visitor_id == visitor and trigger.expires_at > datetime.now(UTC)

    return await listened(call, Wanted(visitor, is_one, shown))


def shown(entry: Entry) -> bytes:
    """What a page gets of a trigger."""
    return _encode(Shown(**{name: getattr(entry.trigger, name) for name in Shown.__struct_fields__}))


async def listened(call: Call, wanted: Wanted) -> web.StreamResponse:
    """The stream, until one of both ends it.

    Raises:
        Refusal: 422, the id is none; 503, Kafka is away, or so many listen already.
    """
    feed, request = call.gateway.feed, call.request
    try:
        await feed.start()
    except KafkaException:
        raise unavailable("Kafka") from None
    after = mark_of(call)
    response = web.StreamResponse(headers=HEADERS)
    listener = Listener(wanted.visitor, lambda: cut_off(call))
    try:
        with feed.listening(listener):
            catching_up = CatchingUp(feed, after)
            call.gateway.metrics.listened.labels("gap" if catching_up.gap else "opened").inc()
            await response.prepare(request)
            async for block in blocks(call, wanted, listener, catching_up):
                if block:
                    async with asyncio.timeout(SEND_S):
                        await response.write(block)
            await response.write_eof()
    except Full as error:
        raise Refusal(problem(503, "unavailable", f"{error}; ask again later"), {"Retry-After": str(RETRY_AFTER_S)}) from None
    except (TimeoutError, KafkaException):
        cut_off(call)
    except ConnectionError:  # Whoever listened has gone.
        pass
    return response


async def blocks(call: Call, wanted: Wanted, listener: Listener, catching_up: CatchingUp) -> AsyncIterator[bytes]:
    """What is written, piece by piece: what was missed, then what comes; an id alone where nothing does."""
    feed, progress = call.gateway.feed, Progress(catching_up.start)
    yield RETRY + (b"event: gap\ndata: {}\n" if catching_up.gap else b"") + f"id: {mark_text(progress.mark)}\n\n".encode()
    async for entry in catching_up.read_back():
        yield written(entry, progress.reread(entry), wanted)
    for entry in catching_up.buffered:
        yield following(entry, progress, wanted)
    while is_welcome(call):
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                entries = [await listener.queue.get()]
        except TimeoutError:
            if listener.queue.empty():
                yield f"id: {progress.at(feed)}\n\n".encode()
            continue
        while not listener.queue.empty():
            entries.append(listener.queue.get_nowait())
        yield b"".join(following(entry, progress, wanted) for entry in entries if entry is not None)
        if entries[-1] is None:
            return


def following(entry: Entry, progress: Progress, wanted: Wanted) -> bytes:
    """An entry of the feed as the stream has it; nothing where it was had before."""
    return written(entry, progress.behind(entry), wanted) if progress.is_new(entry) else b""


def written(entry: Entry, identity: str, wanted: Wanted) -> bytes:
    """An entry as the stream has it; nothing where it is not wanted."""
    return b"id: %b\ndata: %b\n\n" % (identity.encode(), wanted.data(entry)) if wanted.is_one(entry.trigger) else b""


def mark_of(call: Call) -> Mark | None:
    """How far the listener had read: of the header, or of `after`, which a page has that was loaded since; None: it begins now."""
    text = call.request.headers.get(LAST_EVENT_ID) or call.request.query.get("after")
    if not text:
        return None
    try:
        return parse_mark(text, call.gateway.settings.partitions)
    except NoMark as error:
        detail = f"{error}; leave {LAST_EVENT_ID} out to begin with what comes now"
        raise Refusal(problem(422, "invalid", detail, f"$.{LAST_EVENT_ID}")) from None


def is_welcome(call: Call) -> bool:
    """Whether the key that the stream was opened with is still one."""
    return call.key is None or call.gateway.keyring.keys.valid(call.key.key_id, datetime.now(UTC)) is not None


def cut_off(call: Call) -> None:
    """Ends the connection at once, whatever is on its way; its listener comes back with the last id that it had."""
    call.gateway.metrics.listened.labels("cut_off").inc()
    if call.request.transport is not None:
        call.request.transport.abort()
