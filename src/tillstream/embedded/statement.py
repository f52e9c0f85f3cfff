"""Taking a ClickHouse statement apart, as far as its HTTP interface must: what kind is it, and where does data begin?

In: the bytes of a request: SQL, with the data of an INSERT behind it. Out: a `Statement`. Nothing is parsed beyond the
first words outside brackets, so whatever is no INSERT with data passes as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TOKEN = re.compile(
    rb"\s+|--[^\n]*|/\*.*?\*/|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[A-Za-z_]\w*|.", re.DOTALL
)
# The FORMAT clause of a SELECT; a SETTINGS clause may follow.
OUTPUT_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS\b[^']*(?:'[^']*'[^']*)*)?;?\s*$", re.IGNORECASE)
# ClickHouse skips blanks behind the name of an input format, and then one line end.
DATA_START = re.compile(rb"[ \t\f]*\r?\n?")
READS = frozenset({b"SELECT", b"WITH", b"SHOW", b"DESCRIBE", b"DESC", b"EXISTS", b"EXPLAIN", b"("})


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement: its SQL, its first two words in upper case, and, for an INSERT with FORMAT, format and data."""

    sql: bytes
    words: tuple[bytes, bytes]
    input_format: str | None = None
    data: bytes = b""

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.words[0] in READS

    def output_format(self, default: str) -> str:
        """The format its own FORMAT clause names, else the default."""
        found = OUTPUT_FORMAT.search(self.sql)
        return found[1].decode() if found else default


def split(request: bytes) -> Statement:
    """Take apart the bytes of one request: the SQL, followed by data where it is an INSERT ... FORMAT."""
    first: list[bytes] = []
    depth = 0
    for token in TOKEN.finditer(request):
        text = token[0]
        if text[:1].isspace() or text[:2] in (b"--", b"/*"):
            continue
        word = text.upper()
        if len(first) < 2:
            first.append(word)
        if first[0] != b"INSERT":
            if len(first) == 2:
                break
            continue
        depth += (text == b"(") - (text == b")")
        if depth == 0 and word == b"FORMAT":
            return _with_data(request, token.start(), token.end(), (first[0], first[1]))
        if depth == 0 and word in (b"SELECT", b"VALUES", b"WITH", b"WATCH"):
            break
    first += [b"", b""]
    return Statement(request, (first[0], first[1]))


def _with_data(request: bytes, format_start: int, format_end: int, words: tuple[bytes, bytes]) -> Statement:
    name = re.compile(rb"\s+(\w+)").match(request, format_end)
    if name is None:
        return Statement(request, words)
    if name[1].upper() == b"VALUES":
        return Statement(request, words)
    start = DATA_START.match(request, name.end())
    data = request[start.end() if start else name.end() :]
    return Statement(request[:format_start], words, name[1].decode(), data)
