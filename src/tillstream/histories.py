"""The histories that `replay` and `demo` know by name, and event files: all as iterators of events, with seeded faults."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tillstream.errors import UsageError
from tillstream.sources import complete_journey, generated
from tillstream.sources.complete_journey import DatasetMissing
from tillstream.sources.faults import Disturbed, inject

Event = dict[str, Any]

DATASETS = ("complete-journey", "generated")


class Faults(NamedTuple):
    """Shares of receipts that are delivered twice, returned, and delivered late; and the seed that chooses them."""

    duplicates: float = 0.01
    returns: float = 0.03
    late: float = 0.01
    seed: int = 1


NO_FAULTS = Faults(0.0, 0.0, 0.0)


class History(NamedTuple):
    """Enrolments to send first, receipts to send then, and the currency that they are in."""

    enrolments: Iterator[Event]
    receipts: Iterator[Event]
    currency: str


def named(name: str, receipts: int | None, faults: Faults) -> History:
    """A history by the name of its data set, or from a file of events.

    Raises:
        UsageError: no such data set or file, or the data set is not installed.
    """
    if name == "complete-journey":
        try:
            sales = primed(complete_journey.receipts(receipts))
            return History(complete_journey.enrolments(), disturbed(sales, faults, complete_journey.TIME_ZONE), complete_journey.CURRENCY)
        except DatasetMissing as missing:
            raise UsageError(str(missing)) from None
    if name == "generated":
        sales = generated.receipts(20_000 if receipts is None else receipts, faults.seed)
        return History(iter(()), disturbed(sales, faults, generated.TIME_ZONE), "PLN")
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"{name!r} is neither a file nor a data set; data sets: {', '.join(DATASETS)}")
    return History(iter(()), disturbed(islice(read_events(path), receipts), faults, None), "")


def disturbed(sales: Iterator[Event], faults: Faults, zone: str | None) -> Iterator[Event]:
    """The events with faults; the very same events where there are none to inject."""
    if faults[:3] == NO_FAULTS[:3]:
        return sales
    return inject(
        sales, faults.seed, duplicates=faults.duplicates, returns=faults.returns, late=faults.late, voids=0.0, time_zone=zone
    )


def read_events(path: Path) -> Iterator[Event]:
    """The events of a file, one a line.

    Raises:
        UsageError: a line is not JSON; the message names it.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise UsageError(f"{path}, line {number}: not JSON: {error}") from None


def primed(events: Iterator[Event]) -> Iterator[Event]:
    """The same events, the first one fetched now: a data set that is missing shows here and not in the middle of a send."""
    first = list(islice(events, 1))

    def all_of_them() -> Iterator[Event]:
        yield from first
        yield from events

    return all_of_them()


__all__ = ["DATASETS", "NO_FAULTS", "Disturbed", "Faults", "History", "named"]
