"""`GET /v1/members/{id}/statement`: a member's ledger entries with the reason of each, as JSON or CSV."""

import base64
import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec

from tillstream.gateway.answers import Line, Statement
from tillstream.gateway.history import read
from tillstream.gateway.problems import refusal
from tillstream.gateway.reasons import reason_of
from tillstream.gateway.routes import Answer, Call
from tillstream.gateway.runtime import Gateway
from tillstream.schemas.events import Malformed, instant_text
from tillstream.schemas.receipts import Identity
from tillstream.sinks.state import keys
from tillstream.sinks.statement import NEWEST, Place, Row
from tillstream.streams.groups import partition_of

PAGE, PAGE_MAX = 50, 1_000

HISTORY_S = 10.0
"""A page of a large history takes a second; who asks is no till."""

CSV = "text/csv"

COLUMNS = Line.__struct_fields__


async def statement(call: Call) -> Answer:
    """One page; the header Link and the field `next` lead to the following one."""
    gateway = call.gateway
    limit, after = limit_of(call), place_in(call.request.query.get("cursor", ""))
    standing = await gateway.standings.of_identity(Identity("member", call.path("id")), datetime.now(UTC))
    accounts = sorted({standing.account, *standing.group})
    complete = await is_complete(gateway, accounts)
    rows = await read(HISTORY_S, lambda: gateway.history.page(accounts, after, limit + 1))
    following = cursor(rows[limit - 1].place) if len(rows) > limit else None
    currency = gateway.standings.program_on(gateway.standings.today()).program.currency
    lines = [line_of(row, currency) for row in rows[:limit]]
    headers = {}
    if following is not None:
        query = urlencode({"limit": limit, "cursor": following})
        headers = {"Link": f'<{call.request.rel_url.with_query(None)}?{query}>; rel="next"'}
    if wants_csv(call.request.headers.get("Accept", "")):
        return Answer(as_csv(lines), headers=headers, content_type=f"{CSV}; charset=utf-8")
    return Answer(Statement(lines, following, complete), headers=headers)


async def is_complete(gateway: Gateway, accounts: Sequence[str]) -> bool:
    """Whether ClickHouse has the ledger of the accounts' partitions as far as Redis has."""
    pipeline = gateway.redis.pipeline(transaction=False)
    for partition in {partition_of(account, gateway.settings.partitions) for account in accounts}:
        pipeline.hmget(keys(partition)[0], "ledger", "history")
    return all(int(ledger or -1) <= int(history or -1) for ledger, history in await pipeline.execute())


def line_of(row: Row, currency: str) -> Line:
    """One entry as members see it."""
    return Line(
        entry_id=row.entry_id,
        occurred_at=instant_text(datetime.fromtimestamp(row.at_ms / 1000, UTC)),
        day=row.day,
        kind=row.kind,  # type: ignore[arg-type]
        unit=row.unit,
        points=row.points,
        source=row.source,
        receipt_id=row.receipt_id,
        line_no=row.line_no,
        rule_id=row.rule_id,
        expires_on=row.expires_on,
        reverses=row.reverses,
        reason=reason_of(row, currency),
    )


def limit_of(call: Call) -> int:
    """How many entries are wanted.

    Raises:
        Refusal: no number between 1 and `PAGE_MAX`.
    """
    given = call.request.query.get("limit", str(PAGE))
    if not (given.isascii() and given.isdigit() and len(given) <= 4 and 1 <= int(given) <= PAGE_MAX):
        raise refusal(Malformed("invalid", "query limit", f"{given[:20]!r} is no number from 1 to {PAGE_MAX}"))
    return int(given)


def cursor(place: Place) -> str:
    """A place as text that nobody is tempted to read.

    >>> place_in(cursor(Place(1772901730000, "cd67", 2)))
    Place(at_ms=1772901730000, posting_id='cd67', number=2)
    """
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(tuple(place))).decode().rstrip("=")


def place_in(text: str) -> Place:
    """The place that a cursor names; '' is the beginning.

    Raises:
        Refusal: it is none of ours.
    """
    if not text:
        return NEWEST
    try:
        raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        place = Place(*msgspec.msgpack.decode(raw, type=tuple[int, str, int]))
    except (ValueError, msgspec.MsgspecError):
        raise refusal(Malformed("invalid", "query cursor", "is none that a page before gave")) from None
    if not (abs(place.at_ms) <= NEWEST.at_ms and 0 <= place.number <= NEWEST.number):
        raise refusal(Malformed("invalid", "query cursor", "is none that a page before gave"))
    return place


def wants_csv(accept: str) -> bool:
    """Whether the caller names CSV."""
    return any(part.partition(";")[0].strip().lower() == CSV for part in accept.split(","))


def as_csv(lines: Sequence[Line]) -> bytes:
    """One row per entry under the names of the fields; nothing where a field does not apply."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    writer.writerows([harmless(getattr(line, name)) for name in COLUMNS] for line in lines)
    return out.getvalue().encode()


def harmless(value: object) -> object:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front.

    >>> harmless("=1+1"), harmless(-5), harmless("PL-1")
    ("'=1+1", -5, 'PL-1')
    """
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
