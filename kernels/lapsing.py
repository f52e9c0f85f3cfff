"""What falls due by itself: once a `clock.tick` has passed a last day, points that were set aside are released, and lots expire.

Expiry is corrected where a late event shows better; so is clamping, which depends on it: `written_off`.
"""

from collections.abc import Iterator
from datetime import date
from hashlib import blake2b

from tillstream.kernels.holdings import NEVER, Units, copied, expiry_due, expiry_order
from tillstream.kernels.set_aside import releases
from tillstream.kernels.snapshot import move
from tillstream.schemas.events import TickEvent
from tillstream.schemas.ledger import Entries, Posting
from tillstream.schemas.programs import Program


def expiries(units: Units, as_of: str | None) -> Iterator[Entries]:
    """What is due per unit and lot as of the latest tick; positive points give back what a late event shows was not there to expire."""
    for unit in sorted(units):
        for expiry, points in expiry_due(units[unit], as_of).items():
            yield Entries(kind="expiry", unit=unit, points=[-points], expires_on=expiry)


def due(units: Units, as_of: str | None) -> list[Entries]:
    """Releases, then expiry, also of what is released; the units themselves stay as they are."""
    released = list(releases(units, as_of))
    if released:
        units = copied(units)
        for group in released:
            move(units, group)
    return [*released, *expiries(units, as_of)]


def due_after(units: Units, entries: list[Entries], as_of: str | None) -> list[Entries]:
    """What would be due after `entries`; the units themselves stay as they are."""
    if as_of is None or not entries:
        return []
    after = copied(units)
    for group in entries:
        move(after, group)
    return due(after, as_of)


def written_off(program: Program, units: Units, entries: list[Entries], as_of: str | None) -> list[Entries]:
    """What a unit that clamps gives back of `entries`' reversals, so that they do not lead into debt, or deeper.

    The points go back to the lots that they were taken from, the one that expires last first: it can pay whatever another could.
    """
    taken: dict[str, dict[str, int]] = {}
    for group in entries:
        if group.kind == "reversal" and group.spent_on is None and clamps(program, group.unit):
            lots = taken.setdefault(group.unit, {})
            lots[group.expires_on or NEVER] = lots.get(group.expires_on or NEVER, 0) - sum(group.points)
    given: list[Entries] = []
    for unit in sorted(taken):
        floor = min(0, units[unit].balance) if unit in units else 0
        for expiry in sorted(taken[unit], key=expiry_order, reverse=True):
            missing = floor - balance_after(units, [*entries, *given], as_of, unit)
            if missing > 0:
                points = min(missing, taken[unit][expiry])
                given.append(Entries(kind="adjustment", unit=unit, points=[points], expires_on=expiry or None))
    return given


def clamps(program: Program, unit: str) -> bool:
    return unit in program.units and program.units[unit].negative_balance == "clamp"


def balance_after(units: Units, entries: list[Entries], as_of: str | None, unit: str) -> int:
    """A unit's balance once `entries`, and what they make due, are posted."""
    after = copied(units)
    for group in [*entries, *due_after(units, entries, as_of)]:
        move(after, group)
    return after[unit].balance


def tick_posting(event: TickEvent, offset: int, account_id: str | None, due: list[Entries]) -> Posting:
    """One account's expiry at a tick, or, for no account, the record that the whole partition has seen it.

    Its id is the tick's date and the account's, so that a repeated tick repeats nothing.
    """
    day: date = event.data.date
    return Posting(
        posting_id=blake2b(f"tick\0{day}\0{account_id or ''}".encode(), digest_size=16).hexdigest(),
        kind="tick",
        account_id=account_id,
        source=event.source,
        event_id=event.id,
        receipt_id=None,
        digest="",
        offset=offset,
        occurred_at=event.time.isoformat(),
        day=day.isoformat(),
        program_version=None,
        line_no=[],
        amount=[],
        quantity_milli=[],
        entries=due,
        closes=account_id is None,
    )
