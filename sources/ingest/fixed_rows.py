"""Rows of a fixed-width file: fields at positions, counted in characters from 1."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from tillstream.sources.ingest.mapping import Fixed, Mapping
from tillstream.sources.ingest.rows import BadField, Passed, Row, Unreadable
from tillstream.sources.ingest.text_rows import TextRow, text_rows


class FixedRow:
    """One row. A field behind its end is empty, as editors cut off spaces; one that the end cuts in two cannot be read."""

    __slots__ = ("number", "places", "raw")

    def __init__(self, number: int, raw: str, places: dict[str, tuple[int, int]]) -> None:
        self.number = number
        self.raw = raw
        self.places = places

    def field(self, name: str) -> str:
        start, length = self.places[name]
        text = self.raw[start - 1 : start - 1 + length]
        if 0 < len(text) < length:
            at = f"{start} to {start + length - 1}"
            fix = "was the row cut off? spaces at its end count"
            raise BadField(f"the row ends at {len(self.raw)}, in the middle of {name!r} at {at}", fix)
        return text.strip()

    def parts(self, name: str) -> Sequence[Row]:
        raise BadField(f"a row holds no {name}")


def fixed_rows(stream: BinaryIO, mapping: Mapping) -> Iterator[FixedRow | Unreadable | Passed]:
    """The rows of a fixed-width file.

    Raises:
        UnicodeError: the file is not of this encoding at all.
    """
    form = mapping.fixed or Fixed()
    places = {name: (place[0], place[1]) for name, place in mapping.fields.items() if isinstance(place, list)}
    for item in text_rows(stream, form.encoding, form.skip_rows):
        yield FixedRow(item.number, item.text, places) if isinstance(item, TextRow) else item
