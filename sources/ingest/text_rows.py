"""Lines of a text file, numbered, with those apart that are no text of the encoding or too long."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, TextIO

from tillstream.sources.ingest.encodings import bad_byte, readable, text_of
from tillstream.sources.ingest.rows import RAW_CHARS_MAX, Passed, Unreadable

ROW_CHARS_MAX = 1_000_000
"""An event may not be larger, so no row that makes one is; it bounds what a file without line breaks costs."""


class TextRow(NamedTuple):
    """A line without its break."""

    number: int
    text: str


def text_rows(stream: BinaryIO, encoding: str, skip_rows: int = 0) -> Iterator[TextRow | Unreadable | Passed]:
    """The lines of a file behind the first `skip_rows`; blank ones are passed.

    Raises:
        UnicodeError: the file is not of this encoding at all.
    """
    with text_of(stream, encoding) as text:
        yield from _rows(text, encoding, skip_rows)


def _rows(text: TextIO, encoding: str, skip_rows: int) -> Iterator[TextRow | Unreadable | Passed]:
    number, blank = 0, 0
    while line := text.readline(ROW_CHARS_MAX + 1):
        number += 1
        if number <= skip_rows or (not line.strip() and len(line) <= ROW_CHARS_MAX):
            blank += 1
            continue
        if blank:
            yield Passed(blank)
            blank = 0
        if len(line) > ROW_CHARS_MAX and not line.endswith("\n"):
            fix = "is the file of this format? rows end with a line break"
            yield Unreadable(number, readable(line[:RAW_CHARS_MAX]), f"the row has more than {ROW_CHARS_MAX} characters", fix)
            while (line := text.readline(ROW_CHARS_MAX)) and not line.endswith("\n"):
                pass
            continue
        line = line.removesuffix("\n")
        wrong = bad_byte(line)
        if wrong is not None:
            yield Unreadable(number, readable(line), f"{wrong} is no text in {encoding}", "correct the row, or `encoding` in the mapping")
        else:
            yield TextRow(number, line)
    if blank:
        yield Passed(blank)
