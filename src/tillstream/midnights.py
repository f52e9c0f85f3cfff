"""What is due at the midnights of a history, at its place: before the events of the day (DESIGN.md §4, `clock.tick`).

In: the ticks of a history, and the snapshot's notes of what may be due when. Out: a tick for each local date on which something is.
Whether it is due hangs on the largest date of a tick alone, so that neither the place of a tick nor how many there are makes a difference.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from tillstream.kernels.fold import midnight
from tillstream.kernels.routed import Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import TickEvent

Tick = tuple[int, bytes, TickEvent]


class Midnights:
    """The midnights of one history, in their order."""

    def __init__(self, ticks: Sequence[Tick], zone: ZoneInfo) -> None:
        self.ticks = sorted(ticks, key=lambda tick: tick[2].data.date)
        self.dates = [event.data.date for _, _, event in self.ticks]
        self.zone = zone

    def day_of(self, instant: datetime) -> date:
        """The local date of an instant; where there is no tick, no date makes a difference."""
        return instant.astimezone(self.zone).date() if self.ticks else date.min

    def until(self, day: date, snapshot: Snapshot) -> Iterator[Routed]:
        """A tick for each date up to `day` on which something is due; the notes are read as those before leave them."""
        last = min(day, self.dates[-1]).isoformat() if self.dates else ""
        while noted := [text for text in snapshot.new_expiries if text < last]:
            first = min(noted)
            del snapshot.new_expiries[first]
            due = date.fromisoformat(first) + timedelta(days=1)
            if snapshot.as_of is None or due.isoformat() > snapshot.as_of:
                yield self.tick_on(due)
        if last:  # Nothing is noted any more, so the clock may move on without a look at the accounts.
            snapshot.as_of = max(snapshot.as_of or last, last)

    def rest(self, snapshot: Snapshot) -> Iterator[Routed]:
        """What is due up to the largest date, that date itself included."""
        if self.dates:
            yield from self.until(self.dates[-1], snapshot)
            yield self.tick_on(self.dates[-1])

    def tick_on(self, day: date) -> Routed:
        """The first tick on or after `day`, as if it had come at its midnight."""
        index, raw, event = self.ticks[bisect_left(self.dates, day)]
        moved = replace(event, time=midnight(day, self.zone), data=replace(event.data, date=day))
        return Routed(moved, None, index, raw)
