"""The programs that were published, in the order of their records: what every worker makes of the topic `programs`, and makes alike.

In: records with key and value. Out: a `Timetable` of those that hold, and for each of the others why it does not.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from tillstream.kernels.timetable import Timetable
from tillstream.schemas.program_file import InvalidProgram, Versioned, parse_program
from tillstream.schemas.publishing import Published, decode_published


class Shelved(NamedTuple):
    """One record: what was published, as read; `problem` says why it does not hold, '' where it does."""

    key: str
    data: Published | None
    versioned: Versioned | None
    problem: str = ""


class Shelf:
    """Published programs by key. A record without a value takes its version back; a later record of a key replaces the earlier.

    A record that is no program, or does not agree with those before it, is passed over, not obeyed in part: since all workers see the
    same records in the same order, they all pass over the same ones.
    """

    def __init__(self, records: Iterable[tuple[str, bytes | None]] = ()) -> None:
        self.values: dict[str, bytes] = {}
        for key, value in records:
            self.put(key, value)

    def put(self, key: str, value: bytes | None) -> None:
        """Takes the next record of the topic."""
        self.values.pop(key, None)
        if value is not None:
            self.values[key] = value

    def shelved(self) -> list[Shelved]:
        """Every record that counts, in the order of publishing, read and compared with those before it."""
        held: list[Versioned] = []
        found: list[Shelved] = []
        for key, value in self.values.items():
            item = read(key, value)
            if item.versioned is not None:
                try:
                    Timetable([*held, item.versioned])
                    held.append(item.versioned)
                except InvalidProgram as invalid:
                    item = item._replace(problem=str(invalid))
            found.append(item)
        return found

    def timetable(self) -> Timetable | None:
        """What holds; None where nothing does."""
        held = [item.versioned for item in self.shelved() if item.versioned is not None and not item.problem]
        return Timetable(held) if held else None


def read(key: str, value: bytes) -> Shelved:
    """One record, read by itself."""
    try:
        data = decode_published(value)
    except msgspec.DecodeError as error:
        return Shelved(key, None, None, str(error))
    try:
        versioned = parse_program(data.text)
    except InvalidProgram as invalid:
        return Shelved(key, data, None, str(invalid))
    if (versioned.program.program.id, versioned.version) != (data.program_id, data.version):
        return Shelved(key, data, None, f"its text is version {versioned.version} of {versioned.program.program.id!r}")
    return Shelved(key, data, versioned)
