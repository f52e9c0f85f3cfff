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
    same records in the same order, they all pass over the same ones. Records that agree only together, such as new terms of a unit that
    two programs share, hold as soon as the last of them is there.
    """

    def __init__(self, records: Iterable[tuple[str, bytes | None]] = ()) -> None:
        self.items: dict[str, Shelved] = {}
        for key, value in records:
            self.put(key, value)

    def put(self, key: str, value: bytes | None) -> None:
        """Takes the next record of the topic."""
        self.items.pop(key, None)
        if value is not None:
            self.items[key] = read(key, value)

    def shelved(self) -> list[Shelved]:
        """Every record that counts, in the order of publishing, compared with those before it."""
        found = dict(self.items)
        held: list[Shelved] = []
        waiting: list[Shelved] = []
        for item in self.items.values():
            if item.versioned is None:
                continue
            problem = disagreement([*held, item])
            together = [waiting[first:] for first in range(len(waiting))] if problem else []
            company = next((others for others in together if not disagreement([*held, *others, item])), None)
            if not problem or company is not None:
                held += [*(company or []), item]
                waiting = [other for other in waiting if other not in held]
            else:
                waiting.append(item)
                found[item.key] = item._replace(problem=problem)
        return [item if item in held else found[item.key] for item in self.items.values()]

    def timetable(self) -> Timetable | None:
        """What holds; None where nothing does."""
        held = versions_of([item for item in self.shelved() if not item.problem])
        return Timetable(held) if held else None


def versions_of(items: Iterable[Shelved]) -> list[Versioned]:
    return [item.versioned for item in items if item.versioned is not None]


def disagreement(items: Iterable[Shelved]) -> str:
    """What the programs do not agree on; '' where nothing."""
    try:
        Timetable(versions_of(items))
    except InvalidProgram as invalid:
        return str(invalid)
    return ""


def read(key: str, value: bytes) -> Shelved:
    """One record, read by itself."""
    try:
        data = decode_published(value)
    except (msgspec.DecodeError, RecursionError) as error:
        return Shelved(key, None, None, str(error))
    try:
        versioned = parse_program(data.text)
    except InvalidProgram as invalid:
        return Shelved(key, data, None, str(invalid))
    if (versioned.program.program.id, versioned.version) != (data.program_id, data.version):
        return Shelved(key, data, None, f"its text is version {versioned.version} of {versioned.program.program.id!r}")
    return Shelved(key, data, versioned)
