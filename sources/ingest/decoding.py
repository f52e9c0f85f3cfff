"""One file's bytes as outcomes: events, rejects with reasons, rows passed over. Whatever the bytes are, nothing else comes out.

Every row is in exactly one outcome: rows read = rows in events + rejected + passed. The same bytes and mapping give the same outcomes in
the same order, which is what a checkpoint counts.
"""

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import BinaryIO, NamedTuple

from tillstream.sources.ingest.archives import Damaged
from tillstream.sources.ingest.csv_rows import csv_rows
from tillstream.sources.ingest.fixed_rows import fixed_rows
from tillstream.sources.ingest.grouping import Bundle, bundles
from tillstream.sources.ingest.json_records import json_records
from tillstream.sources.ingest.mapping import Mapping
from tillstream.sources.ingest.receipts import Event, Maker, Problem
from tillstream.sources.ingest.rows import RAW_CHARS_MAX, Passed, Row, Stop, Unreadable
from tillstream.sources.ingest.xml_records import xml_records

REVISION = 1
"""Raised when the same file gives other outcomes than before: checkpoints count them, and those of another revision do not hold."""

KEYS_MAX = 2_000_000
"""Keys of one file at most, two for each receipt of rows: they are kept to see one that comes back, 100 bytes each."""


class Reject(NamedTuple):
    """A row that is not taken: where, which field, what is wrong, the fix, the row itself; `rest`: nothing behind it was read."""

    row: int
    field: str
    origin: str
    message: str
    fix: str
    raw: str
    rest: bool = False


class Outcome(NamedTuple):
    """What came of some rows: one of the three."""

    events: list[Event]
    rejects: list[Reject]
    rows: int
    passed: bool = False


READERS: dict[str, Callable[[BinaryIO, Mapping], Iterator[Row | Unreadable | Passed]]] = {
    "csv": csv_rows,
    "fixed": fixed_rows,
    "json": json_records,
    "xml": xml_records,
}


def outcomes(stream: BinaryIO, mapping: Mapping) -> Iterator[Outcome]:
    """What comes of a file; reading ends with a reject whose `rest` is set where it cannot go on."""
    (reader,) = [READERS[name] for name in READERS if getattr(mapping, name) is not None]
    decoder = Decoder(mapping)
    row = 0
    try:
        for item in bundles(reader(stream, mapping), mapping):
            yield from decoder.taken(item)
            row = item.rows[-1].number if isinstance(item, Bundle) else item.number if isinstance(item, Unreadable) else row
    except Stop as stop:
        yield stopped(row + 1, stop.message, stop.fix)
    except Damaged as damaged:
        yield stopped(row + 1, str(damaged), "send the file again")
    except UnicodeError as error:
        yield stopped(row + 1, f"not of the declared encoding: {error}", "correct `encoding` in the mapping")


def stopped(row: int, message: str, fix: str) -> Outcome:
    """The end of reading before the end of the file."""
    return Outcome([], [Reject(row, "$", "", message, fix, "", rest=True)], 1)


class Decoder:
    """Makes outcomes of receipts, and knows which there were."""

    def __init__(self, mapping: Mapping) -> None:
        self.maker = Maker(mapping)
        self.seen: dict[bytes, int] = {}

    def taken(self, item: Bundle | Unreadable | Passed) -> Iterator[Outcome]:
        """The outcome of a receipt's rows, or of one that is none."""
        if isinstance(item, Passed):
            yield Outcome([], [], item.rows, passed=True)
            return
        if isinstance(item, Unreadable):
            yield Outcome([], [Reject(item.number, "$", "", item.message, item.fix, item.raw[:RAW_CHARS_MAX], item.rest)], 1)
            return
        if len(self.seen) >= KEYS_MAX:
            raise Stop("the file has too many receipts", f"split it, at most {KEYS_MAX // 2} are taken at once")
        row = item.rows[0].number
        events, problems = self.maker.events(item.rows)
        keys = [(event["type"], event["source"], event["data"].get("receipt_id") or event["id"]) for event in events]
        before = [first for key in ([item.key] if item.key else []) + keys if (first := self.before(key, row)) is not None]
        why = f"the receipt was in row {before[0]} already" if before else item.refused
        yield Outcome([], list(rejects(item, problems, why)), len(item.rows)) if why or problems else Outcome(events, [], len(item.rows))

    def before(self, key: tuple[str, ...], row: int) -> int | None:
        """The row in which something of this key was seen before; notes this one."""
        digest = blake2b("\0".join(key).encode(), digest_size=16).digest()
        first = self.seen.setdefault(digest, row)
        return first if first != row else None


def rejects(bundle: Bundle, problems: list[Problem], why: str) -> Iterator[Reject]:
    """A reject for each row: its own first problem, or whose problem it shares."""
    own = {problem.row: problem for problem in reversed(problems)}
    culprit = problems[0].row if problems else 0
    for row in bundle.rows:
        raw = row.raw[:RAW_CHARS_MAX]
        problem = own.get(row.number)
        if why:
            yield Reject(row.number, "$", "", why, "rows of a receipt follow each other; correct them and send the receipt again", raw)
        elif problem is not None:
            more = sum(other.row == row.number for other in problems) - 1
            message = f"{problem.message} (and {more} more in this row)" if more else problem.message
            yield Reject(row.number, problem.field, problem.origin, message, problem.fix, raw)
        else:
            message = f"row {culprit} of the same receipt is rejected; a receipt is taken as a whole"
            yield Reject(row.number, "$", "", message, f"correct row {culprit}", raw)
