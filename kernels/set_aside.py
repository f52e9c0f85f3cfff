"""Points that are set aside: accruals in their holding period, and holds. What is due of them as of a tick goes back to its lots.

In: entries that set aside or release, as `Snapshot.apply` moves them. Out: the sums `pending` and `held`, and the releases that are due.

    pending[u][e]   points earned that expire on e and are pending until the end of local date u; they are not in credits[e] meanwhile
    holds[id]       an open hold: its points are in debits[day] until it ends, so that they find their old lots again when it does

A hold that came and was captured or released is forgotten. Two marks remain where something may still come: of a hold that ended by itself
(a late sale from before may yet take it), and of one that ended before it came (it is released at once when it does).
"""

from collections.abc import Iterator

from tillstream.kernels.holdings import NEVER, Hold, Holding, Units, expiry_order
from tillstream.schemas.ledger import Entries

ENDED = Hold()
"""The mark of a hold that ended before it came."""


def pending_points(holding: Holding) -> int:
    """Points earned whose holding period has not ended."""
    return sum(points for lots in holding.pending.values() for points in lots.values())


def held_points(holding: Holding) -> int:
    """Points in open holds."""
    return sum(hold.points for hold in holding.holds.values())


def note_pending(holding: Holding, entries: Entries) -> None:
    """A holding period begins, or ends for some of its points."""
    until, expiry = entries.until or "", entries.expires_on or NEVER
    lots = holding.pending.setdefault(until, {})
    lots[expiry] = lots.get(expiry, 0) - sum(entries.points)
    if not lots[expiry]:
        del lots[expiry]
    if not lots:
        del holding.pending[until]


def note_hold(holding: Holding, entries: Entries) -> None:
    """A hold begins, ends, or is named before it came."""
    hold_id = entries.hold_id or ""
    known = bool(holding.holds.get(hold_id, ENDED).day)
    if entries.kind == "hold":
        holding.holds[hold_id] = Hold(-sum(entries.points), entries.spent_on or "", entries.until or "")
    elif entries.kind == "release" and entries.until is not None:
        holding.holds[hold_id] = Hold(0, entries.spent_on or "", entries.until)
    elif known:
        del holding.holds[hold_id]
    elif entries.kind != "capture":  # Whose hold is known: it was released just before.
        holding.holds[hold_id] = ENDED


def releases(units: Units, as_of: str | None) -> Iterator[Entries]:
    """What goes back to its lots as of the latest tick: holds and holding periods that ended before its date."""
    if as_of is None:
        return
    for unit in sorted(units):
        holding = units[unit]
        for hold_id, hold in sorted(holding.holds.items()):
            if hold.points and hold.until < as_of:
                yield release_of(unit, hold_id, hold, by_itself=True)
        for until in sorted(until for until in holding.pending if until < as_of):
            for expiry, points in sorted(holding.pending[until].items(), key=lambda lot: expiry_order(lot[0])):
                yield Entries(kind="release", unit=unit, points=[points], expires_on=expiry or None, until=until)


def release_of(unit: str, hold_id: str, hold: Hold, *, by_itself: bool = False) -> Entries:
    """The entry that gives back a hold; `by_itself`: since its last day has passed."""
    points = [hold.points] if hold.points else []
    return Entries(
        kind="release", unit=unit, points=points, spent_on=hold.day, hold_id=hold_id, until=hold.until if by_itself else None
    )
