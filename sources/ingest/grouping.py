"""Rows that are one receipt, put together: consecutive ones with the same key, or all from one that begins a receipt on.

In: rows as a reader gives them. Out: `Bundle`s in the order of the file. A receipt is taken whole or not at all, so a row that cannot
be read refuses the receipts it may belong to: those before and behind it, or the one that it stands in.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tillstream.schemas.receipts import LINES_MAX
from tillstream.sources.ingest.archives import Damaged
from tillstream.sources.ingest.mapping import Group, Mapping
from tillstream.sources.ingest.rows import BadField, Passed, Row, Stop, Unreadable, holds

ROWS_MAX = 2 * LINES_MAX
"""Rows of one receipt at most: its lines, and as many of other kinds; it bounds what is in memory."""


class Bundle(NamedTuple):
    """The rows of one receipt; `refused` is why they cannot be taken, `key` what they have in common."""

    rows: list[Row]
    key: tuple[str, ...]
    refused: str = ""


class Grouper:
    """Collects the rows of the receipt that is being read."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.rows: list[Row] = []
        self.key: tuple[str, ...] = ()
        self.refused = ""
        self.tainted = ""

    def add(self, row: Row) -> Iterator[Bundle]:
        """Takes a row; gives the receipt before it, where it begins another. Raises BadField where the row's key cannot be read."""
        if self.group.by:
            key = tuple(row.field(name) for name in self.group.by)
            if not all(key):
                raise BadField(f"{self.group.by[key.index('')]} is empty, by which rows are grouped", "correct the row, or skip such rows")
            begins = key != self.key
        else:
            key, begins = (), holds(self.group.starts, row)
        if begins or not self.rows:
            yield from self.flush()
            self.key, self.refused, self.tainted = key, self.tainted, ""
            if not begins:
                self.refused = "no row before it begins a receipt"
        if len(self.rows) == ROWS_MAX:
            full = f"the receipt has more than {ROWS_MAX} rows"
            yield Bundle(self.rows, self.key, full)
            self.rows, self.refused = [], full
        self.rows.append(row)

    def taint(self, number: int) -> None:
        """Notes that a row could not be read, which may belong to the receipt before it or behind it."""
        why = f"row {number}, which may belong to this receipt, cannot be taken"
        self.refused = self.refused or why
        if self.group.by:
            self.tainted = why

    def break_off(self) -> None:
        """Notes that the file cannot be read any further: rows of the receipt may be missing."""
        self.refused = self.refused or "the file cannot be read behind this row, so its receipt may not be whole"

    def flush(self) -> Iterator[Bundle]:
        """The receipt that is complete."""
        if self.rows:
            yield Bundle(self.rows, self.key, self.refused)
        self.rows = []


def bundles(rows: Iterable[Row | Unreadable | Passed], mapping: Mapping) -> Iterator[Bundle | Unreadable | Passed]:
    """The receipts of a file. What `rows` raises where the file breaks off is raised behind the last of them."""
    grouper = Grouper(mapping.group) if mapping.group is not None else None
    try:
        yield from _bundles(rows, mapping, grouper)
    except (Stop, Damaged, UnicodeError):
        if grouper is not None:
            grouper.break_off()
            yield from grouper.flush()
        raise
    if grouper is not None:
        yield from grouper.flush()


def _bundles(
    rows: Iterable[Row | Unreadable | Passed], mapping: Mapping, grouper: Grouper | None
) -> Iterator[Bundle | Unreadable | Passed]:
    """All receipts but the last."""
    for row in rows:
        if isinstance(row, Passed):
            yield row
            continue
        try:
            if isinstance(row, Unreadable):
                raise BadField(row.message, row.fix)
            if any(holds(where, row) for where in mapping.skip):
                yield Passed(1)
            elif grouper is None:
                yield Bundle([row], ())
            else:
                yield from grouper.add(row)
        except BadField as bad:
            if grouper is not None:
                grouper.taint(row.number)
            yield row if isinstance(row, Unreadable) else Unreadable(row.number, row.raw, bad.message, bad.fix)
