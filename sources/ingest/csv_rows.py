"""Rows of a CSV file: by delimiter and quote, with or without a header.

Each line is parsed on its own, so that a quote left open costs one row and not the rest of the file; with `multiline` a quoted
field may go over several lines, up to MULTILINE_MAX.
"""

import csv
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from tillstream.schemas.mistakes import nearest
from tillstream.sources.ingest.mapping import Csv, Mapping
from tillstream.sources.ingest.rows import BadField, Passed, Row, Stop, Unreadable
from tillstream.sources.ingest.text_rows import TextRow, text_rows

MULTILINE_MAX = 100
"""Lines of one row at most: a note in a field, not a file behind an open quote."""

OPEN = "unexpected end of data"
"""What the csv module says of a quote that is not closed."""


class CsvRow:
    """One row; `places` are the fields' columns, from 0."""

    __slots__ = ("cells", "number", "places", "raw")

    def __init__(self, number: int, raw: str, cells: list[str], places: dict[str, int]) -> None:
        self.number = number
        self.raw = raw
        self.cells = cells
        self.places = places

    def field(self, name: str) -> str:
        return self.cells[self.places[name]].strip()

    def parts(self, name: str) -> Sequence[Row]:
        raise BadField(f"a row holds no {name}")


def csv_rows(stream: BinaryIO, mapping: Mapping) -> Iterator[CsvRow | Unreadable | Passed]:
    """The rows of a CSV file.

    Raises:
        Stop: the header does not have the columns of the mapping.
        UnicodeError: the file is not of this encoding at all.
    """
    form = mapping.csv or Csv()
    lines = text_rows(stream, form.encoding, form.skip_rows)
    width = form.columns or 0
    places: dict[str, int] | None = None if form.header else {name: int(place) - 1 for name, place in _numbers(mapping)}
    for item in parsed(lines, form):
        if not isinstance(item, CsvRow):
            yield item
        elif places is None:
            places, width = header_places(item.cells, mapping), len(item.cells)
            yield Passed(1)
        elif len(item.cells) != width:
            message = f"the row has {len(item.cells)} columns instead of {width}"
            yield Unreadable(item.number, item.raw, message, "a delimiter inside a field must be in quotes")
        else:
            item.places = places
            yield item


def _numbers(mapping: Mapping) -> Iterator[tuple[str, int]]:
    for name, place in mapping.fields.items():
        if isinstance(place, int):
            yield name, place


def header_places(header: list[str], mapping: Mapping) -> dict[str, int]:
    """The column of each field.

    Raises:
        Stop: a column is not there, or there twice.
    """
    names = [name.strip() for name in header]
    places = {}
    for field, place in mapping.fields.items():
        if isinstance(place, int) and place <= len(names):
            places[field] = place - 1
        elif names.count(str(place)) == 1:
            places[field] = names.index(str(place))
        else:
            fault = f"has the column {place!r} twice" if str(place) in names else f"does not have the column {place!r}"
            raise Stop(f"the header {fault}", nearest(str(place), names, f"the header has: {', '.join(names)}"))
    return places


def parsed(lines: Iterator[TextRow | Unreadable | Passed], form: Csv) -> Iterator[CsvRow | Unreadable | Passed]:
    """Lines cut into cells."""
    options: dict[str, Any] = {"delimiter": form.delimiter, "strict": True, "escapechar": form.escape or None}
    options |= {"quotechar": form.quote} if form.quote else {"quoting": csv.QUOTE_NONE}
    for item in lines:
        if isinstance(item, TextRow):
            yield from _row(item, lines if form.multiline else None, options)
        else:
            yield item


def _row(
    first: TextRow, more: Iterator[TextRow | Unreadable | Passed] | None, options: dict[str, Any]
) -> Iterator[CsvRow | Unreadable | Passed]:
    """The row that begins with a line, and takes more of them while a quote is open."""
    texts = [first.text]
    while True:
        try:
            (cells,) = csv.reader(_with_breaks(texts), **options)
        except csv.Error as error:
            following = next(more, None) if more is not None and str(error) == OPEN and len(texts) < MULTILINE_MAX else None
            if isinstance(following, TextRow):
                texts.append(following.text)
                continue
            yield Unreadable(first.number, "\n".join(texts), f"no CSV row: {error}", "a quote inside a quoted field is written twice")
            if following is not None:
                yield following
            return
        except ValueError:
            yield Unreadable(first.number, "\n".join(texts), "no CSV row: a line break inside a field", "put the field in quotes")
            return
        yield CsvRow(first.number, "\n".join(texts), cells, {})
        return


def _with_breaks(texts: list[str]) -> Iterator[str]:
    """Lines with their breaks again."""
    for text in texts[:-1]:
        yield text + "\n"
    yield texts[-1]
