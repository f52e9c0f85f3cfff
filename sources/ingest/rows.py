"""What readers of files give, whatever the format: rows whose fields are found by name, rows that cannot be read, rows that are none.

A row is a line of a CSV or fixed-width file, or a record of a JSON or XML file; it is numbered from 1.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

from tillstream.sources.ingest.mapping_rules import Condition, Where

RAW_CHARS_MAX = 10_000
"""What a reject shows of its row: more than any row of a till, and it bounds the reject file."""


class BadField(Exception):
    """A field that cannot be read, or does not say what it should: what is wrong, and the fix."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


class Row(Protocol):
    """One row or record."""

    @property
    def number(self) -> int:
        """From 1: the line of a file on which the row begins, or the record's place."""

    @property
    def raw(self) -> str:
        """The row as it stands."""

    def field(self, name: str) -> str:
        """The text of a field without spaces around it; empty where there is nothing. Raises BadField where it cannot be read."""

    def parts(self, name: str) -> Sequence["Row"]:
        """The lines or tenders that a record holds, by the name of their rule."""


class Unreadable(NamedTuple):
    """A row that is none of its format; `rest`: nothing behind it can be read either."""

    number: int
    raw: str
    message: str
    fix: str
    rest: bool = False


class Passed(NamedTuple):
    """Rows that hold no data: headers, blank lines."""

    rows: int


class Stop(Exception):
    """The file cannot be read, or not any further: what is wrong, and the fix."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


def holds(where: Where, row: Row) -> bool:
    """Whether all conditions hold on a row. Raises BadField where a field cannot be read."""
    return all(_holds(condition, row.field(name)) for name, condition in where.items())


def _holds(condition: Condition, text: str) -> bool:
    if isinstance(condition, bool):
        return bool(text) is condition
    return any(fnmatchcase(text, pattern) for pattern in condition)
