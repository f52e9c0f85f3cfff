"""What falls due by itself: once a `clock.tick` has passed a last day, points that were set aside are released, and lots expire.

Expiry is corrected where a late event shows better; so is clamping, which depends on it: `written_off`.
"""

from collections.abc import Iterable, Iterator
from datetime import date
from hashlib import blake2b

from tillstream.kernels.holdings import NEVER, Units, copied, expiry_order
from tillstream.kernels.kin import ALONE, Kin, group_balance, group_due
from tillstream.kernels.set_aside import releases
from tillstream.kernels.snapshot import Snapshot, move
from tillstream.schemas.events import TickEvent
from tillstream.schemas.ledger import Entries, Posting
from tillstream.schemas.programs import Program


def expiries(units: Units, as_of: str | None, kin: Kin = ALONE) -> Iterator[Entries]:
    """What is due per unit and lot as of the latest tick; positive points give back what a late event shows was not there to expire."""
    for unit in sorted(units):
        for expiry, points in group_due(unit, units, kin, as_of).items():
            yield Entries(kind="expiry", unit=unit, points=[-points], expires_on=expiry)


def due(units: Units, as_of: str | None, kin: Kin = ALONE) -> list[Entries]:
    """Releases, then expiry, also of what is released, on this account and its kin; the units themselves stay as they are."""
    kin = Kin([ripened(other, as_of) for other in kin.before], [ripened(other, as_of) for other in kin.behind])
    return [*releases(units, as_of), *expiries(ripened(units, as_of), as_of, kin)]


def ripened(units: Units, as_of: str | None) -> Units:
    """Holdings once what is set aside and due has gone back; the units themselves stay as they are."""
    released = list(releases(units, as_of))
    return moved(units, released) if released else units


def moved(units: Units, entries: Iterable[Entries]) -> Units:
    """Holdings after `entries`; the units themselves stay as they are."""
    after = copied(units)
    for group in entries:
        move(after, group)
    return after


def due_after(units: Units, entries: list[Entries], as_of: str | None, kin: Kin = ALONE) -> list[Entries]:
    """What is due after `entries`; the units themselves stay as they are.

    Nothing unless they touch a date before the latest tick: lots that expire before all dates of a debit or credit stay as they were.
    """
    if as_of is None or not touch_before(entries, as_of):
        return []
    return due(moved(units, entries), as_of, kin)


def touch_before(entries: Iterable[Entries], as_of: str) -> bool:
    """Whether entries move points of a date that the tick `as_of` has passed."""
    return any(
        day is not None and day < as_of
        for group in entries
        if group.kind != "expiry"
        for day in (group.expires_on, group.spent_on, group.until)
    )


def written_off(program: Program, units: Units, entries: list[Entries], as_of: str | None, kin: Kin = ALONE) -> list[Entries]:
    """What a unit that clamps gives back of `entries`' reversals, so that they do not lead into debt, or deeper.

    It is the group that may be in debt. The points go back to the lots that they were taken from, the one that expires last first: it can
    pay whatever another could.
    """
    taken: dict[str, dict[str, int]] = {}
    for group in entries:
        if group.kind == "reversal" and group.spent_on is None and clamps(program, group.unit):
            lots = taken.setdefault(group.unit, {})
            lots[group.expires_on or NEVER] = lots.get(group.expires_on or NEVER, 0) - sum(group.points)
    given: list[Entries] = []
    for unit in sorted(taken):
        floor = min(0, group_balance(unit, kin.around(units), as_of))
        for expiry in sorted(taken[unit], key=expiry_order, reverse=True):
            missing = floor - balance_after(units, [*entries, *given], as_of, unit, kin)
            if missing > 0:
                points = min(missing, taken[unit][expiry])
                given.append(Entries(kind="adjustment", unit=unit, points=[points], expires_on=expiry or None))
    return given


def clamps(program: Program, unit: str) -> bool:
    return unit in program.units and program.units[unit].negative_balance == "clamp"


def balance_after(units: Units, entries: list[Entries], as_of: str | None, unit: str, kin: Kin = ALONE) -> int:
    """A unit's balance over the group once `entries`, and what they make due, are posted."""
    return group_balance(unit, kin.around(ripened(moved(units, entries), as_of)), as_of)


def others_due(snapshot: Snapshot) -> set[str]:
    """The accounts of the snapshot's groups on which something is due still: the next tick of their partitions is to look at them."""
    return {
        name
        for group in {group[0]: group for group in snapshot.groups.values()}.values()
        if len([name for name in group if snapshot.held(name)]) > 1
        for name in group
        if due(snapshot.held(name), snapshot.as_of, snapshot.kin(name))
    }


def tick_posting(event: TickEvent, offset: int, account_id: str | None, due: list[Entries]) -> Posting:
    """One account's expiry at a tick, or, for no account, the record that the whole partition has seen it.

    Its id is made of the tick, its place, the account and what is due: judged again after a crash it is the same, and the next tick of the
    date, which may find more due in a group, has another.
    """
    day: date = event.data.date
    said = "".join(f"\0{offset}\0{group.kind} {group.unit} {group.expires_on} {group.hold_id} {group.points}" for group in due)
    return Posting(
        posting_id=blake2b(f"tick\0{day}\0{account_id or ''}{said}".encode(), digest_size=16).hexdigest(),
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
