"""`/v1/events`: what was done on a shop's pages, sent by browsers or its server -> the topic `clickstream`; the snippet for browsers.

No worker is waited for. Delivery: Kafka has what was `accepted`, as often as it was sent: `source` and `id` tell repeats.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from importlib import resources
from secrets import token_hex
from typing import NamedTuple

import msgspec
from msgspec import Raw

from tillstream.gateway.answers import Taken
from tillstream.gateway.bodies import Click, ClicksBody, decoded
from tillstream.gateway.origins import ORIGIN
from tillstream.gateway.problems import RETRY_AFTER_S, Refusal, problem, problem_of, refusal, unavailable
from tillstream.gateway.producer import KafkaAway, LaneFull
from tillstream.gateway.receipts import in_batch
from tillstream.gateway.routes import Answer, Call
from tillstream.kernels.identities import Seal
from tillstream.kernels.sealing import seal_event
from tillstream.schemas.clickstream import CLICK_NAMES, WEB, decode_click
from tillstream.schemas.events import Malformed, check_year, instant_text, invalid
from tillstream.sinks.writer import Record
from tillstream.streams.topics import CLICKSTREAM

CLICKS_BYTES_MAX = 262_144
"""A body: what a hundred page views need, with room for a few long lists of goods. Browsers send at most a quarter as they leave a page."""

SHOP = "web"
"""The source of what comes from no page; from a page its host follows."""

IN_CLEAR = "user_data"
"""GA4's field for addresses, phones and names as they are; what would be stored of it could be read."""

SNIPPET = resources.files(__package__).joinpath("snippet.min.js").read_bytes()

SNIPPET_HEADERS = {
    "Cache-Control": "public, max-age=3600",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}

_batch = msgspec.json.Decoder(ClicksBody)
_click = msgspec.json.Decoder(Click)
_encode = msgspec.json.Encoder().encode


class Sender(NamedTuple):
    """What holds for all events of a request: whose shop, which clock, what their `params` need not say."""

    source: str
    now: datetime
    sent_at: datetime | None
    params: Mapping[str, Raw]


async def post_clicks(call: Call) -> Answer:
    """How many events Kafka has; what is malformed is refused by itself, and holds up none of the others."""
    gateway = call.gateway
    sender, events = sender_of(call)
    records: list[Record] = []
    refused: list[Malformed] = []
    for place, raw in enumerate(events):
        try:
            records.append(record_of(bytes(raw), sender, gateway.seal))
        except Malformed as malformed:
            refused.append(in_batch(malformed, place))
    gateway.metrics.clicks.labels("refused").inc(len(refused))
    try:
        await gateway.clicks.submit(records)
    except (KafkaAway, LaneFull) as error:
        gateway.metrics.clicks.labels("unavailable").inc(len(records))
        raise away(error) from None
    gateway.metrics.clicks.labels("accepted").inc(len(records))
    return Answer(Taken(len(records), [problem_of(malformed) for malformed in refused]), 202)


async def snippet(call: Call) -> Answer:
    """The script, minified; an hour in a browser's cache."""
    return Answer(SNIPPET, headers=SNIPPET_HEADERS, content_type="text/javascript; charset=utf-8")


def away(error: KafkaAway | LaneFull) -> Refusal:
    """Why nothing of a batch may have been taken."""
    if isinstance(error, KafkaAway):
        return unavailable("Kafka")
    detail = "more page views are on their way than Kafka takes; send the same again"
    return Refusal(problem(503, "unavailable", detail), {"Retry-After": str(RETRY_AFTER_S)})


def sender_of(call: Call) -> tuple[Sender, list[Raw]]:
    """Who sends this batch, and its events.

    Raises:
        Refusal: it is no batch at all.
    """
    batch, now = decoded(_batch, call.body), datetime.now(UTC)
    try:
        check_year("$.sent_at", batch.sent_at or now)
    except Malformed as malformed:
        raise refusal(malformed) from None
    _, _, host = call.request.headers.get(ORIGIN, "").partition("://")
    shared = {name: getattr(batch, name) for name in ("visitor_id", "session_id", "member")}
    params = {name: Raw(_encode(value)) for name, value in shared.items() if value is not None}
    return Sender(f"{SHOP}/{host}" if host else SHOP, now, batch.sent_at, params), batch.events


def record_of(raw: bytes, sender: Sender, seal: Seal) -> Record:
    """The record of one event, sealed.

    Raises:
        Malformed: it is none; names the field by its path in `raw`.
    """
    click = click_in(raw)
    if click.name not in CLICK_NAMES:
        raise Malformed("invalid", "$.name", f"{click.name[:80]!r} is none of {', '.join(CLICK_NAMES)}")
    if IN_CLEAR in click.params:
        raise Malformed("invalid", f"$.params.{IN_CLEAR}", "would be stored as it is; say in `member` who it is, whose value is hashed")
    if click.time is not None:
        check_year("$.time", click.time)
    whole = {
        "specversion": "1.0",
        "id": click.id or token_hex(16),
        "source": sender.source,
        "type": WEB + click.name,
        "time": instant_text(moment(click.time, sender.sent_at, sender.now)),
        "data": {**sender.params, **without_nulls(click.params.items())},
    }
    event_bytes = _encode(whole)
    try:
        event, sealed = seal_event(decode_click(event_bytes), event_bytes, seal)
    except Malformed as malformed:
        raise Malformed(malformed.code, malformed.path.replace("$.data", "$.params", 1), malformed.message) from None
    return Record(CLICKSTREAM, event.data.visitor_id.encode(), sealed)


def click_in(raw: bytes) -> Click:
    """One event of a batch, typed; raises Malformed."""
    try:
        return _click.decode(raw)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed("not_json", "$", str(error)) from None


def without_nulls(params: Iterable[tuple[str, Raw]]) -> dict[str, Raw]:
    """Fields that say nothing count as left out: a page may not know its member, or have no referrer."""
    return {name: value for name, value in params if bytes(value) != b"null"}


def moment(time: datetime | None, sent_at: datetime | None, now: datetime) -> datetime:
    """When something happened by our clock: `now` is when it arrived, `time` and `sent_at` are by the caller's. Never in the future.

    >>> clock = datetime(2026, 3, 7, 12, 0, 30, tzinfo=UTC)
    >>> moment(datetime(2020, 1, 1, 0, 0, 5, tzinfo=UTC), datetime(2020, 1, 1, 0, 0, 7, tzinfo=UTC), clock).second
    28
    """
    if time is None:
        return now
    return min(time, now) if sent_at is None else now - max(sent_at - time, timedelta())
