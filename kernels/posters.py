"""One `Poster` per effective version of the programs, and each event to the one of its local date.

In: batches as `Poster.post` takes them. Out: the same outcomes, in the same order. Returns and voids of any date undo what the sale's
entries say, so their program does not matter to what they take back.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import groupby

from tillstream.kernels.keys import occurred
from tillstream.kernels.posting import Poster
from tillstream.kernels.routed import Outcome, Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import NOTHING, Timetable
from tillstream.schemas.events import TickEvent
from tillstream.schemas.program_file import Versioned

POSTERS_MAX = 16
"""Compiled versions that are kept: those of a few years; a receipt older than that costs a compilation."""


class Posters:
    """Judges events by the programs of a timetable, which may be exchanged between batches."""

    def __init__(self, timetable: Timetable) -> None:
        self.timetable = timetable
        self.posters: dict[str, Poster] = {}

    def exchange(self, timetable: Timetable) -> None:
        """Judges by another timetable from the next batch on. What is compiled stays, but for the one name that tells no content."""
        self.timetable = timetable
        self.posters.pop(NOTHING, None)

    def post(self, batch: Sequence[Routed], snapshot: Snapshot) -> list[Outcome]:
        """The outcomes in order; the snapshot has everything applied on return."""
        return [outcome for effective, events in self.split(batch) for outcome in self.poster_of(effective).post(events, snapshot)]

    def split(self, batch: Sequence[Routed]) -> Iterator[tuple[Versioned, Sequence[Routed]]]:
        """The batch in runs that one effective version judges."""
        constant = self.timetable.constant
        if constant is not None:
            yield constant, batch
            return
        for _, run in groupby(batch, key=lambda routed: self.timetable.effective(self.day_of(routed)).version):
            events = list(run)
            yield self.timetable.effective(self.day_of(events[0])), events

    def day_of(self, routed: Routed) -> date:
        """The local date of an event; of a tick, the date that it brings."""
        event = routed.event
        return event.data.date if isinstance(event, TickEvent) else occurred(event).astimezone(self.timetable.zone).date()

    def poster_of(self, effective: Versioned) -> Poster:
        """The poster of an effective version, compiled when it is first needed."""
        found = self.posters.get(effective.version)
        if found is None:
            if len(self.posters) >= POSTERS_MAX:
                self.posters.clear()
            found = self.posters[effective.version] = Poster(effective)
        return found
